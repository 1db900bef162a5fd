-- The journal: every transition of every alarm, in the order it happened.
local keys = require("lib.keys")
local streams = require("lib.streams")

local M = {}

--- Append a transition: what happened, by whom, and the value at that moment.
function M.append(ns, at, alarm, what, user, comment)
  streams.append(
    ns, keys.alarm_journal(ns), "at_ms", string.format("%.0f", at), "alarm", alarm.id, "event", what,
    "status", alarm.status, "level", alarm.level, "source", alarm.source, "title", alarm.title,
    "origin", alarm.origin or "", "version", alarm.version or "", "user", user or "", "comment", comment or "",
    "value", alarm.value or "", "quality", alarm.quality or ""
  )
end

return M
