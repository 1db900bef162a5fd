-- Channels: their definitions, and who polls them.
local args = require("lib.args")
local blocks = require("comsrv.blocks")
local call = require("core.call")
local calculations = require("core.calculations")
local derived = require("core.derived")
local errors = require("lib.errors")
local graphs = require("core.graph")
local ingest = require("comsrv.ingest")
local json = require("lib.json")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local pages = require("lib.pages")
local records = require("comsrv.records")
local system_alarms = require("core.system_alarms")
local tables = require("comsrv.tables")

local M = {}

local MIN_LEASE_MS = 3000
local MAX_LEASE_MS = 3600000

local CLAIM = { owner = true, interval_ms = true, now_ms = true }
local RENEWAL = { epoch = true, now_ms = true, state = true, seen = true, units = true, counters = true }
local RELEASE = { epoch = true, now_ms = true, counters = true }

--- Create or change a channel's definition.
--
-- KEYS[1]  channel
-- ARGV[1]  {id, name, protocol, enabled, interval_ms, parameters, polling, points: {T: [{id, name, min, max, program, ...}], S, C, A}}
-- Returns  the definition, byte for byte as it came
-- Errors   INVALID  a field is wrong
-- Writes   comsrv:channel:{ch}, comsrv:channels, comsrv:{ch}:programs, comsrv:{ch}:writable
-- Example  FCALL channel_upsert 1 1001 '{"name":"Feeder","protocol":"virtual","points":{"T":[{"id":1}],"A":[{"id":1,"max":100}]}}'
function M.upsert(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  if document.id ~= nil and args.channel(document.id) ~= ch then
    errors.fail("INVALID", "id " .. tostring(document.id) .. " is not the key's channel " .. ch)
  end
  if type(document.name) ~= "string" or type(document.protocol) ~= "string" then
    errors.fail("INVALID", "name and protocol must be texts")
  end
  local found = tables.examine(document)
  local ctx = call.begin(ns)
  call.accept(ctx)
  redis.call("SET", keys.channel(ns, ch), argv[1])
  redis.call("SADD", keys.channels(ns), ch)
  tables.store(ns, ch, found)
  tables.forget(ctx, ch, found.ids)
  if next(found.programs) or ctx.graph.calcs["comsrv:" .. ch] then
    derived.put_programs(ctx.graph, ch, found.programs)
    graphs.changed(ctx.graph)
    calculations.recalculate(ctx, ch)
  end
  return call.finish(ctx, argv[1])
end

--- A channel's definition.
--
-- KEYS[1]  channel
-- Returns  the document
-- Errors   NOTFOUND  no such channel
-- Example  FCALL channel_get 1 1001
function M.get(ns, id)
  local ch = args.channel(id)
  return redis.call("GET", keys.channel(ns, ch)) or errors.fail("NOTFOUND", "channel " .. ch)
end

--- Channels by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL channel_list 0
function M.list(ns, _, argv)
  return pages.sorted(keys.channels(ns), args.document(argv[1], true), function(ch)
    return redis.call("GET", keys.channel(ns, ch))
  end)
end

--- Delete a channel with its points and queued commands; alarms and history stay.
--
-- KEYS[1]  channel
-- Returns  {deleted: channel}
-- Errors   NOTFOUND  no such channel
-- Writes   every comsrv:{ch}:... key; only the epoch stays, in comsrv:{ch}:status
-- Example  FCALL channel_delete 1 1001
function M.delete(ns, id)
  local ch = args.channel(id)
  if redis.call("EXISTS", keys.channel(ns, ch)) == 0 then
    errors.fail("NOTFOUND", "channel " .. ch)
  end
  local ctx = call.begin(ns)
  call.accept(ctx)
  leases.lapse(ctx, ch, ctx.now, "deleted")
  records.orphan(ctx, ch)
  local queued = redis.call("ZRANGE", keys.command_queue(ns, ch), 0, -1)
  for i = 1, #queued do
    records.move(ctx, records.load(ns, queued[i]), "rejected", "the channel was deleted")
  end
  derived.put_programs(ctx.graph, ch, {})
  tables.forget(ctx, ch, { T = {}, S = {}, C = {}, A = {}, X = {} })
  redis.call(
    "DEL", keys.channel(ns, ch), keys.programs(ns, ch), keys.writable(ns, ch), keys.points(ns, ch),
    keys.seen(ns, ch), keys.sequence(ns, ch),
    keys.command_stream(ns, ch), keys.command_sent(ns, ch), keys.selected(ns, ch), keys.tags(ns, ch),
    keys.substituted(ns, ch), keys.channel_ledger(ns, ch), keys.command_states(ns, ch)
  )
  -- The epoch stays: one that was given is never given again, also where the channel comes back.
  local epoch = redis.call("HGET", keys.status(ns, ch), "epoch")
  redis.call("DEL", keys.status(ns, ch))
  if epoch then
    redis.call("HSET", keys.status(ns, ch), "epoch", epoch)
  end
  redis.call("SREM", keys.channels(ns), ch)
  graphs.changed(ctx.graph)
  return call.finish(ctx, '{"deleted":' .. ch .. "}")
end

--- Take a channel: one comsrv holds it, under an epoch one higher than the last.
--
-- KEYS[1]  channel
-- ARGV[1]  {owner, interval_ms, now_ms?}
-- Returns  {epoch, lease_ms}; the claimer then sends every point
-- Errors   CONFLICT  another owner's lease lives
-- Writes   comsrv:{ch}:status, comsrv:{ch}:seq; commands that were sent end as failed: unknown outcome
-- Example  FCALL channel_claim 1 1001 '{"owner":"me","interval_ms":1000}'
function M.claim(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, CLAIM)
  local owner = args.text(document.owner, "owner", 128) or errors.fail("INVALID", "owner is missing")
  local interval = args.integer(document.interval_ms, "interval_ms", 1, MAX_LEASE_MS, 1000)
  local ctx = call.begin(ns, document.now_ms)
  local status = keys.status(ns, ch)
  local held = redis.call("HMGET", status, "leased", "owner")
  if held[1] == "1" and held[2] ~= owner then
    errors.fail("CONFLICT", "channel " .. ch .. " is held by " .. held[2])
  end
  call.accept(ctx)
  local lease = math.min(math.max(MIN_LEASE_MS, 3 * interval), MAX_LEASE_MS)
  local epoch = redis.call("HINCRBY", status, "epoch", 1)
  redis.call(
    "HSET", status, "owner", owner, "leased", "1", "lease_ms", string.format("%.0f", lease), "state", "starting",
    "since_ms", string.format("%.0f", ctx.now)
  )
  redis.call("DEL", keys.sequence(ns, ch))
  leases.extend(ctx, ch, lease)
  records.orphan(ctx, ch)
  calculations.recalculate(ctx, ch)
  return call.finish(ctx, '{"epoch":' .. epoch .. ',"lease_ms":' .. string.format("%.0f", lease) .. "}")
end

local STATES = { "starting", "running", "degraded", "down", "standby", "stopped" }

-- What the units say is wrong, or that there is no connection.
local function why(units)
  local reasons = {}
  for _, unit in pairs(units or {}) do
    if type(unit) == "table" and type(unit.problem) == "string" and unit.problem ~= "" then
      reasons[#reasons + 1] = string.sub(unit.problem, 1, 128)
    end
  end
  table.sort(reasons)
  return reasons[1] or "not connected"
end

-- The alarms of a channel and its units follow its state. Costs one comparison while nothing changes.
local function follow(ctx, ch, state, before, units)
  if state and state ~= before.state then
    redis.call("HSET", keys.status(ctx.ns, ch), "state", state, "since_ms", string.format("%.0f", ctx.now))
    system_alarms.channel(ctx, ch, state, why(units))
  end
  local text = units and cjson.encode(units)
  if text and (text ~= before.units or state ~= before.state) then
    redis.call("HSET", keys.status(ctx.ns, ch), "units", text)
    system_alarms.units(ctx, ch, cjson.decode(before.units or "{}"), units)
  end
end

--- Keep the lease, and say what went on since: blocks seen unchanged, state, counters.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, state?, seen: {block: at_ms}?, units: {unit: {...}}?, counters?, now_ms?}
-- Returns  {seq, resend}: where resend is true every point must be sent again
-- Errors   CONFLICT  a newer epoch holds the channel
--          STATE     the lease lapsed, claim again
-- Writes   comsrv:{ch}:status, comsrv:{ch}:seen, comsrv:{ch}:ledger, voltage:ledger
-- Example  FCALL channel_renew 1 1001 '{"epoch":1,"state":"running"}'
function M.renew(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, RENEWAL)
  local state = document.state ~= nil and args.choice(document.state, "state", STATES) or nil
  blocks.check_counters(document.counters)
  local seen, newest = {}, 0
  args.object(document.units, "units")
  for block, at in pairs(args.object(document.seen, "seen")) do
    seen[#seen + 1] = args.text(block, "seen", 64)
    seen[#seen + 1] = string.format("%.0f", args.integer(at, "seen." .. block, 0, 9007199254740991))
    newest = math.max(newest, at)
  end
  local ctx = call.begin(ns, document.now_ms)
  leases.check_lease(ctx, ch, document.epoch)
  call.accept(ctx)
  local status = keys.status(ns, ch)
  local before = redis.call("HMGET", status, "state", "units", "lease_ms", "behind")
  local lease_ms = tonumber(before[3])
  leases.extend(ctx, ch, lease_ms)
  if #seen > 0 then
    redis.call("HSET", keys.seen(ns, ch), unpack(seen))
  end
  if before[4] and ctx.now - newest <= lease_ms then
    leases.fall_behind(ctx, ch, false)
  end
  follow(ctx, ch, state, { state = before[1], units = before[2] or nil }, document.units)
  ingest.count(ctx, ch, document.counters, 0)
  local resend = redis.call("HDEL", status, "resend") == 1
  return call.finish(ctx, '{"seq":' .. ctx.image .. ',"resend":' .. tostring(resend) .. "}")
end

--- Give a channel back at an orderly stop; its points become bad:stale at once.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, counters?, now_ms?}
-- Returns  {seq}
-- Errors   CONFLICT  a newer epoch holds the channel
-- Writes   comsrv:{ch}:status, the quality of its points, voltage:ledger
-- Example  FCALL channel_release 1 1001 '{"epoch":1}'
function M.release(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, RELEASE)
  blocks.check_counters(document.counters)
  local ctx = call.begin(ns, document.now_ms)
  leases.check_epoch(ctx, ch, document.epoch)
  call.accept(ctx)
  leases.lapse(ctx, ch, ctx.now, "stopped")
  ingest.count(ctx, ch, document.counters, 0)
  return call.finish(ctx, '{"seq":' .. ctx.image .. "}")
end

--- A channel's state.
--
-- KEYS[1]  channel
-- Returns  {channel, state, since_ms, epoch, owner, leased, lease_ms, lease_until_ms, units, seen}
-- Errors   NOTFOUND  no such channel
-- Example  FCALL comsrv_status 1 1001
function M.status(ns, id)
  local ch = args.channel(id)
  local found = redis.call("HGETALL", keys.status(ns, ch))
  local status = {}
  for i = 1, #found, 2 do
    status[found[i]] = found[i + 1]
  end
  if not status.state and redis.call("EXISTS", keys.channel(ns, ch)) == 0 then
    errors.fail("NOTFOUND", "channel " .. ch)
  end
  local seen, parts = redis.call("HGETALL", keys.seen(ns, ch)), {}
  for i = 1, #seen, 2 do
    parts[#parts + 1] = json.text(seen[i]) .. ":" .. seen[i + 1]
  end
  return json.object({
    "channel", ch, "state", json.text(status.state or "unclaimed"), "since_ms", status.since_ms or "null",
    "epoch", status.epoch or "0", "owner", status.owner and json.text(status.owner) or "null",
    "leased", status.leased == "1" and "true" or "false", "lease_ms", status.lease_ms or "null",
    "lease_until_ms", redis.call("ZSCORE", keys.timers(ns), "lease|" .. ch) or "null",
    "units", status.units or "{}", "seen", "{" .. table.concat(parts, ",") .. "}",
  })
end

return M
