-- Time windows of a site's wall clock. Lua has no time zones: the service hands over a table of the offsets of each
-- zone that is used (instant -> seconds east of UTC), so that the same instant always gives the same answer.
-- Before a table begins and after it ends the wall clock is unknown, and so is whether a window is open.
local M = {}

M.DAY_MS = 86400000
M.DAYS = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" }
local MAX_DATES = 400
local KNOWN = { zone = true, from = true, to = true, days = true, months = true, dates = true, except = true }
local DAY_NUMBER = {}
for i = 1, #M.DAYS do
  DAY_NUMBER[M.DAYS[i]] = i - 1
end

-- Days since 1970-01-01 of a civil date, and back (Howard Hinnant, "chrono-compatible low-level date algorithms").
local function days_of(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
end

local function civil(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

--- The day of "2028-02-29" since 1970-01-01, or nil where there is no such date.
function M.day_of(text)
  local year, month, day = string.match(type(text) == "string" and text or "", "^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  if not year then
    return nil
  end
  local days = days_of(tonumber(year), tonumber(month), tonumber(day))
  local y, m, d = civil(days)
  return y == tonumber(year) and m == tonumber(month) and d == tonumber(day) and days or nil
end

--- A list of dates and ranges ("2027-12-24/2027-12-26") as pairs of days, or nil and the place of what is wrong.
function M.dates(list)
  if type(list) ~= "table" or #list == 0 or #list > MAX_DATES then
    return nil, ""
  end
  local pairs_of_days = {}
  for i = 1, #list do
    local text = type(list[i]) == "string" and list[i] or ""
    local first, last = string.match(text, "^([%d-]+)/([%d-]+)$")
    first, last = M.day_of(first or text), M.day_of(last or text)
    if not first or not last or last < first then
      return nil, "[" .. (i - 1) .. "]"
    end
    pairs_of_days[i] = { first, last }
  end
  return pairs_of_days
end

local function minutes(text)
  local hour, minute = string.match(type(text) == "string" and text or "", "^(%d%d):(%d%d)$")
  local found = hour and tonumber(hour) * 60 + tonumber(minute)
  return found and tonumber(minute) < 60 and found <= 1440 and found or nil
end

-- A list of words or numbers as a set, and as a text in order.
local function set_of(list, number_of)
  if type(list) ~= "table" or #list == 0 then
    return nil
  end
  local set, order = {}, {}
  for i = 1, #list do
    local number = number_of(list[i])
    if not number then
      return nil
    end
    if not set[number] then
      order[#order + 1] = number
    end
    set[number] = true
  end
  table.sort(order)
  return set, table.concat(order, ",")
end

local function month_number(value)
  return type(value) == "number" and value == math.floor(value) and value >= 1 and value <= 12 and value or nil
end

-- Dates in place, or the name of a calendar that holds them.
local function days_named(value, say, field)
  if value == nil then
    return nil, ""
  elseif type(value) == "string" and string.find(value, "^[%w_%-]+$") and #value <= 64 and not M.day_of(value) then
    return { calendar = value }, "@" .. value
  end
  local list, place = M.dates(value)
  if not list then
    say("time." .. field .. place, "must be dates such as 2027-12-24 or 2027-12-24/2027-12-26, or the name of a calendar")
    return nil, ""
  end
  local words = {}
  for i = 1, #list do
    words[i] = list[i][1] .. "-" .. list[i][2]
  end
  return { list = list }, table.concat(words, ",")
end

local function check_hours(spec, say)
  local from, to = minutes(spec.from or "00:00"), minutes(spec.to or "24:00")
  if not from or from == 1440 then
    say("time.from", "must be a time of day such as 22:00")
  end
  if not to then
    say("time.to", "must be a time of day such as 06:00, or 24:00")
  end
  if from and from == to then
    say("time.to", "must be another time than from; without both the whole day is meant")
  end
  return from or 0, to or 1440
end

--- Check a window; returns it compiled, with `ref`, the one text of its kind.
function M.compile(spec, say)
  if type(spec) ~= "table" or #spec > 0 or next(spec) == nil then
    say("time", "must be {zone, from, to, days, months, dates, except}")
    return nil
  end
  for name in pairs(spec) do
    if not KNOWN[name] then
      say("time." .. tostring(name), "is unknown")
    end
  end
  local zone = spec.zone
  if type(zone) ~= "string" or #zone > 64 or not string.find(zone, "^%a[%w_%+%-/]*$") then
    say("time.zone", "must be a time zone such as Europe/Berlin or UTC")
    zone = "UTC"
  end
  local from, to = check_hours(spec, say)
  local days, days_text, months, months_text = nil, "", nil, ""
  if spec.days ~= nil then
    days, days_text = set_of(spec.days, function(day) return DAY_NUMBER[day] end)
    if not days then
      say("time.days", "must be a list of " .. table.concat(M.DAYS, ", "))
    end
  end
  if spec.months ~= nil then
    months, months_text = set_of(spec.months, month_number)
    if not months then
      say("time.months", "must be a list of numbers from 1 to 12")
    end
  end
  local dates, dates_text = days_named(spec.dates, say, "dates")
  local except, except_text = days_named(spec.except, say, "except")
  local ref = table.concat(
    { "time:" .. zone, from .. "-" .. to, days_text or "", months_text or "", dates_text, except_text }, "|"
  )
  return {
    ref = ref, zone = zone, from = from * 60000, to = to * 60000, days = days, months = months, dates = dates,
    except = except,
  }
end

-- The offset of a zone at an instant, and when it changes next; nil where the table says nothing.
local function offset_at(zone, at)
  if not zone or at < zone.from or at >= zone.till then
    return nil
  end
  local changes = zone.changes
  local low, high = 1, #changes
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if changes[middle][1] <= at then
      low = middle
    else
      high = middle - 1
    end
  end
  return changes[low][2] * 1000, changes[low + 1] and changes[low + 1][1] or zone.till
end

local UTC = { from = 0, till = 9007199254740991, changes = { { 0, 0 } } }

-- Whether a day is one of some dates; nil where their calendar is not there, or says nothing of that day.
local function among(dates, day, calendars)
  local list = dates.list
  if dates.calendar then
    local calendar = calendars[dates.calendar]
    if not calendar or day > calendar.through then
      return nil
    end
    list = calendar.list
  end
  for i = 1, #list do
    if day >= list[i][1] and day <= list[i][2] then
      return true
    end
  end
  return false
end

local function day_fits(window, day, calendars)
  if window.days and not window.days[(day + 3) % 7] then
    return false
  end
  if window.months then
    local _, month = civil(day)
    if not window.months[month] then
      return false
    end
  end
  local of = not window.dates or among(window.dates, day, calendars)
  local excepted = window.except and among(window.except, day, calendars)
  if of == false or excepted == true then
    return false
  elseif of == nil or (window.except and excepted == nil) then
    return nil
  end
  return true
end

--- Whether a window is open at an instant (nil for unknown), and when to look again (nil for never).
-- A window that goes over midnight belongs to the day on which it begins.
function M.look(window, at, zones, calendars)
  local zone = window.zone == "UTC" and UTC or zones[window.zone]
  local offset, change = offset_at(zone, at)
  if not offset then
    return nil, zone and at < zone.from and zone.from or nil
  end
  local clock = at + offset
  local day = math.floor(clock / M.DAY_MS)
  local time = clock - day * M.DAY_MS
  local open = false
  if window.from < window.to then
    if time >= window.from and time < window.to then
      open = day_fits(window, day, calendars)
    end
  elseif time >= window.from then
    open = day_fits(window, day, calendars)
  elseif time < window.to then
    open = day_fits(window, day - 1, calendars)
  end
  local edge = M.DAY_MS
  if window.from > time then
    edge = math.min(edge, window.from)
  end
  if window.to > time then
    edge = math.min(edge, window.to)
  end
  return open, math.min(at + edge - time, change)
end

--- Why it is unknown at an instant whether a window is open.
function M.unknown(window, at, zones, calendars)
  local zone = window.zone == "UTC" and UTC or zones[window.zone]
  if not zone then
    return "there is no table of the time zone " .. window.zone .. " yet; rulesrv hands it over where this machine knows the zone"
  elseif not offset_at(zone, at) then
    return "the table of the time zone " .. window.zone .. " says nothing of this time"
  end
  for _, dates in ipairs({ window.dates or {}, window.except or {} }) do
    if dates.calendar and not calendars[dates.calendar] then
      return "there is no calendar " .. dates.calendar
    end
  end
  return "its calendar says nothing of this day"
end

return M
