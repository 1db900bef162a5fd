-- Commands: a ledger. queued -> sent -> acknowledged -> verified, or rejected, failed, mismatch, expired.
local args = require("lib.args")
local call = require("core.call")
local leases = require("comsrv.leases")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local limits = require("comsrv.limits")
local numbers = require("lib.numbers")
local pages = require("lib.pages")
local records = require("comsrv.records")

local M = {}

local SUBMISSION = {
  id = true, channel = true, type = true, point = true, value = true, source = true, priority = true, ttl_ms = true,
  verify = true, now_ms = true,
}
local CLAIM = { epoch = true, now_ms = true, limit = true }
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
-- KEYS[1]  channel
-- ARGV[1]  {id?, type A|C, point, value, source {kind, name}, priority?, ttl_ms?, verify?, now_ms?}
-- Returns  the command
-- Errors   NOTFOUND  no such channel or point
--          INVALID   a field is wrong, or the value is outside the point's limits
--          STATE     the point is tagged, or selected by someone else
--          LIMIT     1000 commands are queued already
-- Writes   comsrv:command:{id}, comsrv:{ch}:queued, comsrv:{ch}:commands
-- Example  FCALL command_submit 1 1001 '{"id":"c1","type":"A","point":1,"value":50,"source":{"kind":"user","name":"anna"}}'
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
  local spec = records.prepare(ctx, ch, document)
  call.accept(ctx)
  local command = records.enqueue(ctx, ch, spec)
  return call.finish(ctx, records.encode(command))
end

--- Take queued commands to send them; a taken command is `sent`.
--
-- Expired commands are never returned: their time to live is checked here, against the timer
-- that ends them (it moves with a step of the clock, and many timers may wait for their turn).
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, now_ms?, limit?}
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
  local ids = redis.call("ZRANGE", keys.command_queue(ns, ch), 0, limit - 1)
  if #ids == 0 then
    return "[]"
  end
  call.accept(ctx)
  local items = {}
  for i = 1, #ids do
    local command = records.load(ns, ids[i])
    local problem = records.blocked(ctx, ch, command)
    if problem then
      records.move(ctx, command, "rejected", problem)
    elseif (records.expires_at(ctx, command.id) or 0) <= ctx.now then
      records.move(ctx, command, "expired", "its time to live ran out before it was sent")
    else
      records.move(ctx, command, "sent")
      items[#items + 1] = records.encode(command)
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
  local confirmed = document.value ~= nil and args.number(document.value, "value") or tonumber(command.value)
  call.accept(ctx)
  if state == "verified" or (state == "acknowledged" and command.verify == "0") then
    records.confirm(ctx, command, confirmed)
  end
  if document.value ~= nil and (state == "verified" or state == "mismatch") then
    command.read_back = numbers.format(confirmed)
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
-- Errors   STATE  someone else selected it
-- Writes   comsrv:{ch}:selected
-- Example  FCALL command_select 1 1001 '{"type":"A","point":1,"user":"anna"}'
function M.select(ns, id, argv)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, SELECTION)
  local point = args.choice(document.type, "type", { "C", "A" }) .. ":" .. args.point(document.point)
  local user = args.text(document.user, "user", 64) or errors.fail("INVALID", "user is missing")
  local ttl = args.integer(document.ttl_ms, "ttl_ms", 1000, records.MAX_SELECTION_MS, 30000)
  local ctx = call.begin(ns, document.now_ms)
  limits.of(ns, ch, point)
  local holder = records.selected_by(ctx, ch, point)
  if holder and holder ~= user then
    errors.fail("STATE", point .. " of channel " .. ch .. " is selected by " .. holder)
  end
  call.accept(ctx)
  local reply = json.object({ "by", json.text(user), "until_ms", json.integer(ctx.now + ttl) })
  redis.call("HSET", keys.selected(ns, ch), point, reply)
  return call.finish(ctx, reply)
end

return M
