-- A command's record: how it is checked, stored, moved from state to state, and confirmed.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local limits = require("comsrv.limits")
local numbers = require("lib.numbers")
local streams = require("lib.streams")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")

local M = {}

M.MAX_QUEUED = 1000
M.MAX_KEPT = 10000
M.DEFAULT_TTL_MS = 10000
M.MAX_TTL_MS = 600000
M.MAX_SELECTION_MS = 600000
local SOURCES = { "user", "rule", "model", "network" }

-- From a state to the states that may follow it.
local NEXT = {
  queued = { sent = true, expired = true, rejected = true },
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

--- A record as its JSON document.
function M.encode(command)
  return json.object({
    "id", json.text(command.id), "channel", command.channel, "type", json.text(command.type), "point", command.point,
    "value", command.value,
    "source", json.object({ "kind", json.text(command.source_kind), "name", json.text(command.source_name) }),
    "priority", command.priority, "ttl_ms", command.ttl_ms, "verify", command.verify == "1" and "true" or "false",
    "state", json.text(command.state), "reason", command.reason and json.text(command.reason) or "null",
    "read_back", command.read_back or "null", "created_at_ms", command.created_at_ms,
    "expires_at_ms", command.expires_at_ms, "final", M.final(command) and "true" or "false",
    "transitions", "[" .. command.transitions .. "]",
  })
end

--- When the timer ends the command, or nil when it has.
function M.expires_at(ctx, id)
  return timers.due_at(ctx.ns, "command", id)
end

--- Who holds a point by select-before-operate, or nil.
function M.selected_by(ctx, ch, point)
  local text = redis.call("HGET", keys.selected(ctx.ns, ch), point)
  local selection = text and cjson.decode(text)
  -- One that would last longer than any may is from before the clock was set back.
  local left = selection and selection.until_ms - ctx.now or 0
  return left > 0 and left <= M.MAX_SELECTION_MS and selection.by or nil
end

--- Why a command may not go out now (a tag, a selection), or nil.
function M.blocked(ctx, ch, command)
  local point = command.type .. ":" .. command.point
  local text = redis.call("HGET", keys.tags(ctx.ns, ch), point)
  local tag = text and cjson.decode(text)
  if tag and (not tag.until_ms or tag.until_ms > ctx.now) then
    return point .. " has a " .. tag.kind .. " tag of " .. tag.by .. ": " .. tag.reason
  end
  local holder = M.selected_by(ctx, ch, point)
  if holder and holder ~= command.source_name then
    return point .. " is selected by " .. holder
  end
  return nil
end

--- Check a submission whole; returns the record to be, nothing is written.
function M.prepare(ctx, ch, document)
  local kind = args.choice(document.type, "type", { "A", "C" })
  local point = args.point(document.point)
  local value = args.number(document.value, "value")
  limits.check(limits.of(ctx.ns, ch, kind .. ":" .. point), value)
  local source = type(document.source) == "table" and document.source or { kind = "user", name = "redis-cli" }
  if document.verify ~= nil and type(document.verify) ~= "boolean" then
    errors.fail("INVALID", "verify must be true or false")
  end
  local command = {
    id = document.id and args.id(document.id, "command id"), channel = ch, type = kind, point = point,
    value = numbers.format(value), verify = document.verify == false and "0" or "1",
    source_kind = args.choice(source.kind or "user", "source.kind", SOURCES),
    source_name = args.text(source.name, "source.name", 64) or "",
    priority = string.format("%.0f", args.integer(document.priority, "priority", 0, 100, 50)),
    ttl_ms = string.format("%.0f", args.integer(document.ttl_ms, "ttl_ms", 1, M.MAX_TTL_MS, M.DEFAULT_TTL_MS)),
  }
  local problem = M.blocked(ctx, ch, command)
  if problem then
    errors.fail("STATE", problem)
  end
  if redis.call("ZCARD", keys.command_queue(ctx.ns, ch)) >= M.MAX_QUEUED then
    errors.fail("LIMIT", "channel " .. ch .. " has " .. M.MAX_QUEUED .. " commands queued")
  end
  return command
end

--- Check what a rule's action asks for. Returns channel, record, problem; never stops the call.
function M.of_rule(ctx, rule, params)
  local ch, kind, point = params.channel, params.type, params.point
  if params.target then
    ch, kind, point = limits.target(ctx.graph, params.target)
    if not ch then
      return nil, nil, params.target .. " is no point that can be commanded"
    end
  end
  local ok, found = pcall(function()
    ch = args.channel(ch)
    return M.prepare(ctx, ch, {
      type = kind, point = point, value = params.value, priority = params.priority, ttl_ms = params.ttl_ms,
      verify = params.verify, source = { kind = "rule", name = rule },
    })
  end)
  if not ok then
    return nil, nil, type(found) == "table" and found.code and (found.code .. " " .. found.message) or tostring(found)
  end
  return ch, found, nil
end

local function note(command, state, at, reason)
  local entry = json.object({
    "state", json.text(state), "at_ms", json.integer(at), "reason", reason and json.text(reason),
  })
  command.transitions = command.transitions and (command.transitions .. "," .. entry) or entry
  command.state, command.reason = state, reason
end

local function keep(ctx, command)
  local flat = {}
  for name, value in pairs(command) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call("HSET", keys.command(ctx.ns, command.id), unpack(flat))
  redis.call("PUBLISH", keys.command_changed(ctx.ns), M.encode(command))
end

local function journal(ctx, command)
  streams.append(
    ctx.ns, keys.operations(ctx.ns), "at_ms", string.format("%.0f", ctx.now), "what", "command",
    "id", command.id, "point", "comsrv:" .. command.channel .. ":" .. command.type .. ":" .. command.point,
    "value", command.value, "state", command.state, "reason", command.reason or "",
    "by", command.source_kind .. ":" .. command.source_name
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

--- Store and queue a checked command.
function M.enqueue(ctx, ch, command)
  ctx.commands = (ctx.commands or 0) + 1
  command.id = command.id or ("cmd-" .. ctx.image .. "-" .. ctx.commands)
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
  forget_oldest(ctx)
  return command
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

--- The device confirmed a value: it becomes the point's value.
function M.confirm(ctx, command, value)
  ctx.confirm(ctx, command.channel, command.type, command.point, numbers.format(value))
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
