-- Lists of alarms, newest first, with any filters together.
--
-- The alarms of a status are ordered by creation, so a list is those of its statuses merged. Where an index
-- (a source, a level) holds few alarms, those are looked at instead; both give the same order.
local args = require("lib.args")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local records = require("alarmsrv.records")

local M = {}

local STATUSES = records.STATUSES
local OPEN = { "New", "Acknowledged", "Returned" }
-- An index of so many is looked at whole.
local FEW = 500
-- Bounds of a call: list entries looked at, and records read.
local MAX_LOOKED = 5000
local MAX_READ = 1000
local CHUNK = 200
local NO_LIMIT = 9007199254740991
local FLAGS = { shelved = "shelved_by", suppressed = "suppressed_by", out_of_service = "out_of_service_by" }
local TEXTS = { "area", "equipment", "group" }
local KNOWN = {
  status = true, level = true, source = true, from_ms = true, to_ms = true, limit = true, cursor = true, open = true,
  now_ms = true, shelved = true, suppressed = true, out_of_service = true, area = true, equipment = true, group = true,
}

local function check_known(filter)
  for name in pairs(filter) do
    if not KNOWN[name] then
      errors.fail("INVALID", tostring(name) .. " is unknown; there are status, level, source, open, shelved, suppressed, "
        .. "out_of_service, area, equipment, group, from_ms, to_ms, limit, cursor")
    end
  end
end

