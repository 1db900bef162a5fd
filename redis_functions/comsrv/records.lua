-- A command's record: how it is stored, moved from state to state, and confirmed.
local json = require("lib.json")
local keys = require("lib.keys")
local holds = require("comsrv.holds")
local numbers = require("lib.numbers")
local replay = require("core.replay")
local specials = require("core.specials")
local streams = require("lib.streams")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")
local wear = require("comsrv.wear")

local M = {}

M.MAX_QUEUED = 1000
M.MAX_KEPT = 10000
M.MAX_TTL_MS = 600000

-- From a state to the states that may follow it.
local NEXT = {
  queued = { sent = true, expired = true, rejected = true, superseded = true },
  sent = { acknowledged = true, rejected = true, failed = true, expired = true },
  acknowledged = { verified = true, mismatch = true, failed = true },
}

--- True when the command's state may follow its present one.
function M.may_move(command, state)
  if command.state == "acknowledged" and command.verify == "0" then
    return false
  end
  local following = NEXT[command.state]
  return following ~= nil and following[state] == true
end

--- True when nothing follows.
function M.final(command)
  return NEXT[command.state] == nil or (command.state == "acknowledged" and command.verify == "0")
end

--- The record of an id, or nil.
function M.load(ns, id)
  local found = redis.call("HGETALL", keys.command(ns, id))
  if #found == 0 then
    return nil
  end
  local command = {}
  for i = 1, #found, 2 do
    command[found[i]] = found[i + 1]
  end
  return command
end

-- A value of a command as JSON: a number as it was formatted, or a text.
local function shown(command, value)
  return command.text == "1" and json.text(value) or value
end

--- A record as its JSON document.
function M.encode(command)
  return json.object({
    "id", json.text(command.id), "channel", command.channel, "type", json.text(command.type), "point", command.point,
    "value", shown(command, command.value),
    "source", json.object({ "kind", json.text(command.source_kind), "name", json.text(command.source_name) }),
    "authority", json.text(command.authority or "operator"), "priority", command.priority, "ttl_ms", command.ttl_ms,
    "verify", command.verify == "1" and "true" or "false",
    "state", json.text(command.state), "reason", command.reason and json.text(command.reason) or "null",
    "read_back", command.read_back and shown(command, command.read_back) or "null", "created_at_ms", command.created_at_ms,
    "expires_at_ms", command.expires_at_ms,
    "lease_ms", command.lease_ms or "null",
    "fallback", command.fallback or "null",
    "bypass", command.bypass_by and json.object({
      "by", json.text(command.bypass_by), "reason", json.text(command.bypass_reason),
    }) or "null", "final", M.final(command) and "true" or "false",
    "transitions", "[" .. command.transitions .. "]",
  })
end

--- When the timer ends the command, or nil when it has.
function M.expires_at(ctx, id)
  return timers.due_at(ctx.ns, "command", id)
end

local function note(command, state, at, reason)
  local entry = json.object({
    "state", json.text(state), "at_ms", json.integer(at), "reason", reason and json.text(reason),
  })
  command.transitions = command.transitions and (command.transitions .. "," .. entry) or entry
  command.state, command.reason = state, reason
end

-- The newest command of a point is what conditions see of it.
local function note_state(ctx, command)
  local ch, point = command.channel, command.type .. ":" .. command.point
  local states, newest = keys.command_states(ctx.ns, ch), point .. ":id"
  if command.state == "queued" then
    redis.call("HSET", states, newest, command.id, point, command.state)
  elseif redis.call("HGET", states, newest) == command.id then
    redis.call("HSET", states, point, command.state)
  else
    return
  end
  specials.changed(ctx, "command:" .. ch .. ":" .. point, ctx.now)
end

local function keep(ctx, command)
  local flat = {}
  for name, value in pairs(command) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call("HSET", keys.command(ctx.ns, command.id), unpack(flat))
  note_state(ctx, command)
  redis.call("PUBLISH", keys.command_changed(ctx.ns), M.encode(command))
end

local function point_of(command)
  return "comsrv:" .. command.channel .. ":" .. command.type .. ":" .. command.point
end

local function by_of(command)
  return command.source_kind .. ":" .. command.source_name
end

local function journal(ctx, command)
  streams.append(
    ctx.ns, keys.operations(ctx.ns), "at_ms", string.format("%.0f", ctx.now), "what", "command",
    "id", command.id, "point", point_of(command),
    "value", command.value, "state", command.state,
    "reason", command.reason or (command.bypass_by and "interlock bypassed by " .. command.bypass_by .. ": " .. command.bypass_reason)
      or "",
    "by", by_of(command)
  )
end

-- The list of commands is bounded; one that is not final is never forgotten.
local function forget_oldest(ctx)
  if redis.call("ZCARD", keys.commands(ctx.ns)) <= M.MAX_KEPT then
    return
  end
  local oldest = redis.call("ZRANGE", keys.commands(ctx.ns), 0, 1)
  for i = 1, #oldest do
    local command = M.load(ctx.ns, oldest[i])
    if not command or M.final(command) then
      redis.call("DEL", keys.command(ctx.ns, oldest[i]))
      redis.call("ZREM", keys.commands(ctx.ns), oldest[i])
    end
  end
