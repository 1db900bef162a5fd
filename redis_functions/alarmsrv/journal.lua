-- The journal: every transition of every alarm, in the order it happened, each entry chained to the one before.
--
-- An entry carries its number and, as `previous`, the hash of the entry before it. The hash of an entry is
-- SHA-1 over its names and values in their order, joined by the unit separator (ASCII 31).
-- The head keeps number and hash of the last entry, so the chain goes on when the stream is trimmed; it is written
-- once a call.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local outbox = require("alarmsrv.outbox")
local replay = require("core.replay")
local writes = require("core.writes")

local M = {}

-- alarmsrv trims what it has on disk; this many stay at most when it is away, and what goes is counted.
M.CAP = 200000
M.KEEP = 50000

-- The cap is looked at once in so many entries.
local LOOK = 64

local SEPARATOR = "\31"

-- A field holds no separator, or two entries could have the same text.
local function clean(text)
  if not text or text == "" then
    return ""
  end
  return string.find(text, SEPARATOR, 1, true) and (string.gsub(text, SEPARATOR, " ")) or text
end

local function trim_full(ns, key)
  local gone = redis.call("XTRIM", key, "MAXLEN", M.CAP)
  redis.call("HINCRBY", keys.ledger(ns), "dropped:journal_full", gone)
end

-- The last entry, and what routes want to be told of: { number, hash, ["wants:Major"], ["escalate:Major"], ... }.
local function head_of(ns)
  local found, head = redis.call("HGETALL", keys.alarm_journal_head(ns)), {}
  for i = 1, #found, 2 do
    head[found[i]] = found[i + 1]
  end
  return head
end

-- What is written of an entry, name by name; the values are put in for each. Lists that are made anew cost more than
-- what is done with them.
local FIELDS = {
  "number", "", "at_ms", "", "alarm", "", "event", "", "status", "", "level", "", "priority", "", "source", "",
  "title", "", "origin", "", "version", "", "user", "", "comment", "", "value", "", "quality", "", "previous", "",
  "masked", "",
}
local ALL = 34

-- More alarms than these within this time are a flood (core/floods.lua).
local FLOOD_BEGINS = 10
M.FLOOD_MS, M.FLOOD = 600000, "system:flood"

-- What asked nobody says so; it has no part in the rates of alarms.
local function fill(alarm, masked)
  FIELDS[6], FIELDS[10], FIELDS[12], FIELDS[14] = alarm.id, alarm.status, alarm.level, alarm.priority or ""
  FIELDS[16], FIELDS[18], FIELDS[20] = clean(alarm.source), clean(alarm.title), clean(alarm.origin)
  FIELDS[22], FIELDS[34] = alarm.version or "", masked
  return masked and ALL or ALL - 2
end