-- What a record must say beyond the indexes: { field, wanted } where true is "there" and false "not there".
local function checks_of(filter)
  local checks = {}
  for name, field in pairs(FLAGS) do
    if filter[name] ~= nil then
      if type(filter[name]) ~= "boolean" then
        errors.fail("INVALID", name .. " must be true or false")
      end
      checks[#checks + 1] = { field, filter[name] }
    end
  end
  for i = 1, #TEXTS do
    local text = args.text(filter[TEXTS[i]], TEXTS[i], 64)
    if text then
      checks[#checks + 1] = { TEXTS[i], text }
    end
  end
  return checks
end

-- The filters of a query.
local function plan_of(ns, filter)
  check_known(filter)
  local status = filter.status and args.choice(filter.status, "status", STATUSES)
  local plan = {
    statuses = status and { status } or (filter.open == true and OPEN) or STATUSES, sets = {}, checks = checks_of(filter),
    level = filter.level and args.choice(filter.level, "level", compile.LEVELS),
    source = args.text(filter.source, "source", 128),
    low = args.integer(filter.from_ms, "from_ms", 0, NO_LIMIT, 0),
    high = args.integer(filter.to_ms, "to_ms", 0, NO_LIMIT, NO_LIMIT),
    limit = args.integer(filter.limit, "limit", 1, pages.MAX_LIMIT, 100),
  }
  plan.fields = {}
  for i = 1, #plan.checks do
    plan.fields[i] = plan.checks[i][1]
  end
  if status == "Resolved" and filter.open == true then
    plan.statuses = {}
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

local function newer(a, b)
  if a.at ~= b.at then
    return a.at > b.at
  end
  return a.id > b.id
end

-- True for what comes after the cursor: older, or as old and lower by id.
local function after_cursor(plan, entry)
  return not plan.at or entry.at < plan.at or (entry.at == plan.at and entry.id < plan.id)
end

local function passes(plan, alarm)
  for i = 1, #plan.checks do
    local value, wanted = alarm[plan.checks[i][1]], plan.checks[i][2]
    if type(wanted) == "boolean" then
      if (value ~= nil) ~= wanted then
        return false
      end
    elseif value ~= wanted then
      return false
    end
  end
  return true
end

-- A look at the fields that are checked is much cheaper than the whole record.
local function may_pass(ns, plan, entry)
  if #plan.fields == 0 then
    return true
  end
  local found, alarm = redis.call("HMGET", keys.alarm(ns, entry.id), unpack(plan.fields)), {}
  for i = 1, #plan.fields do
    alarm[plan.fields[i]] = found[i] or nil
  end
  return passes(plan, alarm)
end

-- Read a record into the page. Returns true when the page is full and there is more.
local function take(ns, plan, page, entry)
  page.read = page.read + 1
  local alarm = may_pass(ns, plan, entry) and records.load(ns, entry.id)
  if alarm then
    if #page.items == plan.limit then
      return true
    end
    page.items[#page.items + 1] = records.encode(alarm)
    page.last = entry
  end
  return false
end

local function cursor_of(entry)
  return entry and string.format("%.0f:%s", entry.at, entry.id) or nil
end

-- ---------------------------------------------------------------- few alarms in an index

local function look_at_few(ns, plan, index)
  local wanted, found = {}, {}
  for i = 1, #plan.statuses do
    wanted[plan.statuses[i]] = true
  end
  local ids = redis.call("SMEMBERS", index)
  for i = 1, #ids do
    local said = redis.call("HMGET", keys.alarm(ns, ids[i]), "status", "created_at_ms", "level", "source")
    local entry = { id = ids[i], at = tonumber(said[2] or -1) }
    if wanted[said[1]] and (not plan.level or said[3] == plan.level) and (not plan.source or said[4] == plan.source)
      and entry.at >= plan.low and entry.at <= plan.high and after_cursor(plan, entry) then
      found[#found + 1] = entry
    end
  end
  table.sort(found, newer)
  local page = { items = {}, read = 0 }
  for i = 1, #found do
    if take(ns, plan, page, found[i]) then
      return pages.page(page.items, cursor_of(page.last))
    end
  end
  return pages.page(page.items, nil)
end

-- ---------------------------------------------------------------- the lists of statuses, merged

local function fill(list)
  local found = redis.call("ZREVRANGE", list.key, list.rank, list.rank + CHUNK - 1, "WITHSCORES")
  list.entries, list.position, list.rank = {}, 1, list.rank + CHUNK
  for i = 1, #found, 2 do
    list.entries[#list.entries + 1] = { id = found[i], at = tonumber(found[i + 1]) }
  end
  list.done = #list.entries < CHUNK
end

local function open_lists(ns, plan)
  local lists = {}
  for i = 1, #plan.statuses do
    local key = keys.alarms_in(ns, plan.statuses[i])
    local list = { key = key, rank = redis.call("ZCOUNT", key, "(" .. string.format("%.0f", plan.high), "+inf") }
    fill(list)
    lists[i] = list
  end
  return lists
end

-- The newest that is left of all lists, or nil.
local function next_of(lists, low)
  local best, chosen
  for i = 1, #lists do
    local list = lists[i]
    if not list.entries[list.position] and not list.done then
      fill(list)
    end
    local entry = list.entries[list.position]
    if entry and entry.at >= low and (not best or newer(entry, best)) then
      best, chosen = entry, list
    end
  end
  if chosen then
    chosen.position = chosen.position + 1
  end
  return best
end

local function next_chunk(lists, plan)
  local chunk, ids = {}, {}
  while #chunk < CHUNK do
    local entry = next_of(lists, plan.low)
    if not entry then
      break
    end
    if after_cursor(plan, entry) then
      chunk[#chunk + 1] = entry
      ids[#ids + 1] = entry.id
    end
  end
  local keep = {}
  for i = 1, #ids > 0 and #plan.sets or 0 do
    keep[i] = redis.call("SMISMEMBER", plan.sets[i], unpack(ids))
  end
  return chunk, keep
end

local function is_in_all(keep, position)
  for i = 1, #keep do
    if keep[i][position] ~= 1 then
      return false
    end
  end
  return true
end

local function walk(ns, plan)
  local lists, page, looked = open_lists(ns, plan), { items = {}, read = 0 }, 0
  while true do
    local chunk, keep = next_chunk(lists, plan)
    for i = 1, #chunk do
      if is_in_all(keep, i) and take(ns, plan, page, chunk[i]) then
        return pages.page(page.items, cursor_of(page.last))
      end
    end
    looked = looked + #chunk
    if #chunk < CHUNK then
      return pages.page(page.items, nil)
    elseif looked >= MAX_LOOKED or page.read >= MAX_READ then
      -- The bound of a call: what was looked at is behind the cursor, whether it matched or not.
      return pages.page(page.items, cursor_of(chunk[#chunk]))
    end
  end
end

local function query(ns, filter)
  local plan = plan_of(ns, filter)
  for i = 1, #plan.sets do
    if redis.call("SCARD", plan.sets[i]) <= FEW then
      return look_at_few(ns, plan, plan.sets[i])
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
  return records.encode(records.load_or_fail(ns, args.id(id, "alarm")))
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
-- ARGV[1]  {status?, open?: true (not Resolved), level?, source?, shelved?, suppressed?, out_of_service?: true or false,
--          area?, equipment?, group?, from_ms?, to_ms? (of creation), limit?, cursor?}
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
  local statuses, levels, total = {}, {}, 0
  for i = 1, #STATUSES do
    local count = redis.call("ZCARD", keys.alarms_in(ns, STATUSES[i]))
    statuses[2 * i - 1], statuses[2 * i], total = STATUSES[i], count, total + count
  end
  for i = 1, #compile.LEVELS do
    levels[2 * i - 1] = compile.LEVELS[i]
    levels[2 * i] = redis.call("SINTERCARD", 2, keys.alarms_active(ns), keys.alarms_by_level(ns, compile.LEVELS[i]))
  end
  return json.object({
    "total", total, "active", redis.call("SCARD", keys.alarms_active(ns)),
    "by_status", json.object(statuses), "by_level", json.object(levels),
    "definitions", redis.call("SCARD", keys.definitions(ns)),
  })
end

return M
