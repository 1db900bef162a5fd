-- What a call may carry out, and what waits: past 10 transitions only states change, the rest drains by tick, in order.
local keys = require("lib.keys")

local M = {}

-- One costs some 40 us and the call around them 250: so many keep it under a millisecond, also the call in which
-- Lua's collector has its turn.
M.TRANSITIONS = 10

--- True when one more transition may act in this call. Once something waits, all that follows waits behind it.
function M.admit(ctx)
  if ctx.behind == nil then
    ctx.behind = redis.call("EXISTS", keys.deferred(ctx.ns)) == 1
  end
  if ctx.behind or ctx.transitions >= M.TRANSITIONS then
    ctx.behind = true
    return false
  end
  ctx.transitions = ctx.transitions + 1
  return true
end

--- Let an item (JSON) wait; M.flush follows at the end of the call.
function M.wait(ctx, text)
  ctx.waiting = ctx.waiting or {}
  ctx.waiting[#ctx.waiting + 1] = text
end

--- Write what waits to the list, in one command a thousand.
function M.flush(ctx)
  local waiting = ctx.waiting
  if not waiting then
    return
  end
  ctx.waiting = nil
  for start = 1, #waiting, 1000 do
    redis.call("RPUSH", keys.deferred(ctx.ns), unpack(waiting, start, math.min(start + 999, #waiting)))
  end
end

return M
