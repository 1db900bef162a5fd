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
local keys = require("lib.keys")
local alarm_compile = require("alarmsrv.compile")
local indexes = require("core.indexes")
local marks = require("alarmsrv.marks")
local measures = require("core.measures")
local replay = require("core.replay")
local rule_compile = require("rulesrv.compile")
local slots = require("core.slots")
local specials = require("core.specials")

local M = {}

local cache = {}

--- Forget what was compiled; the next call builds it again.
function M.forget()
  cache = {}
end

M.slot = slots.slot
M.resolve = slots.resolve

local function state_key(ns, watcher)
  if watcher.kind == "rule" then
    return keys.rule_state(ns, watcher.name)
  elseif watcher.kind == "suppress" then
    return keys.suppression_state(ns, watcher.name)
  elseif watcher.kind == "shadow" then
    return keys.shadow_state(ns, watcher.of_kind, watcher.of)
  end
  return keys.definition_state(ns, watcher.name)
end
M.state_key = state_key

local TRUTH = { ["1"] = true, ["0"] = false }

--- A watcher's truth changed: what its points keep of it for speed is made again.
function M.cool(watcher)
  for i = 1, #watcher.leaves do
    slots.cool(watcher.leaves[i])
  end
end

local function load_state(ns, watcher)
  local found = redis.call("HGETALL", state_key(ns, watcher))
  local state = {}
  for i = 1, #found, 2 do
    state[found[i]] = found[i + 1]
  end
  watcher.truth = TRUTH[state.truth or "?"]
  watcher.unseen = true
  M.cool(watcher)
  watcher.active = state.active == "1"
  watcher.fired_ms = tonumber(state.fired_ms)
  watcher.count = tonumber(state.count or 0)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    local on, held, since, elapsed = string.match(state["leaf:" .. i] or "", "^(%d)|(%d)|(%d*)|(%d*)$")
    leaf.on, leaf.held = on == "1", held == "1"
    leaf.since, leaf.elapsed = tonumber(since), tonumber(elapsed) or 0
    if leaf.measure then
      measures.load(leaf, state, i)
    end
  end
end

-- The points of a watcher are read: what its leaves compare with next time.
local function wire(watcher)
  if watcher.measured then
    for i = 1, #watcher.leaves do
      measures.wire(watcher.leaves[i])
    end
  end
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
    load_state(graph.ns, watcher)
    wire(watcher)
  end
end

--- Read the values of slots that were made since.
local function load_fresh(graph)
  slots.load_fresh(graph)
  specials.load_fresh(graph)
end
M.load_fresh = load_fresh

--- Find what a leaf looks at, without watching it.
function M.look_up(graph, leaf)
  leaf.slot = leaf.special and specials.slot(graph, leaf) or M.resolve(graph, leaf.source)
  if type(leaf.value) == "table" and leaf.value.source then
    leaf.other = M.resolve(graph, leaf.value.source)
  end
end

local function detach(leaf, slot)
  slot.hot = nil
  local leaves = slot.leaves or {}
  for i = #leaves, 1, -1 do
    if leaves[i] == leaf then
      table.remove(leaves, i)
    end
  end
end

local function attach(graph, leaf)
  M.look_up(graph, leaf)
  leaf.slot.leaves = leaf.slot.leaves or {}
  leaf.slot.hot = nil
  table.insert(leaf.slot.leaves, leaf)
  if leaf.special then
    specials.attached(graph, leaf)
  end
  if type(leaf.value) == "table" and leaf.value.source then
    leaf.other.leaves = leaf.other.leaves or {}
    leaf.other.hot = nil
    table.insert(leaf.other.leaves, leaf)
  end
end

-- How the hot path looks at a leaf: as a comparison (its code), or as what a good value never changes (7); nil where
-- the tree is walked.
local function way_of(leaf)
  if leaf.code then
    return type(leaf.value) == "number" and leaf.code or nil
  elseif leaf.operator == "between" then
    return slots.BETWEEN
  elseif leaf.measure == "stuck" or leaf.operator == "no_data" then
    return 7
  end
  return leaf.operator == "quality" and string.find(leaf.value, "^bad") and 7 or nil
end

--- Put a compiled watcher in, in place of the one of that kind and name.
function M.put_watcher(graph, watcher)
  M.drop_watcher(graph, watcher.kind, watcher.name)
  watcher.id = watcher.kind .. ":" .. watcher.name
  watcher.state = state_key(graph.ns, watcher)
  graph.watchers[watcher.id] = watcher
  indexes.note(graph, watcher, true)
  load_state(graph.ns, watcher)
  if not watcher.enabled then
    return
  end
  -- One leaf needs no tree walk, and the hot path knows when it says the same as before (core/engine.lua).
  local only = #watcher.leaves == 1 and watcher.leaves[1]
  watcher.only = only and (watcher.root == only or (watcher.root.kind ~= "not" and watcher.root[1] == only)) and only or nil
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    leaf.watcher = watcher
    leaf.simple = not watcher.last_good and way_of(leaf) or nil
    leaf.timer = watcher.id .. "#" .. i
    watcher.measured = watcher.measured or leaf.measure == "change"
    attach(graph, leaf)
  end
  M.load_fresh(graph)
  if not graph.building then
    wire(watcher)
  end
end

--- Take a watcher out.
function M.drop_watcher(graph, kind, name)
  local watcher = graph.watchers[kind .. ":" .. name]
  if not watcher then
    return nil
  end
  graph.watchers[watcher.id] = nil
  indexes.note(graph, watcher, nil)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if leaf.slot then
      detach(leaf, leaf.slot)
    end
    if leaf.other then
      detach(leaf, leaf.other)
    end
  end
  return watcher
