-- Lists of alarms, newest first, with any filters together.
--
-- The alarms of a status are ordered by creation, so a list is those of its statuses merged. Where an index
-- (a source, a level, an area, ...) holds few alarms, those are looked at instead; both give the same order.
-- A call looks at so many and then says by its cursor that there is more: what is rare among many is found in several
-- calls of under a millisecond, and others have their turn between them.
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
local FEW = 100
-- What a call may pass over, in microseconds or so: an entry of an index, one whose record is asked, one of few.
local MOST, LOOK, ASK, LOOK_AT_FEW = 500, 1, 3, 3
local CHUNK = 100
-- A record in a page takes some 16 us; whoever wants more of them in one call says so.
local PAGE = 40
local NO_LIMIT = 9007199254740991
local FLAGS = { "shelved", "suppressed", "out_of_service" }
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

-- The sets an alarm must be in, or must not: { key, wanted }.
local function sets_of(ns, filter, plan)
  local sets = {}
  for i = 1, #FLAGS do
    local wanted = filter[FLAGS[i]]
    if wanted ~= nil then
      if type(wanted) ~= "boolean" then
        errors.fail("INVALID", FLAGS[i] .. " must be true or false")
      end
      sets[#sets + 1] = { keys.alarms_quiet(ns, FLAGS[i]), wanted }
    end
  end
  local area, equipment = args.text(filter.area, "area", 64), args.text(filter.equipment, "equipment", 64)
  sets[#sets + 1] = plan.level and { keys.alarms_by_level(ns, plan.level), true }
  sets[#sets + 1] = plan.source and { keys.alarms_by_source(ns, plan.source), true }
  sets[#sets + 1] = area and { keys.alarms_by_area(ns, area), true }
  sets[#sets + 1] = equipment and { keys.alarms_by_equipment(ns, equipment), true }
  return sets
end

-- The filters of a query.
local function plan_of(ns, filter)
  check_known(filter)
  local status = filter.status and args.choice(filter.status, "status", STATUSES)
  local plan = {
    statuses = status and { status } or (filter.open == true and OPEN) or STATUSES,
    level = filter.level and args.choice(filter.level, "level", compile.LEVELS),
    source = args.text(filter.source, "source", 128),
    group = args.text(filter.group, "group", 64),
    low = args.integer(filter.from_ms, "from_ms", 0, NO_LIMIT, 0),
    high = args.integer(filter.to_ms, "to_ms", 0, NO_LIMIT, NO_LIMIT),
    limit = args.integer(filter.limit, "limit", 1, pages.MAX_LIMIT, PAGE),
  }
  plan.sets = sets_of(ns, filter, plan)
  if status == "Resolved" and filter.open == true then
    plan.statuses = {}
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

-- The groups an alarm was ever in are in no index, so its record is asked; that is much cheaper than reading it whole.
local function passes(ns, plan, page, entry)
  if not plan.group then
    return true
  end
  page.spent = page.spent + ASK
  return redis.call("HGET", keys.alarm(ns, entry.id), "group") == plan.group
end

-- Read a record into the page. Returns true when the page is full and there is more.
local function take(ns, plan, page, entry)
  if not passes(ns, plan, page, entry) then
    return false
  elseif #page.items == plan.limit then
    return true
  end
  local alarm = records.load(ns, entry.id)
  if alarm then
    page.items[#page.items + 1] = records.encode(alarm)
    page.last = entry
  end
  return false
end

local function cursor_of(entry)
  return entry and string.format("%.0f:%s", entry.at, entry.id) or nil
end

-- ---------------------------------------------------------------- few alarms in an index

-- For each of `ids`, whether it is in the sets it must be in, and in none of the others.
local function in_sets(plan, ids)
  local found = {}
  for i = 1, #plan.sets do
    local wanted = plan.sets[i][2] and 1 or 0
    local said = redis.call("SMISMEMBER", plan.sets[i][1], unpack(ids))
    for k = 1, #ids do
      found[k] = found[k] ~= false and said[k] == wanted
    end
  end
  return found
end

local function look_at_few(ns, plan, index)
  local wanted, found = {}, {}
  for i = 1, #plan.statuses do
    wanted[plan.statuses[i]] = true
  end
  local ids = redis.call("SMEMBERS", index)
  local kept = #ids > 0 and in_sets(plan, ids)
  for i = 1, #ids do
    local said = kept[i] and redis.call("HMGET", keys.alarm(ns, ids[i]), "status", "created_at_ms")
    local entry = { id = ids[i], at = said and tonumber(said[2] or -1) }
    if said and wanted[said[1]] and entry.at >= plan.low and entry.at <= plan.high and after_cursor(plan, entry) then
      found[#found + 1] = entry
    end
  end
  table.sort(found, newer)
  local page = { items = {}, spent = LOOK_AT_FEW * #ids }
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
  return chunk, #ids > 0 and #plan.sets > 0 and in_sets(plan, ids) or nil
end

local function walk(ns, plan)
  local lists, page = open_lists(ns, plan), { items = {}, spent = 0 }
  while true do
    local chunk, kept = next_chunk(lists, plan)
    local before = #page.items
    for i = 1, #chunk do
      if (not kept or kept[i]) and take(ns, plan, page, chunk[i]) then
        return pages.page(page.items, cursor_of(page.last))
      end
    end
    page.spent = page.spent + LOOK * (#chunk - #page.items + before)
    if #chunk < CHUNK then
      return pages.page(page.items, nil)
    elseif page.spent >= MOST then
      -- The bound of a call: what was looked at is behind the cursor, whether it matched or not.
      return pages.page(page.items, cursor_of(chunk[#chunk]))
    end
  end
end

local function query(ns, filter)
  local plan = plan_of(ns, filter)
  local least, index = FEW + 1, nil
  for i = 1, #plan.sets do
    local size = plan.sets[i][2] and redis.call("SCARD", plan.sets[i][1]) or least
    if size < least then
      least, index = size, plan.sets[i][1]
    end
  end
  return index and look_at_few(ns, plan, index) or walk(ns, plan)
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
-- ARGV[1]  {level?, source?, limit? (40), cursor?}, and what query_alarms takes
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
--          area?, equipment?, group?, from_ms?, to_ms? (of creation), limit? (40), cursor?}
-- Returns  {items, cursor}; a page may hold fewer than limit (40 where none is given) while the cursor says that there is
--          more: a call passes over some 500 alarms and reads as many as the limit says, 16 us each
-- Errors   INVALID  a filter is wrong
-- Example  FCALL query_alarms 0 '{"status":"New","level":"Major"}'
function M.query(ns, _, argv)
  return query(ns, args.document(argv[1], true))
end

-- How many alarms of a level are open, by the counts that every transition keeps. Those that do not add up (somebody
-- wrote into the keys) are not believed.
local function open_by_level(ns, active)
  local found, sum = redis.call("HMGET", keys.alarms_counts(ns), unpack(compile.LEVELS)), 0
  for i = 1, #compile.LEVELS do
    found[i] = tonumber(found[i] or 0)
    sum = sum + found[i]
  end
  for i = 1, sum == active and 0 or #compile.LEVELS do
    found[i] = redis.call("SINTERCARD", 2, keys.alarms_active(ns), keys.alarms_by_level(ns, compile.LEVELS[i]))
  end
  return found
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
  local active = redis.call("SCARD", keys.alarms_active(ns))
  local found = open_by_level(ns, active)
  for i = 1, #compile.LEVELS do
    levels[2 * i - 1], levels[2 * i] = compile.LEVELS[i], found[i]
  end
  return json.object({
    "total", total, "active", active, "by_status", json.object(statuses), "by_level", json.object(levels),
    "definitions", redis.call("SCARD", keys.definitions(ns)),
  })
end

return M
