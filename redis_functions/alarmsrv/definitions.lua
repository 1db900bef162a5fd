-- Alarm definitions: one detector on one point. At most one open alarm a definition.
local actions = require("rulesrv.actions")
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local circles = require("alarmsrv.circles")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local graphs = require("core.graph")
local json = require("lib.json")
local known = require("core.known")
local keys = require("lib.keys")
local marks = require("alarmsrv.marks")
local pages = require("lib.pages")
local slots = require("core.slots")
local sources = require("core.sources")
local watchers = require("core.watchers")
local wiring = require("core.wiring")

local M = {}

local MAX_DEFINITIONS = 20000

local function stored(ns, id)
  return redis.call("GET", keys.definition(ns, id)) or errors.fail("NOTFOUND", "alarm definition " .. id)
end

-- ---------------------------------------------------------------- against the site

-- Of the limits of a point and a set a lower one may not be above a higher one.
local function order_problems(ctx, watcher)
  local document = watcher.document
  local rank = compile.RANK[document.detector]
  local problems = {}
  if not rank or not watcher.enabled then
    return problems
  end
  local leaves = slots.resolve(ctx.graph, document.source).leaves or {}
  for i = 1, #leaves do
    local other = leaves[i].watcher
    local its = other.kind == "alarm" and other.name ~= watcher.name and other.document
    local its_rank = its and its.set == document.set and compile.RANK[its.detector]
    if its_rank and ((rank < its_rank and document.limit > its.limit) or (rank > its_rank and document.limit < its.limit)) then
      problems[#problems + 1] = string.format(
        "limit %.14g of %s is %s the limit %.14g of %s in alarm definition %s; "
          .. "where both are meant, give one another set",
        document.limit, document.detector,
        rank < its_rank and "above" or "below", its.limit, its.detector, other.name
      )
    end
  end
  table.sort(problems)
  return problems
end

-- References that mean nothing yet: they are taken, and active once the point appears.
local function warnings_of(graph, watcher)
  local warnings = {}
  local function look(path, ref)
    local problem = type(ref) == "string" and known.missing(graph, ref)
    if problem and sources.state_kind(ref) then
      warnings[#warnings + 1] = known.warning(path .. " " .. ref, problem)
    elseif problem then
      warnings[#warnings + 1] = json.text(path .. " " .. ref .. " is no point yet; it counts once it appears")
    end
  end
  look("source", watcher.document.source)
  look("other", watcher.document.other)
  for i = 1, watcher.template and #watcher.template or 0 do
    local part = watcher.template[i]
    look("message:", type(part) == "table" and part.point or nil)
  end
  for i = 1, watcher.also and #watcher.also.leaves or 0 do
    look(string.gsub(watcher.also.leaves[i].path, "^conditions", "suppress_when") .. ".source", watcher.also.leaves[i].source)
  end
  for i, name in ipairs(watcher.document.suppresses or {}) do
    local problem = known.nobody(graph, name)
    if problem then
      warnings[#warnings + 1] = known.warning("suppresses[" .. (i - 1) .. "] " .. name, problem)
    end
  end
  return warnings
end

-- ---------------------------------------------------------------- coming and going

-- The definition goes, or watches something else now: its alarm returns, also where its return waited.
local function end_alarm(ctx, watcher)
  local waited = watchers.retire(ctx, watcher) > 0
  if waited or watcher.active then
    watcher.active = false
    alarms.condition_ended(ctx, watcher.id, ctx.now, alarms.seen(ctx, { origin = watcher.id }))
  end
end

-- The same point is watched with other settings: what stands keeps standing while it still applies,
-- its deadband counts, and its on-delay is over.
local function carry(ctx, before, watcher)
  watchers.stop(ctx, before)
  before.truth, before.leaves[1].on = nil, true
  wiring.keep(ctx.ns, before)
  redis.call("HSET", before.state, "leaf:1", "1|1||0")
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

-- The condition that suppresses the definition: the new one counts at once, and one that is gone suppresses no more.
local function replace_suppression(ctx, watcher)
  local before = ctx.graph.watchers["suppress:" .. watcher.name]
  if before then
    watchers.retire(ctx, before)
  end
  if watcher.also then
    watchers.install(ctx, watcher.also)
  elseif before then
    watchers.take_out(ctx, before)
  end
  if not (watcher.also and watcher.also.active) then
    marks.release(ctx, "suppressed", "alarm:" .. watcher.name, "condition", "condition", ctx.now)
  end
end

--- Create or change an alarm definition; it is evaluated at once.
--
-- An alarm that stands is kept while the changed definition still applies to it, and returns
-- when it does not, when source or detector are others, or when the definition is switched off.
--
-- KEYS[1]  definition
-- ARGV[1]  {id, source, detector, limit, level, other?, window_ms?, direction?, deadband? or deadband_percent?, on_delay_ms?,
--          off_delay_ms?, latching?, ack_required?, priority?, message?, tags?, area?, equipment?, group?, set?,
--          suppress_when?, suppresses?, realarm_ms?, max_shelve_ms?, guidance?, enabled?, ...}: docs/alarms.md
-- ARGV[2]  now_ms (optional)
-- A point that does not exist is no error: it counts once it appears (alarm_definition_warnings names it).
--
-- Returns  the definition, byte for byte as it came (its id is put in front where it is missing)
-- Errors   INVALID  every problem, with its field; a limit out of order with another of the point and set; alarms that
--                   would suppress each other, with the way round
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
  local site = order_problems(ctx, watcher)
  for _, problem in ipairs(circles.problems(ctx.graph, watcher)) do
    site[#site + 1] = problem
  end
  errors.fail_all(site)
  call.accept(ctx)
  replace_suppression(ctx, watcher)
  local carried = replace(ctx, watcher)
  redis.call("SET", keys.definition(ns, id), text)
  redis.call("SADD", keys.definitions(ns), id)
  watchers.install(ctx, watcher)
  if carried and watcher.active and watcher.truth == nil then
    actions.mark_uncertain(ctx, watcher, true, ctx.now)
    -- Kept is what the one before says.
    wiring.keep(ns, watcher)
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
  return pages.definitions(ns, keys.definitions(ns), args.document(argv[1], true), function(id)
    return redis.call("GET", keys.definition(ns, id))
  end)
end

--- What definitions name and that does not exist (yet): points, and alarms, groups and channels that they suppress.
--
-- ARGV[1]  {ids (at most 100)}
-- Returns  {id: [warning]}, of those that have any
-- Errors   INVALID  ids is no list of ids
-- Example  FCALL alarm_definition_warnings 0 '{"ids":["hot"]}'
function M.warnings(ns, _, argv)
  return watchers.warnings(ns, "alarm", argv[1], warnings_of)
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
    watchers.take_out(ctx, watcher)
  else
    -- It is stored so that it does not compile: its alarm may stand all the same.
    wiring.forget(ns, { kind = "alarm", name = id })
    wiring.forget(ns, { kind = "suppress", name = id })
    alarms.condition_ended(ctx, "alarm:" .. id, ctx.now, alarms.seen(ctx, { origin = "alarm:" .. id }))
  end
  local suppression = ctx.graph.watchers["suppress:" .. id]
  if suppression then
    watchers.retire(ctx, suppression)
    watchers.take_out(ctx, suppression)
  end
  alarms.forget(ctx, "alarm:" .. id)
  redis.call("DEL", keys.definition(ns, id))
  redis.call("SREM", keys.definitions(ns), id)
  graphs.changed(ctx.graph)
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

return M