--- The instants of the newest alarms that asked for somebody, oldest first: as many as decide about a flood.
function M.newest(ctx)
  local head = ctx.journal_head or head_of(ctx.ns)
  if type(head.newest) ~= "table" then
    local newest = {}
    for at in string.gmatch(head.newest or "", "%d+") do
      newest[#newest + 1] = tonumber(at)
    end
    head.newest = newest
  end
  return head.newest
end

local function count(ctx, at)
  local newest = M.newest(ctx)
  if newest[1] and newest[#newest] > at + M.FLOOD_MS then
    -- The clock was set back: what was is no measure.
    newest = {}
    ctx.journal_head.newest = newest
  end
  newest[#newest + 1] = at
  if #newest > FLOOD_BEGINS + 1 then
    table.remove(newest, 1)
  end
  if #newest > FLOOD_BEGINS and at - newest[1] < M.FLOOD_MS then
    ctx.flood = ctx.flood or at
  end
  writes.field(keys.alarm_journal_head(ctx.ns), "newest", newest)
end

--- Append a transition: what happened, by whom, and the value at that moment.
-- `seen` is { text, quality } where the moment is another than the record's, and `over` where the condition ends in
-- this call. The head is read once a call.
-- Where a route wants to know of it, it goes to the outbox too. Returns its number.
function M.append(ctx, at, alarm, what, user, comment, seen)
  local ns = ctx.ns
  local key, head = keys.alarm_journal(ns), ctx.journal_head or head_of(ns)
  local entries = (tonumber(head.number) or 0) + 1
  local number = string.format("%.0f", entries)
  local value, quality = alarm.value, alarm.quality
  if seen then
    value, quality = seen.text, seen.quality or "good"
  end
  local masked = outbox.masked(alarm)
  local size = fill(alarm, masked)
  FIELDS[2], FIELDS[4], FIELDS[8] = number, numbers.whole(at), what
  FIELDS[24], FIELDS[26], FIELDS[28] = clean(user), clean(comment), clean(value)
  FIELDS[30], FIELDS[32] = quality or "", head.hash or ""
  local text = table.concat(FIELDS, SEPARATOR, 1, size)
  local hash = redis.sha1hex(text)
  if replay.listens() then
    replay.output(string.sub(key, #ns + 1), text)
  end
  redis.call("XADD", key, "*", unpack(FIELDS, 1, size))
  local kept = keys.alarm_journal_head(ns)
  writes.field(kept, "number", number)
  writes.field(kept, "hash", hash)
  head.number, head.hash, ctx.journal_head = entries, hash, head
  if outbox.asks(alarm, what, masked) and alarm.origin ~= M.FLOOD then
    count(ctx, at)
  end
  if entries % LOOK == 0 and redis.call("XLEN", key) > M.CAP then
    trim_full(ns, key)
  end
  local wants, escalate = head["wants:" .. alarm.level], head["escalate:" .. alarm.level]
  if wants or escalate then
    outbox.transition(ns, at, alarm, what, wants, escalate, {
      number = number, value = value, quality = quality, user = user, comment = comment, over = seen and seen.over,
    })
  end
  return number
end

--- Say that entries are in files: of those, all but the newest leave the stream.
--
-- alarmsrv calls it once its files are on disk. What is in no file stays. Where Redis lost entries that are on
-- disk (a power cut, a backup that was restored), number and hash make the chain go on from the disk's last.
--
-- ARGV[1]  {id, number, hash (of the last entry on disk), keep? (50000), limit? (1000)}
-- Returns  {removed, more}
-- Errors   INVALID  a field is wrong
-- Writes   alarmsrv:journal, alarmsrv:journal:head
-- Example  FCALL alarm_journal_archived 0 '{"id":"1763707000000-0","number":1,"hash":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"}'
function M.archived(ns, _, argv)
  local document = args.document(argv[1])
  local id = document.id
  if type(id) ~= "string" or not string.find(id, "^%d+%-%d+$") then
    errors.fail("INVALID", "id must be that of an entry of the stream")
  end
  local number = args.integer(document.number, "number", 0, 9007199254740991)
  local hash = args.text(document.hash, "hash", 40)
  if not hash or #hash ~= 40 then
    errors.fail("INVALID", "hash must have 40 digits")
  end
  local keep = args.integer(document.keep, "keep", 0, M.CAP, M.KEEP)
  local limit = args.integer(document.limit, "limit", 1, 5000, 1000)
  local key, head = keys.alarm_journal(ns), keys.alarm_journal_head(ns)
  if number > (tonumber(redis.call("HGET", head, "number")) or 0) then
    redis.call("HSET", head, "number", string.format("%.0f", number), "hash", hash)
    replay.effect()
  end
  local excess = redis.call("XLEN", key) - keep
  if excess <= 0 then
    return json.object({ "removed", 0, "more", "false" })
  end
  local old = redis.call("XRANGE", key, "-", id, "COUNT", math.min(excess, limit))
  local ids = {}
  for i = 1, #old do
    ids[i] = old[i][1]
  end
  local removed = #ids > 0 and redis.call("XDEL", key, unpack(ids)) or 0
  return json.object({ "removed", removed, "more", tostring(removed == limit and excess > limit) })
end

return M
