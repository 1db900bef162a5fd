-- Operators and points: tags and substitution by hand.
local args = require("lib.args")
local call = require("core.call")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local limits = require("comsrv.limits")
local numbers = require("lib.numbers")
local overrides = require("comsrv.overrides")
local timers = require("core.timers")

local M = {}

local MAX_SUBSTITUTION_MS = 7 * 86400000

local KNOWN = {
  type = true, point = true, kind = true, by = true, reason = true, until_ms = true, value = true, expires_ms = true,
  now_ms = true,
}

local function parse(id, argv, kinds)
  local ch = args.channel(id)
  local document = args.document(argv[1])
  args.only(document, KNOWN)
  local point = args.choice(document.type, "type", kinds) .. ":" .. args.point(document.point)
  local by = args.text(document.by, "by", 64) or errors.fail("INVALID", "by is missing")
  return ch, document, point, by, args.text(document.reason, "reason", 512) or ""
end

--- Tag a point: nobody commands it until the tag is taken off.
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, kind: lockout|maintenance, by, reason, until_ms?, now_ms?}
-- Returns  the tag
-- Errors   NOTFOUND  no such point
--          STATE     it has a tag already
-- Writes   comsrv:{ch}:tags
-- Example  FCALL point_tag 1 1001 '{"type":"A","point":1,"kind":"maintenance","by":"anna","reason":"cleaning"}'
function M.tag(ns, id, argv)
  local ch, document, point, by, reason = parse(id, argv, { "C", "A" })
  local kind = args.choice(document.kind, "kind", { "lockout", "maintenance" })
  limits.of(ns, ch, point)
  local ctx = call.begin(ns, document.now_ms)
  if redis.call("HEXISTS", keys.tags(ns, ch), point) == 1 then
    errors.fail("STATE", point .. " of channel " .. ch .. " has a tag already")
  end
  local ends = document.until_ms and args.integer(document.until_ms, "until_ms", ctx.now, 9007199254740991)
  call.accept(ctx)
  local tag = json.object({
    "kind", json.text(kind), "by", json.text(by), "reason", json.text(reason), "at_ms", json.integer(ctx.now),
    "until_ms", ends and json.integer(ends),
  })
  redis.call("HSET", keys.tags(ns, ch), point, tag)
  if ends then
    timers.set(ns, ends, "tag", ch .. "|" .. point)
  end
  overrides.journal(ctx, ch, point, "tagged", by, kind .. ": " .. reason)
  return call.finish(ctx, tag)
end

--- Take a tag off.
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, by, reason?, now_ms?}
-- Returns  {point}
-- Errors   STATE  it has no tag
-- Writes   comsrv:{ch}:tags
-- Example  FCALL point_untag 1 1001 '{"type":"A","point":1,"by":"anna"}'
function M.untag(ns, id, argv)
  local ch, document, point, by, reason = parse(id, argv, { "C", "A" })
  local ctx = call.begin(ns, document.now_ms)
  if redis.call("HEXISTS", keys.tags(ns, ch), point) == 0 then
    errors.fail("STATE", point .. " of channel " .. ch .. " has no tag")
  end
  call.accept(ctx)
  redis.call("HDEL", keys.tags(ns, ch), point)
  timers.cancel(ns, "tag", ch .. "|" .. point)
  overrides.journal(ctx, ch, point, "untagged", by, reason)
  return call.finish(ctx, json.object({ "point", json.text(point) }))
end

--- Put a value by hand in the place of the device's, with quality uncertain:substituted.
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, value, by, reason, expires_ms, now_ms?}
-- Returns  {point, value, by, until_ms}
-- Errors   INVALID  expires_ms is not 1000 to 7 days
-- Writes   comsrv:{ch}:substituted, the point's value and quality
-- Example  FCALL point_substitute 1 1001 '{"type":"T","point":1,"value":5,"by":"anna","reason":"sensor broken","expires_ms":60000}'
function M.substitute(ns, id, argv)
  local ch, document, point, by, reason = parse(id, argv, { "T", "S" })
  local value = numbers.format(args.number(document.value, "value"))
  local lasts = args.integer(document.expires_ms, "expires_ms", 1000, MAX_SUBSTITUTION_MS)
  if redis.call("SISMEMBER", keys.channels(ns), ch) == 0 then
    errors.fail("NOTFOUND", "channel " .. ch)
  end
  if document.type == "T" and redis.call("HEXISTS", keys.values_at(ns, ch, "text"), args.point(document.point)) == 1 then
    errors.fail("INVALID", point .. " of channel " .. ch .. " is a text; numbers and states can be substituted")
  end
  local ctx = call.begin(ns, document.now_ms)
  call.accept(ctx)
  local reply = json.object({
    "point", json.text(point), "value", value, "by", json.text(by), "reason", json.text(reason),
    "until_ms", json.integer(ctx.now + lasts),
  })
  redis.call("HSET", keys.substituted(ns, ch), point, reply)
  timers.set(ns, ctx.now + lasts, "substitute", ch .. "|" .. point)
  local kind, number = string.match(point, "^(%u):(%d+)$")
  leases.put(ctx, ch, kind, number, value, "uncertain:substituted")
  overrides.journal(ctx, ch, point, "substituted", by, reason, value)
  return call.finish(ctx, reply)
end

--- End a substitution: the device's next value counts again.
--
-- KEYS[1]  channel
-- ARGV[1]  {type, point, by, reason?, now_ms?}
-- Returns  {point}
-- Errors   STATE  the point is not substituted
-- Writes   comsrv:{ch}:substituted, the point's quality
-- Example  FCALL point_restore 1 1001 '{"type":"T","point":1,"by":"anna"}'
function M.restore(ns, id, argv)
  local ch, document, point, by, reason = parse(id, argv, { "T", "S" })
  local ctx = call.begin(ns, document.now_ms)
  if redis.call("HEXISTS", keys.substituted(ns, ch), point) == 0 then
    errors.fail("STATE", point .. " of channel " .. ch .. " is not substituted")
  end
  call.accept(ctx)
  overrides.restore(ctx, ch, point, by, reason)
  return call.finish(ctx, json.object({ "point", json.text(point) }))
end

return M
