-- Commands: a ledger. queued -> sent -> acknowledged -> verified, or rejected, failed, mismatch, expired.
local args = require("lib.args")
local call = require("core.call")
local leases = require("comsrv.leases")
local errors = require("lib.errors")
local json = require("lib.json")
local holds = require("comsrv.holds")
local interlocks = require("comsrv.interlocks")
local keys = require("lib.keys")
local limits = require("comsrv.limits")
local numbers = require("lib.numbers")
local overrides = require("comsrv.overrides")
local pages = require("lib.pages")
local records = require("comsrv.records")
local streams = require("lib.streams")
local submission = require("comsrv.submission")
local texts = require("lib.texts")
local timers = require("core.timers")

local M = {}

local SUBMISSION = {
  id = true, channel = true, type = true, point = true, value = true, source = true, priority = true, ttl_ms = true,
  verify = true, authority = true, lease_ms = true, fallback = true, bypass = true, now_ms = true,
}
local CLAIM = { epoch = true, now_ms = true, limit = true, points = true }
local RELEASE = { type = true, point = true, by = true, reason = true, written = true, epoch = true, now_ms = true }
local CHANGE = { type = true, point = true, value = true, epoch = true, now_ms = true }
local MAX_HOLDS = 1000
-- Commands looked through for those of certain points.
local MAX_LOOKED_AT = 100
local COMPLETION = { epoch = true, now_ms = true, id = true, state = true, reason = true, value = true }
local LIST = { channel = true, state = true, limit = true, cursor = true }
local SELECTION = { type = true, point = true, user = true, ttl_ms = true, now_ms = true }

local function load_or_fail(ns, id)
  local command = records.load(ns, id)
  if not command then
    errors.fail("NOTFOUND", "command " .. id)
  end
  return command
end

--- Submit a command.
--
-- The id is the idempotency key: the same id again returns the stored command and queues nothing.
--
-- `lease_ms` holds the point for the source: until it ends, only a source of the same or a higher
-- authority (network, schedule, rule, operator, protection) commands it; then the fall-back is written.
--
-- KEYS[1]  channel
-- ARGV[1]  {id?, type A|C, point, value, source {kind, name}, priority?, ttl_ms?, verify?, authority?, lease_ms? (0: none),
--          fallback?, bypass {by, reason}? (of the interlock), now_ms?}
-- Returns  the command
-- Errors   NOTFOUND  no such channel or point
--          INVALID   a field is wrong, or the value is outside the point's limits (a text point takes a text)
--          STATE     the point is tagged, selected or held by someone else, not selected, or its interlock does not hold
--          LIMIT     1000 commands are queued already, or the point was written too often
-- Writes   comsrv:command:{id}, comsrv:{ch}:queued, comsrv:{ch}:commands, comsrv:{ch}:held
-- Example  FCALL command_submit 1 1001 '{"id":"c1","type":"A","point":1,"value":50,"lease_ms":60000,"source":{"kind":"user","name":"anna"}}'
function M.submit(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, SUBMISSION)
  if document.id ~= nil then
    local stored = records.load(ns, args.id(document.id, "command id"))
    if stored then
      return records.encode(stored)
    end
  end
  local ctx = call.begin(ns, document.now_ms)
  local spec = submission.prepare(ctx, ch, document)
  call.accept(ctx)
  local command = records.enqueue(ctx, ch, spec)
  return call.finish(ctx, records.encode(command))
end

-- Send a command, or end it where it may not leave any more; true when it leaves.
local function give_out(ctx, ch, command)
  local options = submission.options_of(ctx, ch, command)
  local problem = not options and "the point is not declared any more"
    or submission.blocked(ctx, ch, command, options) or submission.worn(ctx, ch, command, options)
  if problem then
    records.move(ctx, command, "rejected", problem)
  elseif (records.expires_at(ctx, command.id) or 0) <= ctx.now then
    records.move(ctx, command, "expired", "its time to live ran out before it was sent")
  else
    records.sent(ctx, ch, command, options)
    return true
  end
  return false
end

