-- Alarm definitions: one detector on one point. At most one open alarm a definition.
local actions = require("rulesrv.actions")
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local graphs = require("core.graph")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local watchers = require("core.watchers")

local M = {}

local MAX_DEFINITIONS = 20000

local function stored(ns, id)
  return redis.call("GET", keys.definition(ns, id)) or errors.fail("NOTFOUND", "alarm definition " .. id)
end

-- The definition goes, or watches something else now: its alarm returns.
local function end_alarm(ctx, watcher)
  watchers.retire(ctx, watcher)
  if watcher.active then
    alarms.condition_ended(ctx, watcher.id, ctx.now)
  end
end

-- The same point is watched with other settings: what stands keeps standing while it still applies,
-- its deadband counts, and its on-delay is over.
local function carry(ctx, before, watcher)
  watchers.stop(ctx, before)
  local state = graphs.state_key(ctx.ns, before)
  redis.call("HDEL", state, "truth")
  redis.call("HSET", state, "leaf:1", "1|1||0")
  alarms.redefine(ctx, watcher)
end

local function replace(ctx, watcher)
  local before = ctx.graph.watchers["alarm:" .. watcher.name]
  local carried = before and before.active and watcher.enabled
    and before.document.source == watcher.document.source and before.document.detector == watcher.document.detector
  if carried then
    watcher.id = before.id
    carry(ctx, before, watcher)
  elseif before then
    end_alarm(ctx, before)
  end
  return carried
end

--- Create or change an alarm definition; it is evaluated at once.
--
-- An alarm that stands is kept while the changed definition still applies to it, and returns
-- when it does not, when source or detector are others, or when the definition is switched off.
--
-- KEYS[1]  definition
-- ARGV[1]  {id, source, detector, limit, other?, deadband?, on_delay_ms?, off_delay_ms?, latching?, ack_required?,
--          level, message?, tags?, guidance?, enabled?, ...}
-- ARGV[2]  now_ms (optional)
-- Returns  the definition, byte for byte as it came (its id is put in front where it is missing)
-- Errors   INVALID  every problem, with its field
--          LIMIT    20000 definitions are stored
-- Writes   alarmsrv:definition:{id} and its state, alarmsrv:definitions, its alarm
-- Example  FCALL alarm_define 1 hot '{"source":"comsrv:1001:T:1","detector":"Hi","limit":80,"level":"Major"}'
function M.define(ns, id, argv)
  local document, text = args.definition(id, "definition", argv[1])
  id = document.id
  local watcher, problems = compile.compile(document)
  errors.fail_all(problems)
  local ctx = call.begin(ns, argv[2])
  if redis.call("SISMEMBER", keys.definitions(ns), id) == 0 and redis.call("SCARD", keys.definitions(ns)) >= MAX_DEFINITIONS then
    errors.fail("LIMIT", "there are " .. MAX_DEFINITIONS .. " alarm definitions")
  end
  call.accept(ctx)
  local carried = replace(ctx, watcher)
  redis.call("SET", keys.definition(ns, id), text)
  redis.call("SADD", keys.definitions(ns), id)
  watchers.install(ctx, watcher)
  if carried and watcher.active and watcher.truth == nil then
    actions.mark_uncertain(ctx, watcher, true)
  end
  return call.finish(ctx, text)
end

--- An alarm definition.
--
-- KEYS[1]  definition
-- Returns  the definition as it was stored
-- Errors   NOTFOUND  no such definition
-- Example  FCALL alarm_definition_get 1 hot
function M.get(ns, id)
  return stored(ns, args.id(id, "definition"))
end

--- Alarm definitions by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL alarm_definition_list 0
function M.list(ns, _, argv)
  return pages.sorted(keys.definitions(ns), args.document(argv[1], true), function(id)
    return redis.call("GET", keys.definition(ns, id))
  end)
end

--- Delete an alarm definition; its alarm returns.
--
-- KEYS[1]  definition
-- ARGV[1]  now_ms (optional)
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such definition
-- Writes   alarmsrv:definition:{id} and its state, alarmsrv:definitions, its alarm
-- Example  FCALL alarm_definition_delete 1 hot
function M.delete(ns, id, argv)
  id = args.id(id, "definition")
  stored(ns, id)
  local ctx = call.begin(ns, argv[1])
  call.accept(ctx)
  local watcher = ctx.graph.watchers["alarm:" .. id]
  if watcher then
    end_alarm(ctx, watcher)
    graphs.drop_watcher(ctx.graph, "alarm", id)
  end
  redis.call("DEL", keys.definition(ns, id), keys.definition_state(ns, id))
  redis.call("SREM", keys.definitions(ns), id)
  graphs.changed(ctx.graph)
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

return M
