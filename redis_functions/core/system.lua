-- Functions about no domain: the version, and the tick.
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local history = require("core.history")
local keys = require("lib.keys")
local transitions = require("core.transitions")

local M = {}

local LOOK_MS = 10000
-- History may take this share of the server's memory; the image, alarms and commands need the rest.
local HISTORY_SHARE = 0.25
local QUEUE_ALARM = "system:history_queue"

--- The library's version.
--
-- Returns  {api, digest}
-- Example  FCALL_RO voltage_version 0
function M.version()
  return '{"api":@API@,"digest":"@DIGEST@"}'
end

-- Filling up is an alarm at 80 % of what the queue may take, until it is down to 70 %.
local function watch_queue(ctx, most)
  local share = tonumber(redis.call("HGET", keys.history_size(ctx.ns), "bytes") or 0) / most
  local open = redis.call("HGET", keys.alarms_open(ctx.ns), QUEUE_ALARM)
  local standing = open and redis.call("HGET", keys.alarm(ctx.ns, open), "active") == "1"
  if share >= 0.8 and not standing then
    call.accept(ctx)
    alarms.raise(ctx, {
      origin = QUEUE_ALARM, title = "The history queue is filling up; is hissrv running?", level = "Major",
      source = QUEUE_ALARM, ack_required = true, quality = "good",
    }, ctx.now)
  elseif share < 0.7 and standing then
    call.accept(ctx)
    alarms.condition_ended(ctx, QUEUE_ALARM, ctx.now)
  end
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
  local bytes = math.min(most > 0 and math.floor(most * HISTORY_SHARE) or history.MAX_BYTES, history.MAX_BYTES)
  redis.call(
    "HSET", limits, "looked_at_ms", string.format("%.0f", ctx.now), "used_memory", string.format("%.0f", used),
    "maxmemory", string.format("%.0f", most), "queue_bytes", string.format("%.0f", bytes)
  )
  watch_queue(ctx, bytes)
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
    drained = transitions.drain(ctx)
    call.finish(ctx)
  end
  return '{"now_ms":' .. string.format("%.0f", ctx.now) .. ',"fired":' .. (ctx.fired or 0) .. ',"drained":' .. drained .. "}"
end

return M