end

-- Where only the latest counts, a command that still waits gives way to a newer one for its point.
local function supersede(ctx, ch, command)
  local point = command.type .. ":" .. command.point
  local waiting = redis.call("HGET", keys.latest(ctx.ns, ch), point)
  local older = waiting and M.load(ctx.ns, waiting)
  if older and older.state == "queued" then
    M.move(ctx, older, "superseded", "by " .. command.id .. ", which is newer")
  end
  redis.call("HSET", keys.latest(ctx.ns, ch), point, command.id)
end

--- Store and queue a checked command.
function M.enqueue(ctx, ch, command)
  ctx.commands = (ctx.commands or 0) + 1
  command.id = command.id or replay.id(
    ctx.ns, "command|" .. by_of(command) .. "|" .. point_of(command), "cmd-" .. ctx.image .. "-" .. ctx.commands
  )
  if command.latest_only then
    supersede(ctx, ch, command)
    command.latest_only = nil
  end
  local expires = ctx.now + tonumber(command.ttl_ms)
  command.created_at_ms = string.format("%.0f", ctx.now)
  command.expires_at_ms = string.format("%.0f", expires)
  note(command, "queued", ctx.now)
  keep(ctx, command)
  -- Highest priority first, then the order of acceptance.
  local rank = (100 - tonumber(command.priority)) * 1e13 + (ctx.image % 1e10) * 1000 + ctx.commands % 1000
  redis.call("ZADD", keys.command_queue(ctx.ns, ch), string.format("%.0f", rank), command.id)
  redis.call("ZADD", keys.commands(ctx.ns), command.created_at_ms, command.id)
  timers.set(ctx.ns, expires, "command", command.id)
  redis.call("XADD", keys.command_stream(ctx.ns, ch), "MAXLEN", M.MAX_QUEUED, "*", "id", command.id, "state", "queued")
  journal(ctx, command)
  if command.source_kind ~= "system" then
    holds.take(ctx, ch, command)
  end
  forget_oldest(ctx)
  return command
end

--- The time of a hold is over: its fall-back goes out, where it has one.
function M.release(ctx, id)
  local ch, kind, point, hold = holds.over(ctx, id)
  if not ch or hold.fallback == cjson.null or redis.call("SISMEMBER", keys.channels(ctx.ns), ch) == 0 then
    return nil
  end
  return M.enqueue(ctx, ch, {
    channel = ch, type = kind, point = point, value = numbers.format(hold.fallback), verify = "1",
    source_kind = "system", source_name = "fall-back", authority = "protection", priority = "100",
    ttl_ms = string.format("%.0f", M.MAX_TTL_MS),
  })
end

--- A command leaves: what it takes of the point's budget, and the selection it was made under.
function M.sent(ctx, ch, command, options)
  local point = command.type .. ":" .. command.point
  M.move(ctx, command, "sent")
  wear.count(ctx, ch, point, options)
  if options.select then
    redis.call("HDEL", keys.selected(ctx.ns, ch), point)
  end
end

-- How a command ends that did not do what it was sent for.
local FAILED = { failed = true, mismatch = true, expired = true }

--- Move a command to a state and everything that depends on it.
function M.move(ctx, command, state, reason)
  local before = command.state
  note(command, state, ctx.now, reason)
  local ns, ch = ctx.ns, command.channel
  redis.call("ZREM", keys.command_queue(ns, ch), command.id)
  if state == "sent" or (state == "acknowledged" and command.verify == "1") then
    redis.call("SADD", keys.command_sent(ns, ch), command.id)
  else
    redis.call("SREM", keys.command_sent(ns, ch), command.id)
  end
  if state ~= "queued" then
    timers.cancel(ns, "command", command.id)
  end
  keep(ctx, command)
  if M.final(command) then
    journal(ctx, command)
  end
  if FAILED[state] or (state == "rejected" and before == "sent") then
    system_alarms.note(ctx, "command", ch .. ":" .. command.type .. ":" .. command.point, reason or state)
  end
end

--- The device confirmed a value, as text: it becomes the point's value. Texts stand apart from numbers.
function M.confirm(ctx, command, value)
  ctx.confirm(ctx, command.channel, command.text == "1" and "X" or command.type, command.point, value)
end

--- The timer of a queued command: it never goes out.
function M.expire(ctx, id)
  local command = M.load(ctx.ns, id)
  if command and command.state == "queued" then
    M.move(ctx, command, "expired", "its time to live ran out before it was sent")
  end
end

--- A new epoch begins: what was sent under the old one has an outcome nobody knows.
function M.orphan(ctx, ch)
  local ids = redis.call("SMEMBERS", keys.command_sent(ctx.ns, ch))
  table.sort(ids)
  for i = 1, #ids do
    local command = M.load(ctx.ns, ids[i])
    if command then
      M.move(ctx, command, "failed", "unknown outcome: comsrv stopped between send and answer")
    end
  end
end

return M