local function wanted_points(points)
  if points == nil then
    return nil
  end
  if type(points) ~= "table" or #points == 0 then
    errors.fail("INVALID", "points must be a list of points such as A:1")
  end
  local wanted = {}
  for i = 1, math.min(#points, MAX_LOOKED_AT) do
    wanted[points[i]] = true
  end
  return wanted
end

--- Take queued commands to send them; a taken command is `sent`.
--
-- Expired commands are never returned: their time to live is checked here, against the timer
-- that ends them (it moves with a step of the clock, and many timers may wait for their turn).
--
-- With `points` only commands for those are taken: what can leave with the one before in one request.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, now_ms?, limit?, points ["A:2", ...]?}
-- Returns  list of commands, highest priority first, then oldest
-- Errors   CONFLICT  a newer epoch holds the channel
--          STATE     the lease lapsed
-- Writes   comsrv:command:{id}, comsrv:{ch}:queued, comsrv:{ch}:sent
-- Example  FCALL command_claim 1 1001 '{"epoch":1,"limit":10}'
function M.claim(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, CLAIM)
  local limit = args.integer(document.limit, "limit", 1, 100, 10)
  local ctx = call.begin(ns, document.now_ms)
  leases.check_lease(ctx, ch, document.epoch)
  local wanted = wanted_points(document.points)
  local ids = redis.call("ZRANGE", keys.command_queue(ns, ch), 0, wanted and MAX_LOOKED_AT - 1 or limit - 1)
  local found = {}
  for i = 1, #ids do
    local command = records.load(ns, ids[i])
    if #found < limit and (not wanted or wanted[command.type .. ":" .. command.point]) then
      found[#found + 1] = command
    end
  end
  if #found == 0 then
    return "[]"
  end
  call.accept(ctx)
  local items = {}
  for i = 1, #found do
    if give_out(ctx, ch, found[i]) then
      items[#items + 1] = records.encode(found[i])
    end
  end
  return call.finish(ctx, json.list(items))
end

local OUTCOMES = { "acknowledged", "verified", "rejected", "failed", "mismatch", "expired" }

--- Report what became of a sent command.
--
-- Twice the same outcome is a repeat without effect, so a client that lost the reply calls again.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, id, state, reason?, value? (what the device confirmed), now_ms?}
-- Returns  the command
-- Errors   NOTFOUND  no such command
--          CONFLICT  a newer epoch holds the channel
--          STATE     the command can't go to that state
-- Writes   comsrv:command:{id}; comsrv:{ch}:{C|A} when the device confirmed
-- Example  FCALL command_complete 1 1001 '{"epoch":1,"id":"c1","state":"acknowledged"}'
function M.complete(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, COMPLETION)
  local state = args.choice(document.state, "state", OUTCOMES)
  local reason = args.text(document.reason, "reason", 512)
  local ctx = call.begin(ns, document.now_ms)
  leases.check_epoch(ctx, ch, document.epoch)
  local command = load_or_fail(ns, args.id(document.id, "command id"))
  if command.channel ~= ch then
    errors.fail("NOTFOUND", "command " .. command.id .. " is of channel " .. command.channel)
  end
  if command.state == state then
    return records.encode(command)
  end
  if not records.may_move(command, state) then
    errors.fail("STATE", "command " .. command.id .. " is " .. command.state .. " and can't be " .. state)
  end
  local confirmed = command.value
  if document.value ~= nil then
    confirmed = command.text == "1" and texts.check(document.value, "value") or numbers.format(args.number(document.value, "value"))
  end
  call.accept(ctx)
  if state == "verified" or (state == "acknowledged" and command.verify == "0") then
    records.confirm(ctx, command, confirmed)
  end
  if document.value ~= nil and (state == "verified" or state == "mismatch") then
    command.read_back = confirmed
  end
  records.move(ctx, command, state, reason)
  return call.finish(ctx, records.encode(command))
end

--- A command.
--
-- KEYS[1]  command
-- Returns  the command with its transitions
-- Errors   NOTFOUND  no such command
-- Example  FCALL command_get 1 c1
function M.get(ns, id)
  return records.encode(load_or_fail(ns, args.id(id, "command id")))
end

--- Commands, newest first.
--
-- ARGV[1]  {channel?, state?, limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL command_list 0 '{"channel":1001,"limit":20}'
function M.list(ns, _, argv)
  local filter = args.document(argv[1], true)
  args.only(filter, LIST)
  local channel = filter.channel and args.channel(filter.channel)
  return pages.newest(keys.commands(ns), filter, function(id)
    local command = records.load(ns, id)
    if command and (not channel or command.channel == channel) and (not filter.state or command.state == filter.state) then
      return records.encode(command)
    end
    return nil
  end)
end

--- Select a point before operating it: until it ends, nobody else may command the point.
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, user, ttl_ms?, now_ms?}
-- Returns  {by, until_ms}
-- Errors   STATE  someone else selected it, or its interlock does not hold
-- Writes   comsrv:{ch}:selected
-- Example  FCALL command_select 1 1001 '{"type":"A","point":1,"user":"anna"}'
function M.select(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, SELECTION)
  local point = args.choice(document.type, "type", { "C", "A" }) .. ":" .. args.point(document.point)
  local user = args.text(document.user, "user", 64) or errors.fail("INVALID", "user is missing")
  local ttl = args.integer(document.ttl_ms, "ttl_ms", 1000, submission.MAX_SELECTION_MS, 30000)
  local ctx = call.begin(ns, document.now_ms)
  local found = limits.of(ns, ch, point)
  if found.options.interlock then
    local problem = interlocks.problem(ctx, found.options)
    if problem then
      errors.fail("STATE", problem)
    end
  end
  local holder = submission.selected_by(ctx, ch, point)
  if holder and holder ~= user then
    errors.fail("STATE", point .. " of channel " .. ch .. " is selected by " .. holder)
  end
  call.accept(ctx)
  local reply = json.object({ "by", json.text(user), "until_ms", json.integer(ctx.now + ttl) })
  redis.call("HSET", keys.selected(ns, ch), point, reply)
  return call.finish(ctx, reply)
end

--- Give a held point back before its time: its fall-back is written now.
--
-- With `written` and the channel's epoch, comsrv says that it wrote the fall-back itself (Redis was away).
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, by {kind, name}, reason?, written?, epoch?, now_ms?}
-- Returns  {point, command (the fall-back on its way, or null)}
-- Errors   STATE     nobody holds it, or a source of higher authority does
--          CONFLICT  a newer epoch holds the channel
-- Writes   comsrv:{ch}:held, comsrv:command:{id}
-- Example  FCALL command_release 1 1001 '{"type":"A","point":1,"by":{"kind":"user","name":"anna"}}'
function M.release(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, RELEASE)
  local kind, number = args.choice(document.type, "type", { "C", "A" }), args.point(document.point)
  local point, by = kind .. ":" .. number, args.object(document.by, "by")
  local reason = args.text(document.reason, "reason", 512)
  local ctx = call.begin(ns, document.now_ms)
  local hold = holds.of(ctx, ch, point)
  if not hold then
    errors.fail("STATE", "nobody holds " .. point .. " of channel " .. ch)
  end
  if document.written ~= nil then
    leases.check_epoch(ctx, ch, document.epoch)
    local value = args.number(document.written, "written")
    call.accept(ctx)
    holds.drop(ctx, ch, point, hold, reason or "comsrv wrote the fall-back")
    ctx.confirm(ctx, ch, kind, number, numbers.format(value))
    return call.finish(ctx, json.object({ "point", json.text(point), "command", "null" }))
  end
  local authority = holds.authority(by.kind) or errors.fail("INVALID", "by.kind is unknown")
  if not holds.own(hold, by.kind, by.name) and not holds.yields(hold, authority, 100) then
    errors.fail("STATE", point .. " is " .. holds.describe(hold))
  end
  call.accept(ctx)
  timers.cancel(ns, "release", ch .. "|" .. point)
  local command = records.release(ctx, ch .. "|" .. point)
  return call.finish(ctx, json.object({
    "point", json.text(point), "command", command and records.encode(command) or "null",
  }))
