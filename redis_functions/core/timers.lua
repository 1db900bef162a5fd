-- Timers: a sorted set by due instant. They survive restarts, and no clock but the caller's moves them.
local keys = require("lib.keys")

local M = {}

M.PER_CALL = 20

--- Set or move a timer. `kind` decides who handles it (core/call.lua).
function M.set(ns, due, kind, id)
  redis.call("ZADD", keys.timers(ns), string.format("%.0f", due), kind .. "|" .. id)
end

--- Remove a timer, if it is there.
function M.cancel(ns, kind, id)
  redis.call("ZREM", keys.timers(ns), kind .. "|" .. id)
end

--- The due instant of a timer, or nil.
function M.due_at(ns, kind, id)
  local due = redis.call("ZSCORE", keys.timers(ns), kind .. "|" .. id)
  return due and tonumber(due) or nil
end

--- Take the timers that are due first, at most `limit`, in the order of their ids: { { due, kind, id }, ... }; nil for
-- none. Only those of one instant: what they set may be due before the next.
function M.take(ns, now, limit)
  local found = redis.call(
    "ZRANGEBYSCORE", keys.timers(ns), "-inf", string.format("%.0f", now), "WITHSCORES", "LIMIT", 0, limit
  )
  if #found == 0 then
    return nil
  end
  local taken, members = {}, {}
  for i = 1, #found, 2 do
    if found[i + 1] ~= found[2] then
      break
    end
    local kind, id = string.match(found[i], "^([^|]+)|(.*)$")
    taken[#taken + 1] = { tonumber(found[i + 1]), kind, id }
    members[#members + 1] = found[i]
  end
  redis.call("ZREM", keys.timers(ns), unpack(members))
  return taken
end

--- Move every timer by a step of the clock, so that what was left of each delay is kept.
function M.shift(ns, step)
  local found = redis.call("ZRANGE", keys.timers(ns), 0, -1, "WITHSCORES")
  for i = 1, #found, 2 do
    redis.call("ZADD", keys.timers(ns), string.format("%.0f", tonumber(found[i + 1]) + step), found[i])
  end
end

return M
