-- An alarm that asks for no attention: shelved for a time, suppressed by design, out of service.
-- It still stands, and `alarms:active` still holds it.
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local timers = require("core.timers")

local M = {}

local MAX_SHELVE_MS = 86400000

-- Parse, load, change, save, journal: what the six below share. `change` returns the journal's
-- event, or nil when there is nothing to do.
local function alter(ns, id, argv, change)
  id = args.id(id, "alarm")
  local document = args.document(argv[1], true)
  local by = alarms.operator(document.by or "redis-cli", "by")
  local comment = alarms.comment(document.comment)
  local ctx = call.begin(ns, document.now_ms)
  local alarm = alarms.load_open(ns, id)
  local before = alarms.copy(alarm)
  local event = change(ctx, alarm, document, by)
  if event then
    call.accept(ctx)
    alarm.comment = comment or alarm.comment
    alarms.save(ctx, alarm, before, ctx.now)
    alarms.journal(ns, ctx.now, alarm, event, by, comment)
  end
  return call.finish(ctx, alarms.encode(alarm))
end

--- Shelve an alarm: it stands, but asks for no attention until the time is over.
--
-- KEYS[1]  alarm
-- ARGV[1]  {duration_ms (at most 24 h) or one_shot: true (until its condition ends), comment?, by?, now_ms?}
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          INVALID   duration_ms is not 1 to 86400000
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, voltage:timers, alarmsrv:journal
-- Example  FCALL alarm_shelve 1 door '{"duration_ms":600000,"by":"anna","comment":"repair on Monday"}'
function M.shelve(ns, id, argv)
  return alter(ns, id, argv, function(ctx, alarm, document, by)
    local one_shot = document.one_shot == true
    local lasts = not one_shot and args.integer(document.duration_ms, "duration_ms", 1, MAX_SHELVE_MS)
    alarm.shelved_by, alarm.shelved_one_shot = by, one_shot and "1" or "0"
    alarm.shelved_until_ms = lasts and string.format("%.0f", ctx.now + lasts) or ""
    timers.cancel(ns, "shelve", alarm.id)
    if lasts then
      timers.set(ns, ctx.now + lasts, "shelve", alarm.id)
    end
    return "shelved"
  end)
end

--- End the shelving of an alarm; without one nothing changes.
--
-- KEYS[1]  alarm
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, voltage:timers, alarmsrv:journal
-- Example  FCALL alarm_unshelve 1 door '{"by":"anna"}'
function M.unshelve(ns, id, argv)
  return alter(ns, id, argv, function(_, alarm)
    if not alarm.shelved_by then
      return nil
    end
    alarm.shelved_by, alarm.shelved_until_ms, alarm.shelved_one_shot = nil, nil, nil
    timers.cancel(ns, "shelve", alarm.id)
    return "unshelved"
  end)
end

local function mark(field, event)
  return function(_, alarm, _, by)
    if alarm[field] then
      return nil
    end
    alarm[field] = by
    return event
  end
end

local function unmark(field, event)
  return function(_, alarm)
    if not alarm[field] then
      return nil
    end
    alarm[field] = nil
    return event
  end
end

--- Suppress an alarm by design, as while its plant is started up.
--
-- KEYS[1]  alarm
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:journal
-- Example  FCALL alarm_suppress 1 door '{"by":"anna"}'
function M.suppress(ns, id, argv)
  return alter(ns, id, argv, mark("suppressed_by", "suppressed"))
end

--- End the suppression of an alarm; without one nothing changes.
--
-- KEYS[1]  alarm
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:journal
-- Example  FCALL alarm_unsuppress 1 door '{"by":"anna"}'
function M.unsuppress(ns, id, argv)
  return alter(ns, id, argv, unmark("suppressed_by", "unsuppressed"))
end

--- Take an alarm out of service for maintenance, or return it.
--
-- KEYS[1]  alarm
-- ARGV[1]  {in_service?: true to return it, comment?, by?, now_ms?}
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:journal
-- Example  FCALL alarm_out_of_service 1 door '{"by":"anna"}'
function M.out_of_service(ns, id, argv)
  local field = "out_of_service_by"
  local out, back = mark(field, "out_of_service"), unmark(field, "in_service")
  return alter(ns, id, argv, function(ctx, alarm, document, by)
    return (document.in_service == true and back or out)(ctx, alarm, document, by)
  end)
end

return M