end

--- Who holds points of a channel.
--
-- KEYS[1]  channel
-- Returns  {items: [{point, by, authority, value, fallback, command, until_ms}]}, at most 1000
-- Example  FCALL_RO command_holds 1 1001
function M.holds(ns, id)
  local ch = args.channel(id)
  local points = redis.call("HKEYS", keys.held(ns, ch))
  table.sort(points)
  local items = {}
  for i = 1, math.min(#points, MAX_HOLDS) do
    items[i] = holds.encode(ns, ch, points[i], redis.call("HGET", keys.held(ns, ch), points[i]))
  end
  return json.object({ "items", json.list(items) })
end

--- A device shows another value than the one it confirmed: another master wrote it.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, type, point, value, now_ms?}
-- Returns  {point, value, was}
-- Errors   NOTFOUND  no such point
--          CONFLICT  a newer epoch holds the channel
-- Writes   comsrv:{ch}:{C|A}, comsrv:journal, voltage:events
-- Example  FCALL point_overwritten 1 1001 '{"epoch":1,"type":"A","point":1,"value":12.5}'
function M.overwritten(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, CHANGE)
  local kind, number = args.choice(document.type, "type", { "C", "A" }), args.point(document.point)
  local value = numbers.format(args.number(document.value, "value"))
  local point = kind .. ":" .. number
  local ctx = call.begin(ns, document.now_ms)
  leases.check_epoch(ctx, ch, document.epoch)
  limits.of(ns, ch, point)
  local was = redis.call("HGET", keys.values(ns, ch, kind), number) or "null"
  call.accept(ctx)
  ctx.confirm(ctx, ch, kind, number, value)
  overrides.journal(ctx, ch, point, "overwritten", "another master", "it was " .. was, value)
  streams.event(ns, ctx.now, "overwritten", "comsrv:" .. ch .. ":" .. point .. " from " .. was .. " to " .. value)
  return call.finish(ctx, json.object({ "point", json.text(point), "value", value, "was", was }))
end

return M
