-- Functions about no domain: the version, and the tick.
local args = require("lib.args")
local call = require("core.call")
local history = require("core.history")
local keys = require("lib.keys")
local ledger = require("core.ledger")
local replay = require("core.replay")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")
local transitions = require("core.transitions")

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

-- True from `on` of what there is, until it is down to `off`; in between as it was.
local function is_filling(ctx, name, share, on, off)
  if share >= on then
    return true
  end
  return share >= off and redis.call("HEXISTS", keys.system_conditions(ctx.ns), name .. "|") == 1
end

local function watch(ctx, name, share)
  local percent = string.format("%.0f %%", 100 * share)
  system_alarms.report(ctx, name, "", { active = is_filling(ctx, name, share, 0.8, 0.7), detail = percent })
end

-- A difference that is there at two looks and was not said before is said once. Returns what to say, or "".
local function look_at_ledger(ns, limits)
  local now = ledger.difference(ns)
  local said = redis.call("HMGET", limits, "ledger_seen", "ledger_said")
  if now == said[1] and now ~= (said[2] or "") then
    redis.call("HSET", limits, "ledger_said", now)
    return now
  elseif now ~= said[1] then
    redis.call("HSET", limits, "ledger_seen", now)
  end
  return ""
end

-- What memory, queue and ledger say: { share of the queue, share of memory, what is wrong with the ledger or "" }.
local function look(ns, limits, now)
  local info = redis.call("INFO", "memory")
  local used = tonumber(string.match(info, "used_memory:(%d+)"))
  local most = tonumber(string.match(info, "maxmemory:(%d+)"))
  local bytes = math.min(most > 0 and math.floor(most * HISTORY_SHARE) or history.MAX_BYTES, history.MAX_BYTES)
  redis.call(
    "HSET", limits, "looked_at_ms", string.format("%.0f", now), "used_memory", string.format("%.0f", used),
    "maxmemory", string.format("%.0f", most), "queue_bytes", string.format("%.0f", bytes)
  )
  local queued = tonumber(redis.call("HGET", keys.history_size(ns), "bytes") or 0)
  return { queued / bytes, most > 0 and used / most or 0, look_at_ledger(ns, limits) }
end

-- Once in ten seconds: how much memory there is decides how long the history queue may grow.
local function look_around(ctx)
  local seen = replay.fact("look", function()
    local limits = keys.limits(ctx.ns)
    local looked = tonumber(redis.call("HGET", limits, "looked_at_ms") or 0)
    if ctx.now - looked < LOOK_MS and ctx.now >= looked then
      return nil
    end
    return look(ctx.ns, limits, ctx.now)
  end)
  if seen then
    watch(ctx, "history_queue", seen[1])
    watch(ctx, "memory", seen[2])
    if seen[3] ~= "" then
      system_alarms.note(ctx, "ledger", "", seen[3])
    end
  end
end

--- Let time pass: due timers fire (20 at most a call), and what waited from a storm drains in order, 8 at most.
--
-- Any number of callers is harmless; rulesrv calls it every 100 ms.
--
-- ARGV[1]  {now_ms?}
-- Returns  {now_ms, fired, drained, more: there is more to do at once}
-- Errors   INVALID  now_ms is more than 2 s ahead of Redis' clock
-- Writes   whatever is due
-- Example  FCALL voltage_tick 0
function M.tick(ns, _, argv)
  local document = args.document(argv[1], true)
  local ctx = call.begin(ns, document.now_ms)
  look_around(ctx)
  local drained = 0
  if redis.call("EXISTS", keys.deferred(ns)) == 1 then
    call.accept(ctx)
    drained = transitions.drain(ctx)
    call.finish(ctx)
  end
  local fired, more = ctx.fired or 0, redis.call("EXISTS", keys.deferred(ns)) == 1
  return '{"now_ms":' .. string.format("%.0f", ctx.now) .. ',"fired":' .. fired .. ',"drained":' .. drained
    .. ',"more":' .. tostring(more or fired >= timers.PER_CALL) .. "}"
end

return M
