-- The compiled image of a namespace: points, what watches them, and their last values.
--
-- It is a cache derived from keys. It holds only while the generation token and the image number
-- it was left with are still those in the keys: every change of a definition writes a new token,
-- every accepted call a new number, so a restart, a fail-over, a FLUSHALL or a restored backup
-- is noticed at the next call.
--
-- slot     a point: { ref, owner, kind, id, value, quality, at, leaves, targets, calcs }; or what core/specials.lua
--          makes of a state, a window of time or an aggregate
--          hot is what core/engine.lua makes of its leaves for speed; nil when there are others
-- leaf     a condition on a slot (core/conditions.lua)
-- watcher  a rule or an alarm definition: { kind, name, root, leaves, truth, active, ... }
local args = require("lib.args")
local derived = require("core.derived")
local indexes = require("core.indexes")
local keys = require("lib.keys")
local alarm_compile = require("alarmsrv.compile")
local marks = require("alarmsrv.marks")
local replay = require("core.replay")
local rule_compile = require("rulesrv.compile")
local slots = require("core.slots")
local specials = require("core.specials")
local wiring = require("core.wiring")

local M = {}

local cache = {}

--- Forget what was compiled; the next call builds it again.
function M.forget()
  cache = {}
end

-- Which alarm is open of which origin, and what is shelved, suppressed, out of service.
local function load_alarms(graph)
  graph.open = {}
  local found = redis.call("HGETALL", keys.alarms_open(graph.ns))
  for i = 1, #found, 2 do
    graph.open[found[i]] = found[i + 1]
  end
  marks.load(graph)
end

--- Read every value and state again; the definitions stand.
local function reload(graph)
  local all = {}
  for _, kinds in pairs(graph.owners) do
    for _, points in pairs(kinds) do
      for _, slot in pairs(points) do
        all[#all + 1] = slot
      end
    end
  end
  slots.load_values(graph.ns, all)
  graph.fresh = {}
  load_alarms(graph)
  specials.reload(graph)
  for _, watcher in pairs(graph.watchers) do
    wiring.load(graph.ns, watcher)
    wiring.wire(watcher)
  end
end

local function each(ns, index_key, key_of, take)
  local ids = redis.call("SMEMBERS", index_key)
  table.sort(ids)
  for i = 1, #ids do
    local text = redis.call("GET", key_of(ns, ids[i]))
    if text then
      take(ids[i], text)
    end
  end
end

-- A stored definition that does not compile (edited by hand, or by an older version) watches nothing;
-- it must not stop the values.
local function put_stored(graph, compile, text, kind, of)
  local ok, watcher, problems = pcall(function()
    local document = args.document(text)
    return compile(of and document.definition or document)
  end)
  if ok and watcher and #problems == 0 then
    wiring.put(graph, of and indexes.shadow(watcher, kind, of) or watcher)
    if watcher.also then
      wiring.put(graph, watcher.also)
    end
  end
end

local function build(ns)
  local graph = { ns = ns, owners = {}, models = {}, watchers = {}, named = {}, calcs = {}, fresh = {}, members = {}, building = true,
    specials = {}, fresh_specials = {}, windows = {}, commanders = {}, shadowed = {}, suppressors = {} }
  load_alarms(graph)
  each(ns, keys.models(ns), keys.model_expansion, function(id, text)
    derived.put_model(graph, id, cjson.decode(text))
  end)
  local channels = redis.call("SMEMBERS", keys.channels(ns))
  for i = 1, #channels do
    derived.put_programs(graph, channels[i])
  end
  each(ns, keys.rules(ns), keys.rule, function(_, text)
    put_stored(graph, rule_compile.compile, text)
  end)
  each(ns, keys.definitions(ns), keys.definition, function(_, text)
    put_stored(graph, alarm_compile.compile, text)
  end)
  local function shadow_key(_, name)
    return keys.shadow(ns, string.match(name, "^([^:]+):(.*)$"))
  end
  each(ns, keys.shadows(ns), shadow_key, function(name, text)
    local kind, of = string.match(name, "^([^:]+):(.*)$")
    put_stored(graph, kind == "rule" and rule_compile.compile or alarm_compile.compile, text, kind, of)
  end)
  graph.building = nil
  specials.load_fresh(graph)
  for _, watcher in pairs(graph.watchers) do
    wiring.wire(watcher)
  end
  return graph
end

-- Many namespaces may share a server: past the bound all are compiled anew on their next call.
local MAX_GRAPHS = 64
local function bound()
  local count = 0
  for _ in pairs(cache) do
    count = count + 1
  end
  if count >= MAX_GRAPHS then
    cache = {}
  end
end

--- The compiled image of a namespace, as fresh as the keys.
function M.open(ns)
  local stored = redis.call("MGET", keys.generation(ns), keys.image(ns), keys.replay_kept(ns))
  local graph = cache[ns]
  -- Neither token nor number: nothing is defined here yet, or all of it was flushed.
  if not graph or graph.generation ~= stored[1] or not (stored[1] or stored[2]) then
    if not graph then
      bound()
    end
    graph = build(ns)
    graph.generation = stored[1]
    graph.image, graph.anew = stored[2], true
    cache[ns] = graph
  elseif graph.image ~= stored[2] then
    reload(graph)
    graph.image, graph.anew = stored[2], true
  end
  replay.opened(graph, stored[3])
  return graph
end

--- In a replay the image number is what it was, also where a changed rule took another number of them.
function M.renumber(ns, image)
  local graph = cache[ns]
  if not graph or graph.image ~= image then
    redis.call("SET", keys.image(ns), image)
    if graph then
      graph.image = image
    end
  end
end

--- Note a change of a definition that was made in `graph` too: a new token in the keys and here.
function M.changed(graph)
  local time = redis.call("TIME")
  local token = redis.sha1hex(time[1] .. "." .. time[2] .. (graph.generation or ""))
  redis.call("SET", keys.generation(graph.ns), token)
  graph.generation = token
end

return M