end

local function add_target(graph, model, name, ref, action)
  local service, owner, kind, id = string.match(ref, "^([%w_%-]+):([%w_%-]+):([TSCA]):(%d+)$")
  local slot = M.slot(graph, service .. ":" .. owner, kind, id)
  slot.targets = slot.targets or {}
  local member = '"' .. name .. '":'
  table.insert(slot.targets, { model = model, name = name, json = member, json_next = "," .. member, action = action })
  return slot
end

--- Put a model in: its names become other names of the points they are mapped to. M.rewire follows.
-- `expansion` is { data = { name = ref }, action = { name = ref } }.
function M.put_model(graph, model, expansion)
  M.drop_model(graph, model)
  local names = {}
  graph.models[model] = names
  for name, ref in pairs(expansion.data or {}) do
    names[name] = add_target(graph, model, name, ref, false)
  end
  for name, ref in pairs(expansion.action or {}) do
    names[name] = add_target(graph, model, name, ref, true)
  end
  M.load_fresh(graph)
end

local function stored_programs(ns, ch)
  local found = redis.call("HGETALL", keys.programs(ns, ch))
  local programs = {}
  for i = 1, #found, 2 do
    programs[found[i]] = cjson.decode(found[i + 1])
  end
  return programs
end

--- Take a model's names away from their points.
function M.drop_model(graph, model)
  local names = graph.models[model]
  if not names then
    return
  end
  graph.models[model] = nil
  for _, slot in pairs(names) do
    -- Two names may mean one point: its targets may be gone by the second.
    local targets = slot.targets or {}
    for i = #targets, 1, -1 do
      if targets[i].model == model then
        table.remove(targets, i)
      end
    end
    if #targets == 0 then
      slot.targets = nil
    end
  end
end

-- The slots of a watcher that is off were only looked up for a reader.
local function rewire_watcher(graph, watcher)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if watcher.enabled then
      detach(leaf, leaf.slot)
      if leaf.other then
        detach(leaf, leaf.other)
      end
      attach(graph, leaf)
    else
      leaf.slot, leaf.other = nil, nil
    end
  end
end

local function reads_one(calc, models)
  for ref in string.gmatch(calc.refs, "%S+") do
    if models[string.match(ref, "^modsrv:([^:]+):") or ""] then
      return true
    end
  end
  return false
end

--- Point what names the points of `models` ({ [id] = true }) at what they mean now.
-- Returns the watchers concerned in the order of their ids, and the channels whose points are calculated anew.
function M.rewire(graph, models)
  local watchers, channels, seen = {}, {}, {}
  for model in pairs(models) do
    for id, watcher in pairs(graph.named[model] or {}) do
      if not seen[id] then
        seen[id] = true
        rewire_watcher(graph, watcher)
        if watcher.enabled then
          watchers[#watchers + 1] = watcher
        end
      end
    end
  end
  table.sort(watchers, function(a, b) return a.id < b.id end)
  for _, calcs in pairs(graph.calcs) do
    for _, calc in pairs(calcs) do
      if reads_one(calc, models) then
        channels[#channels + 1] = calc.ch
        break
      end
    end
  end
  for i = 1, #channels do
    M.put_programs(graph, channels[i], stored_programs(graph.ns, channels[i]))
  end
  M.load_fresh(graph)
  return watchers, channels
end

--- Put the calculated points of a channel in; `programs` is { ["T:5"] = program }.
function M.put_programs(graph, ch, programs)
  local owner = "comsrv:" .. ch
  for _, calc in pairs(graph.calcs[owner] or {}) do
    for i = 1, #calc.inputs do
      local calcs = calc.inputs[i].calcs or {}
      for j = #calcs, 1, -1 do
        if calcs[j] == calc then
          table.remove(calcs, j)
        end
      end
    end
  end
  graph.calcs[owner] = {}
  for point, program in pairs(programs) do
    local kind, id = string.match(point, "^([TS]):(%d+)$")
    local calc = { slot = M.slot(graph, owner, kind, id), program = {}, inputs = {}, ch = ch, refs = "" }
    for i = 1, #program do
      calc.program[i] = program[i]
      if program[i][1] == "ref" then
        local input = M.resolve(graph, program[i][2])
        calc.inputs[#calc.inputs + 1] = input
        calc.program[i] = { "ref", #calc.inputs }
        calc.refs = calc.refs .. " " .. program[i][2]
        input.calcs = input.calcs or {}
        table.insert(input.calcs, calc)
      end
    end
    graph.calcs[owner][point] = calc
  end
  M.load_fresh(graph)
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
    M.put_watcher(graph, of and indexes.shadow(watcher, kind, of) or watcher)
    if watcher.also then
      M.put_watcher(graph, watcher.also)
    end
  end
end

local function build(ns)
  local graph = { ns = ns, owners = {}, models = {}, watchers = {}, named = {}, calcs = {}, fresh = {}, members = {}, building = true,
    specials = {}, fresh_specials = {}, windows = {}, commanders = {}, shadowed = {} }
  load_alarms(graph)
  each(ns, keys.models(ns), keys.model_expansion, function(id, text)
    M.put_model(graph, id, cjson.decode(text))
  end)
  local channels = redis.call("SMEMBERS", keys.channels(ns))
  for i = 1, #channels do
    M.put_programs(graph, channels[i], stored_programs(ns, channels[i]))
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
  M.load_fresh(graph)
  for _, watcher in pairs(graph.watchers) do
    wire(watcher)
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
  if not graph or graph.generation ~= stored[1] then
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
