-- How often a point was written: a least time between two writes, and a budget a day (UTC).
local keys = require("lib.keys")

local M = {}

local DAY_MS = 86400000

local function read(ctx, ch, point)
  local text = redis.call("HGET", keys.wear(ctx.ns, ch), point)
  local last, day, count = string.match(text or "", "^(%d+)|(%d+)|(%d+)$")
  local today = math.floor(ctx.now / DAY_MS)
  return tonumber(last), today, tonumber(day) == today and tonumber(count) or 0
end

--- Why a point may not be written again now, or nil.
function M.problem(ctx, ch, point, options)
  if not options.min_interval_ms and not options.writes_per_day then
    return nil
  end
  local last, _, count = read(ctx, ch, point)
  -- A last write in the future is from before the clock was set back.
  local left = last and last <= ctx.now and options.min_interval_ms and last + options.min_interval_ms - ctx.now or 0
  if left > 0 then
    return point .. " was written a moment ago; again in " .. string.format("%.0f", left) .. " ms"
  end
  if options.writes_per_day and count >= options.writes_per_day then
    return point .. " was written " .. count .. " times today, as often as it may be; again from 00:00 UTC"
  end
  return nil
end

--- Count a write that leaves now.
function M.count(ctx, ch, point, options)
  if not options.min_interval_ms and not options.writes_per_day then
    return
  end
  local _, today, count = read(ctx, ch, point)
  redis.call("HSET", keys.wear(ctx.ns, ch), point, string.format("%.0f|%.0f|%.0f", ctx.now, today, count + 1))
end

return M
