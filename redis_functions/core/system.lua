-- Functions about no domain: the version, and the tick.
local args = require("lib.args")
local call = require("core.call")
local engine = require("core.engine")
local history = require("core.history")
local keys = require("lib.keys")

local M = {}

local LOOK_MS = 10000
-- History may take this share of the server's memory; the image, alarms and commands need the rest.
local HISTORY_SHARE = 0.25

--- The library's version.
--
-- Returns  {api, digest}
-- Example  FCALL_RO voltage_version 0
function M.version()
  return '{"api":@API@,"digest":"@DIGEST@"}'
end

-- Once in ten seconds: how much memory there is decides how long the history queue may grow.
local function look_at_memory(ctx)
  local limits = keys.limits(ctx.ns)
  local looked = tonumber(redis.call("HGET", limits, "looked_at_ms") or 0)
  if ctx.now - looked < LOOK_MS and ctx.now >= looked then
    return
  end
  local info = redis.call("INFO", "memory")
  local used = tonumber(string.match(info, "used_memory:(%d+)"))
  local most = tonumber(string.match(info, "maxmemory:(%d+)"))
  local bytes = most > 0 and math.floor(most * HISTORY_SHARE) or history.MAX_BYTES
  redis.call(
    "HSET", limits, "looked_at_ms", string.format("%.0f", ctx.now), "used_memory", string.format("%.0f", used),
    "maxmemory", string.format("%.0f", most), "queue_bytes", string.format("%.0f", math.min(bytes, history.MAX_BYTES))
  )
end

--- Let time pass: due timers fire (20 at most a call), and what waited from a storm drains in order.
--
-- Any number of callers is harmless; rulesrv calls it every 100 ms.
--
-- ARGV[1]  {now_ms?}
-- Returns  {now_ms, fired, drained}
-- Errors   INVALID  now_ms is more than 2 s ahead of Redis' clock
-- Writes   whatever is due
-- Example  FCALL voltage_tick 0
function M.tick(ns, _, argv)
  local document = args.document(argv[1], true)
  local ctx = call.begin(ns, document.now_ms)
  look_at_memory(ctx)
  local drained = 0
  if redis.call("EXISTS", keys.deferred(ns)) == 1 then
    call.accept(ctx)
    drained = engine.drain(ctx)
    call.finish(ctx)
  end
  return '{"now_ms":' .. string.format("%.0f", ctx.now) .. ',"fired":' .. (ctx.fired or 0) .. ',"drained":' .. drained .. "}"
end

return M
