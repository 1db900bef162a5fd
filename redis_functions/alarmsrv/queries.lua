-- Lists of alarms, newest first, with any filters together.
--
-- Two plans give the same order. Where a filter's index is small, the indexes are intersected with
-- the list by creation; else that list is walked and each record is looked at.
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")

local M = {}

local STATUSES = { "New", "Acknowledged", "Returned", "Resolved" }
local SMALL = 2000
local MAX_LOOKED = 10000
local CHUNK = 200
local KNOWN = {
  status = true, level = true, source = true, from_ms = true, to_ms = true, limit = true, cursor = true, open = true,
  now_ms = true,
}

-- The filters of a query: the sets an alarm must be in, and its span of creation.
local function plan_of(ns, filter)
  for name in pairs(filter) do
    if not KNOWN[name] then
      errors.fail("INVALID", tostring(name) .. " is unknown; there are status, level, source, open, from_ms, to_ms, limit, cursor")
    end
  end
  local plan = {
    sets = {}, status = filter.status and args.choice(filter.status, "status", STATUSES), open = filter.open == true,
    level = filter.level and args.choice(filter.level, "level", compile.LEVELS),
    source = args.text(filter.source, "source", 128),
    low = args.integer(filter.from_ms, "from_ms", 0, 9007199254740991, 0),
    high = args.integer(filter.to_ms, "to_ms", 0, 9007199254740991, 9007199254740991),
    limit = args.integer(filter.limit, "limit", 1, pages.MAX_LIMIT, 100),
  }
  if plan.status then
    plan.sets[#plan.sets + 1] = keys.alarms_by_status(ns, plan.status)
  end
  if plan.open then
    plan.sets[#plan.sets + 1] = keys.alarms_active(ns)
  end
  if plan.level then
    plan.sets[#plan.sets + 1] = keys.alarms_by_level(ns, plan.level)
  end
  if plan.source then
    plan.sets[#plan.sets + 1] = keys.alarms_by_source(ns, plan.source)
  end
  if filter.cursor ~= nil then
    local at, id = string.match(tostring(filter.cursor), "^(%d+):(.+)$")
    if not at then
      errors.fail("INVALID", "cursor is not one of this list")
    end
    plan.at, plan.id = tonumber(at), id
    plan.high = math.min(plan.high, plan.at)
  end
  return plan
end

-- True for what comes after the cursor: older, or as old and lower by id.
local function after_cursor(plan, at, id)
  return not plan.at or at < plan.at or (at == plan.at and id < plan.id)
end

local function finish(taken, more)
  local items = {}
  for i = 1, #taken do
    items[i] = taken[i][2]
  end
  return pages.page(items, more and #taken > 0 and taken[#taken][1] or nil)
end

local function intersect(ns, plan)
  local command, weights = { "ZINTER", #plan.sets + 1, keys.alarms(ns) }, { "WEIGHTS", 1 }
  for i = 1, #plan.sets do
    command[#command + 1] = plan.sets[i]
    weights[#weights + 1] = 0
  end
  for i = 1, #weights do
    command[#command + 1] = weights[i]
  end
  command[#command + 1] = "WITHSCORES"
  local found, taken = redis.call(unpack(command)), {}
  for i = #found - 1, 1, -2 do
    local id, at = found[i], tonumber(found[i + 1])
    if at >= plan.low and at <= plan.high and after_cursor(plan, at, id) then
      if #taken == plan.limit then
        return finish(taken, true)
      end
      local alarm = alarms.load(ns, id)
      if alarm then
        taken[#taken + 1] = { string.format("%.0f:%s", at, id), alarms.encode(alarm) }
      end
    end
  end
  return finish(taken, false)
end

local function matches(plan, alarm)
  return (not plan.status or alarm.status == plan.status) and (not plan.open or alarm.status ~= "Resolved")
    and (not plan.level or alarm.level == plan.level) and (not plan.source or alarm.source == plan.source)
end

local function walk(ns, plan)
  local taken, offset, last = {}, 0, nil
  local low, high = string.format("%.0f", plan.low), string.format("%.0f", plan.high)
  while offset < MAX_LOOKED do
    local found = redis.call("ZREVRANGEBYSCORE", keys.alarms(ns), high, low, "WITHSCORES", "LIMIT", offset, CHUNK)
    for i = 1, #found, 2 do
      local id, at = found[i], tonumber(found[i + 1])
      if after_cursor(plan, at, id) then
        local alarm = alarms.load(ns, id)
        if alarm and matches(plan, alarm) then
          if #taken == plan.limit then
            return finish(taken, true)
          end
          taken[#taken + 1] = { string.format("%.0f:%s", at, id), alarms.encode(alarm) }
        end
        last = string.format("%.0f:%s", at, id)
      end
    end
    if #found < 2 * CHUNK then
      return finish(taken, false)
    end
    offset = offset + CHUNK
  end
  -- The bound of a call: what was looked at is behind the cursor, whether it matched or not.
  local items = {}
  for i = 1, #taken do
    items[i] = taken[i][2]
  end
  return pages.page(items, last)
end

local function query(ns, filter)
  local plan = plan_of(ns, filter)
  for i = 1, #plan.sets do
    if redis.call("SCARD", plan.sets[i]) <= SMALL then
      return intersect(ns, plan)
    end
  end
  return walk(ns, plan)
end

--- An alarm.
--
-- KEYS[1]  alarm
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
-- Example  FCALL get_alarm 1 door
function M.get(ns, id)
  return alarms.encode(alarms.load_or_fail(ns, args.id(id, "alarm")))
end

--- Alarms that are not Resolved, newest first; shelved and suppressed ones too.
--
-- ARGV[1]  {level?, source?, limit?, cursor?}
-- Returns  {items, cursor}
-- Errors   INVALID  a filter is wrong
-- Example  FCALL get_active_alarms 0 '{"level":"Critical"}'
function M.active(ns, _, argv)
  local filter = args.document(argv[1], true)
  filter.open = true
  return query(ns, filter)
end

--- Alarms, newest first; all filters given must hold.
--
-- ARGV[1]  {status?, open?: true (not Resolved), level?, source?, from_ms?, to_ms? (of creation), limit?, cursor?}
-- Returns  {items, cursor}; a page may hold fewer than limit while the cursor says that there is more
-- Errors   INVALID  a filter is wrong
-- Example  FCALL query_alarms 0 '{"status":"New","level":"Major"}'
function M.query(ns, _, argv)
  return query(ns, args.document(argv[1], true))
end

--- How many alarms there are.
--
-- Returns  {total, active, by_status: {New, Acknowledged, Returned, Resolved}, by_level: {level: active ones}, definitions}
-- Example  FCALL get_alarm_stats 0
function M.stats(ns)
  local statuses, levels = {}, {}
  for i = 1, #STATUSES do
    statuses[2 * i - 1] = STATUSES[i]
    statuses[2 * i] = redis.call("SCARD", keys.alarms_by_status(ns, STATUSES[i]))
  end
  for i = 1, #compile.LEVELS do
    levels[2 * i - 1] = compile.LEVELS[i]
    levels[2 * i] = redis.call("SINTERCARD", 2, keys.alarms_active(ns), keys.alarms_by_level(ns, compile.LEVELS[i]))
  end
  return json.object({
    "total", redis.call("ZCARD", keys.alarms(ns)), "active", redis.call("SCARD", keys.alarms_active(ns)),
    "by_status", json.object(statuses), "by_level", json.object(levels),
    "definitions", redis.call("SCARD", keys.definitions(ns)),
  })
end

return M
