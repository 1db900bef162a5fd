-- A step of escalation is due: nobody acknowledged within its time.
local alarms = require("alarmsrv.alarms")
local journal = require("alarmsrv.journal")
local keys = require("lib.keys")
local outbox = require("alarmsrv.outbox")
local records = require("alarmsrv.records")

local M = {}

--- The timer of a step. `id` is the alarm and the step's time: "al-7-1|300000".
function M.over(ctx, id, due)
  local name, after = string.match(id, "^(.*)|(%d+)$")
  local alarm = records.load(ctx.ns, name)
  if not alarm or not outbox.waits(alarm) then
    return
  end
  -- The routes may have changed since the timer was set.
  local text = redis.call("HGET", keys.alarm_journal_head(ctx.ns), "escalate:" .. alarm.level)
  local wanted = text and outbox.steps(text, alarm) or {}
  for i = 1, #wanted do
    if wanted[i] == tonumber(after) then
      local comment = string.format("not acknowledged for %g s", after / 1000)
      local seen = alarms.seen(ctx, alarm) or { text = alarm.value, quality = alarm.quality }
      local number = journal.append(ctx, due, alarm, "escalated", "timer", comment, seen)
      outbox.escalated(ctx.ns, number, due, alarm, wanted[i], seen)
      return
    end
  end
end

return M
