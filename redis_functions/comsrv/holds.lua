-- Who holds a point: a source that commands it for a time, after which its fall-back is written.
local json = require("lib.json")
local keys = require("lib.keys")
local overrides = require("comsrv.overrides")
local timers = require("core.timers")

local M = {}

-- What a source may do, lowest first: a lower one does not command what a higher one holds.
M.AUTHORITIES = { "network", "schedule", "rule", "operator", "protection" }
local RANK = { network = 1, schedule = 2, rule = 3, operator = 4, protection = 5 }
local OF_SOURCE = {
  network = "network", schedule = "schedule", rule = "rule", model = "operator", user = "operator",
  protection = "protection", system = "protection",
}

--- The authority of a kind of source.
function M.authority(source_kind)
  return OF_SOURCE[source_kind]
end

-- Authority first, then priority.
local function rank(authority, priority)
  return RANK[authority] * 1000 + tonumber(priority)
end

--- The hold of a point ("A:1"), or nil. One whose timer is gone is over.
function M.of(ctx, ch, point)
  local text = redis.call("HGET", keys.held(ctx.ns, ch), point)
  local due = text and timers.due_at(ctx.ns, "release", ch .. "|" .. point)
  if not due or due <= ctx.now then
    return nil
  end
  local hold = cjson.decode(text)
  hold.until_ms = due
  return hold
end

--- True when the hold is the source's own.
function M.own(hold, kind, name)
  return hold.kind == kind and hold.name == name
end

--- True when the hold gives way to a command of this authority and priority.
function M.yields(hold, authority, priority)
  return rank(authority, priority) >= hold.rank
end

--- In words: who holds it until when.
function M.describe(hold)
  return "held by " .. hold.kind .. " " .. hold.name .. " (" .. hold.authority .. ") until " .. json.integer(hold.until_ms)
end

local function by(hold)
  return hold.kind .. ":" .. hold.name
end

--- A point's hold ends without its fall-back: another source took over, or it was written already.
function M.drop(ctx, ch, point, hold, reason)
  redis.call("HDEL", keys.held(ctx.ns, ch), point)
  timers.cancel(ctx.ns, "release", ch .. "|" .. point)
  overrides.journal(ctx, ch, point, "released", by(hold), reason)
end

--- A command that asks for it holds its point from now on; one of another source ends a hold that gave way.
function M.take(ctx, ch, command)
  local point = command.type .. ":" .. command.point
  local before = M.of(ctx, ch, point)
  local own = before and M.own(before, command.source_kind, command.source_name)
  if not command.lease_ms then
    if before and not own then
      M.drop(ctx, ch, point, before, "taken over by " .. command.source_kind .. " " .. command.source_name)
    end
    return
  end
  redis.call("HSET", keys.held(ctx.ns, ch), point, json.object({
    "kind", json.text(command.source_kind), "name", json.text(command.source_name),
    "authority", json.text(command.authority), "rank", json.integer(rank(command.authority, command.priority)),
    "command", json.text(command.id), "value", command.value, "fallback", command.fallback or "null",
  }))
  timers.set(ctx.ns, ctx.now + tonumber(command.lease_ms), "release", ch .. "|" .. point)
  if not own then
    overrides.journal(ctx, ch, point, "held", command.source_kind .. ":" .. command.source_name, "", command.value)
  end
end

--- Take the hold whose time is over out; returns channel, type, point and the hold, or nil.
function M.over(ctx, id)
  local ch, point = string.match(id, "^([^|]+)|(.*)$")
  local text = redis.call("HGET", keys.held(ctx.ns, ch), point)
  if not text then
    return nil
  end
  local hold = cjson.decode(text)
  M.drop(ctx, ch, point, hold, "its time is over")
  local kind, number = string.match(point, "^(%u):(%d+)$")
  return ch, kind, number, hold
end

--- A hold as its JSON document.
function M.encode(ns, ch, point, text)
  local hold = cjson.decode(text)
  return json.object({
    "point", json.text(point), "by", json.object({ "kind", json.text(hold.kind), "name", json.text(hold.name) }),
    "authority", json.text(hold.authority), "value", cjson.encode(hold.value),
    "fallback", hold.fallback ~= cjson.null and cjson.encode(hold.fallback) or "null", "command", json.text(hold.command),
    "until_ms", json.integer(timers.due_at(ns, "release", ch .. "|" .. point) or 0),
  })
end

return M
