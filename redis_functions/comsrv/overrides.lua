-- What a person lays over a point: a tag that locks it out, a value substituted by hand.
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local streams = require("lib.streams")
local timers = require("core.timers")

local M = {}

--- Journal what an operator did to a point.
function M.journal(ctx, ch, point, what, by, reason, value)
  streams.append(
    ctx.ns, keys.operations(ctx.ns), "at_ms", string.format("%.0f", ctx.now), "what", what,
    "point", "comsrv:" .. ch .. ":" .. point, "by", by or "", "reason", reason or "", "value", value or ""
  )
end

--- Give a point back to its device: uncertain until the next value comes.
function M.restore(ctx, ch, point, by, reason)
  if redis.call("HDEL", keys.substituted(ctx.ns, ch), point) == 0 then
    return false
  end
  timers.cancel(ctx.ns, "substitute", ch .. "|" .. point)
  local kind, id = string.match(point, "^(%u):(%d+)$")
  leases.put(ctx, ch, kind, id, nil, "uncertain:restored")
  redis.call("HSET", keys.status(ctx.ns, ch), "resend", "1")
  M.journal(ctx, ch, point, "restored", by, reason)
  return true
end

--- A substitution ran out.
function M.substitution_over(ctx, id)
  local ch, point = string.match(id, "^([^|]+)|(.*)$")
  M.restore(ctx, ch, point, "timer", "the substitution ran out")
end

--- A tag ran out.
function M.tag_over(ctx, id)
  local ch, point = string.match(id, "^([^|]+)|(.*)$")
  if redis.call("HDEL", keys.tags(ctx.ns, ch), point) == 1 then
    M.journal(ctx, ch, point, "untagged", "timer", "the tag ran out")
  end
end

return M
