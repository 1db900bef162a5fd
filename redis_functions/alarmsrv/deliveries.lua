-- Deliveries from the outbox: what is on its way, and what becomes of it.
--
-- A message may hold several entries (a digest), an entry may go to several targets. An entry leaves the outbox
-- when every target has it; until then `alarmsrv:outbox:done` says which have.
local args = require("lib.args")
local call = require("core.call")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local marks = require("alarmsrv.marks")
local outbox = require("alarmsrv.outbox")
local records = require("alarmsrv.records")

local M = {}

local MAX_ENTRIES = 20000
local CHUNK = 1000
local DEAD_CAP = 1000
local STANDING = 20

local function texts(value, what)
  value = value or {}
  if type(value) ~= "table" or (next(value) ~= nil and #value == 0) or #value > MAX_ENTRIES then
    errors.fail("INVALID", what .. " must be a list of at most " .. MAX_ENTRIES)
  end
  for i = 1, #value do
    if type(value[i]) ~= "string" or #value[i] > 400 then
      errors.fail("INVALID", what .. "[" .. (i - 1) .. "] must be a text")
    end
  end
  return value
end

local function target_of(document)
  local target = args.text(document.target, "target", 320)
  if not target or target == "" then
    errors.fail("INVALID", "target is missing")
  end
  return target
end

local function in_chunks(command, key, more, list)
  for start = 1, #list, CHUNK do
    local words = { command, key }
    for i = 1, #more do
      words[#words + 1] = more[i]
    end
    for i = start, math.min(start + CHUNK - 1, #list) do
      words[#words + 1] = list[i]
    end
    redis.call(unpack(words))
  end
end

--- Say that a message leaves now: after a crash the same message goes again, under the same id.
--
-- ARGV[1]  {target, id, entries: [id in the outbox]}
-- Returns  {id}
-- Errors   INVALID  a field is wrong
-- Writes   alarmsrv:outbox:sending
-- Example  FCALL alarm_outbox_begin 0 '{"target":"email:anna@example.com","id":"n-7","entries":["1763707000000-0"]}'
function M.begin(ns, _, argv)
  local document = args.document(argv[1])
  local target, id = target_of(document), args.text(document.id, "id", 128)
  if not id or id == "" then
    errors.fail("INVALID", "id is missing")
  end
  local entries = texts(document.entries, "entries")
  redis.call(
    "HSET", keys.alarm_outbox_sending(ns), target,
    json.object({ "id", json.text(id), "entries", #entries > 0 and cjson.encode(entries) or "[]" })
  )
  return json.object({ "id", json.text(id) })
end

--- Say what became of a message: its entries are done for this target, and leave where no target waits.
--
-- ARGV[1]  {target, mark?: [text] (entries others wait for), finished?: [id] (no target waits), unmark?: [text],
--          state?: text (what the target's rate and flood are now), letter?: {reason, ...} (it was given up)}
-- Returns  {finished}
-- Errors   INVALID  a field is wrong
-- Writes   alarmsrv:outbox, alarmsrv:outbox:sending, alarmsrv:outbox:done, alarmsrv:outbox:targets, alarmsrv:outbox:dead
-- Example  FCALL alarm_outbox_settle 0 '{"target":"email:anna@example.com","finished":["1763707000000-0"]}'
function M.settle(ns, _, argv)
  local document = args.document(argv[1])
  local target = target_of(document)
  local mark, unmark = texts(document.mark, "mark"), texts(document.unmark, "unmark")
  local finished = texts(document.finished, "finished")
  for i = 1, #finished do
    if not string.find(finished[i], "^%d+%-%d+$") then
      errors.fail("INVALID", "finished[" .. (i - 1) .. "] is no id of an entry")
    end
  end
  local state = args.text(document.state, "state", 65536)
  redis.call("HDEL", keys.alarm_outbox_sending(ns), target)
  in_chunks("SADD", keys.alarm_outbox_done(ns), {}, mark)
  in_chunks("SREM", keys.alarm_outbox_done(ns), {}, unmark)
  if redis.call("EXISTS", keys.alarm_outbox(ns)) == 1 then
    in_chunks("XACK", keys.alarm_outbox(ns), { outbox.GROUP }, finished)
    in_chunks("XDEL", keys.alarm_outbox(ns), {}, finished)
  end
  if state then
    redis.call("HSET", keys.alarm_outbox_targets(ns), target, state)
  end
  if document.letter ~= nil then
    redis.call(
      "XADD", keys.alarm_outbox_dead(ns), "MAXLEN", DEAD_CAP, "*", "target", target, "letter", cjson.encode(document.letter)
    )
  end
  return json.object({ "finished", #finished })
end

--- Put a message to a route into the outbox, to see whether it arrives.
--
-- KEYS[1]  route
-- ARGV[1]  {by?, now_ms?}
-- Returns  {route}
-- Errors   NOTFOUND  no such route
-- Writes   alarmsrv:outbox
-- Example  FCALL alarm_route_test 1 shift
function M.test(ns, id, argv)
  id = args.id(id, "route")
  local document = args.document(argv[1], true)
  if redis.call("EXISTS", keys.alarm_route(ns, id)) == 0 then
    errors.fail("NOTFOUND", "route " .. id)
  end
  local by = args.text(document.by, "by", 64) or "redis-cli"
  outbox.put(ns, "test", {
    "number", "0", "at_ms", string.format("%.0f", args.now(document.now_ms)), "alarm", "test", "event", "test",
    "status", "New", "level", "Info", "source", "route " .. id, "title", "Test of the route " .. id, "value", "",
    "quality", "good", "tags", "", "user", by, "comment", "", "route", id,
  })
  return json.object({ "route", json.text(id) })
end

--- Tell a route whose shift begins what stands: alarms that are New and active, which nothing keeps quiet.
--
-- alarmsrv calls it with the alarms that the route is for, some a call, and says with the last that all were told.
-- Escalation counts from now.
--
-- KEYS[1]  route
-- ARGV[1]  {alarms: [id] (at most 20), began_ms, done?: true, now_ms?}
-- Returns  {told}
-- Errors   NOTFOUND  no such route
--          INVALID   a field is wrong
-- Writes   alarmsrv:outbox, alarmsrv:outbox:shifts, voltage:timers
-- Example  FCALL alarm_route_standing 1 shift '{"alarms":[],"began_ms":1763707000000,"done":true}'
function M.standing(ns, id, argv)
  id = args.id(id, "route")
  local document = args.document(argv[1])
  local text = redis.call("GET", keys.alarm_route(ns, id)) or errors.fail("NOTFOUND", "route " .. id)
  local listed = texts(document.alarms, "alarms")
  if #listed > STANDING then
    errors.fail("INVALID", "alarms must be a list of at most " .. STANDING)
  end
  local began = args.integer(document.began_ms, "began_ms", 0, 9007199254740991)
  local ctx, route, told = call.begin(ns, document.now_ms), args.decode(text), 0
  call.accept(ctx)
  for i = 1, #listed do
    local alarm = records.load(ns, listed[i])
    if alarm and alarm.status == "New" and alarm.active == "1" and not outbox.masked(alarm) then
      outbox.standing(ctx, began, alarm, route, marks.moment(ctx, alarm))
      told = told + 1
    end
  end
  if document.done == true then
    redis.call("HSET", keys.alarm_outbox_shifts(ns), id, string.format("%.0f", began))
  end
  return call.finish(ctx, json.object({ "told", told }))
end

return M
