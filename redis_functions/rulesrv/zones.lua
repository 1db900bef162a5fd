-- What wall clocks and calendars say: handed over by the service, which knows time zones.
local args = require("lib.args")
local calendar = require("core.calendar")
local call = require("core.call")
local errors = require("lib.errors")
local graphs = require("core.graph")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local specials = require("core.specials")

local M = {}

local MAX_CHANGES = 1000
local MAX_CALENDARS = 200
-- There are some 600 time zones.
local MAX_ZONES = 1000
local FIELDS = {
  id = "string", name = "string", dates = "table", through = "string", version = "number", author = "string",
  reason = "string", hash = "string", requires_approval = "boolean",
  created_at_ms = "number", updated_at_ms = "number",
}

local function changes_of(list, from, till)
  if type(list) ~= "table" or #list == 0 or #list > MAX_CHANGES then
    errors.fail("INVALID", "changes must be a list of 1 to " .. MAX_CHANGES .. " [instant, seconds east of UTC]")
  end
  local last
  for i = 1, #list do
    local change, path = list[i], "changes[" .. (i - 1) .. "]"
    if type(change) ~= "table" or #change ~= 2 then
      errors.fail("INVALID", path .. " must be [instant, seconds east of UTC]")
    end
    local at = args.integer(change[1], path .. "[0]", from, till)
    args.integer(change[2], path .. "[1]", -86400, 86400)
    if (last and at <= last) or (not last and at ~= from) then
      errors.fail("INVALID", path .. "[0] must be " .. (last and "after the one before" or "from_ms"))
    end
    last = at
  end
  return list
end

--- Say what a time zone's clocks show: offsets from one instant to another.
--
-- Before the first and after the last instant conditions on the zone's clock are unknown. rulesrv keeps the tables of
-- all zones that rules name some years long.
--
-- ARGV[1]  {zone, from_ms, until_ms, changes: [[instant, seconds east of UTC], ...], now_ms?}; the first is at from_ms
-- Returns  {zone, changes: how many}
-- Errors   INVALID  a field is wrong
--          LIMIT    1000 time zones have a table
-- Writes   rulesrv:zones, and what follows from a window that opens or closes
-- Example  FCALL rule_zone 0 '{"zone":"Europe/Berlin","from_ms":0,"until_ms":4000000000000,"changes":[[0,3600]]}'
function M.put(ns, _, argv)
  local document = args.document(argv[1])
  local zone = document.zone
  if type(zone) ~= "string" or #zone > 64 or not string.find(zone, "^%a[%w_%+%-/]*$") then
    errors.fail("INVALID", "zone must be a time zone such as Europe/Berlin")
  end
  local from = args.integer(document.from_ms, "from_ms", 0, 9007199254740991)
  local till = args.integer(document.until_ms, "until_ms", from + 1, 9007199254740991)
  local changes = changes_of(document.changes, from, till)
  local parts = {}
  for i = 1, #changes do
    parts[i] = string.format("[%.0f,%.0f]", changes[i][1], changes[i][2])
  end
  local ctx = call.begin(ns, document.now_ms)
  if redis.call("HEXISTS", keys.rule_zones(ns), zone) == 0 and redis.call("HLEN", keys.rule_zones(ns)) >= MAX_ZONES then
    errors.fail("LIMIT", MAX_ZONES .. " time zones have a table")
  end
  call.accept(ctx)
  redis.call("HSET", keys.rule_zones(ns), zone, json.object({
    "from", json.integer(from), "till", json.integer(till), "changes", json.list(parts),
  }))
  specials.look_again(ctx)
  return call.finish(ctx, json.object({ "zone", json.text(zone), "changes", #changes }))
end

local function check_calendar(document)
  local problems = {}
  for name in pairs(document) do
    if not FIELDS[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, FIELDS, "", problems)
  if type(document.name) ~= "string" or document.name == "" or #document.name > 256 then
    problems[#problems + 1] = "name must be a text of at most 256 bytes, and not empty"
  end
  local list, place = calendar.dates(document.dates)
  if not list then
    problems[#problems + 1] = "dates" .. place .. " must be dates such as 2027-12-24 or 2027-12-24/2027-12-26, 1 to 400 of them"
  end
  if not calendar.day_of(document.through) then
    problems[#problems + 1] = "through must be the last date that the list is complete for, such as 2027-12-31"
  end
  table.sort(problems)
  errors.fail_all(problems)
end

--- Create or change a calendar: dates that windows of time name, as holidays.
--
-- KEYS[1]  calendar
-- ARGV[1]  {id, name, dates: ["2027-12-24", "2027-12-24/2027-12-26", ...], through: the last date the list is complete for}
-- Returns  the calendar, byte for byte as it came; with its id in front where it named none
-- Errors   INVALID  every problem
--          LIMIT    200 calendars are stored
-- Writes   rulesrv:calendar:{id}, rulesrv:calendars
-- Example  FCALL calendar_upsert 1 holidays '{"name":"holidays","dates":["2027-12-24/2027-12-26"],"through":"2027-12-31"}'
function M.upsert(ns, id, argv)
  local document, text = args.definition(id, "calendar", argv[1])
  check_calendar(document)
  local ctx = call.begin(ns, argv[2])
  if redis.call("SISMEMBER", keys.rule_calendars(ns), document.id) == 0
    and redis.call("SCARD", keys.rule_calendars(ns)) >= MAX_CALENDARS then
    errors.fail("LIMIT", "there are " .. MAX_CALENDARS .. " calendars")
  end
  call.accept(ctx)
  redis.call("SET", keys.rule_calendar(ns, document.id), text)
  redis.call("SADD", keys.rule_calendars(ns), document.id)
  specials.look_again(ctx)
  return call.finish(ctx, text)
end

local function stored(ns, id)
  return redis.call("GET", keys.rule_calendar(ns, id)) or errors.fail("NOTFOUND", "calendar " .. id)
end

--- A calendar.
--
-- KEYS[1]  calendar
-- Returns  the calendar as it was stored
-- Errors   NOTFOUND  no such calendar
-- Example  FCALL calendar_get 1 holidays
function M.get(ns, id)
  return stored(ns, args.id(id, "calendar"))
end

--- Calendars by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL calendar_list 0
function M.list(ns, _, argv)
  return pages.sorted(keys.rule_calendars(ns), args.document(argv[1], true), function(id)
    return redis.call("GET", keys.rule_calendar(ns, id))
  end)
end

local function names(days, id)
  return days ~= nil and days.calendar == id
end

-- The first watcher, by id, whose conditions name a calendar.
local function user_of(graph, id)
  local found
  for name, watcher in pairs(graph.watchers) do
    for i = 1, #watcher.leaves do
      local window = watcher.leaves[i].window
      if window and (names(window.dates, id) or names(window.except, id)) and (not found or name < found) then
        found = name
      end
    end
  end
  return found
end

--- Delete a calendar.
--
-- KEYS[1]  calendar
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such calendar
--          STATE     a rule names it
-- Writes   rulesrv:calendar:{id}, rulesrv:calendars
-- Example  FCALL calendar_delete 1 holidays
function M.delete(ns, id, argv)
  id = args.id(id, "calendar")
  stored(ns, id)
  local user = user_of(graphs.open(ns), id)
  if user then
    errors.fail("STATE", "calendar " .. id .. " is named by " .. user)
  end
  local ctx = call.begin(ns, argv[1])
  call.accept(ctx)
  redis.call("DEL", keys.rule_calendar(ns, id))
  redis.call("SREM", keys.rule_calendars(ns), id)
  specials.look_again(ctx)
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

return M
