-- A step of escalation is due: nobody acknowledged within its time.
local args = require("lib.args")
local journal = require("alarmsrv.journal")
local keys = require("lib.keys")
local marks = require("alarmsrv.marks")
local outbox = require("alarmsrv.outbox")
local records = require("alarmsrv.records")

local M = {}

-- The routes may have changed since the timer was set.
local function still_wanted(ns, alarm, after, route)
  if route then
    local text = redis.call("GET", keys.alarm_route(ns, route))
    local document = text and args.decode(text) or {}
    for _, step in ipairs(document.enabled ~= false and outbox.steps_of(document) or {}) do
      if step.after_s * 1000 == after then
        return true
      end
    end
    return false
  end
  local text = redis.call("HGET", keys.alarm_journal_head(ns), "escalate:" .. alarm.level)
  local wanted = text and outbox.steps(text, alarm) or {}
  for i = 1, #wanted do
    if wanted[i] == after then
      return true
    end
  end
  return false
end

--- The timer of a step. `id` is the alarm and the step's time, "al-7-1|300000", and the route whose shift began then.
function M.over(ctx, id, due)
  local name, after, route = string.match(id, "^([^|]*)|(%d+)|?(.*)$")
  local alarm = records.load(ctx.ns, name)
  route = route ~= "" and route or nil
  if not alarm or not outbox.waits(alarm) or not still_wanted(ctx.ns, alarm, tonumber(after), route) then
    return
  end
  local comment = string.format("not acknowledged for %g s", after / 1000)
  local seen = marks.moment(ctx, alarm)
  local number = journal.append(ctx, due, alarm, "escalated", "timer", comment, seen)
  outbox.escalated(ctx.ns, number, due, alarm, tonumber(after), seen, route)
end

return M
