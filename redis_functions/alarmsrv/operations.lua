-- What operators do to alarms. Each deed is journaled with who did it and their comment.
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local journal = require("alarmsrv.journal")
local json = require("lib.json")
local keys = require("lib.keys")
local records = require("alarmsrv.records")

local M = {}

local MAX_BATCH = 500
local MAX_CLEANUP = 1000
local DAY_MS = 86400000
local BY_HAND = {
  id = true, title = true, description = true, level = true, source = true, tags = true, value = true,
  ack_required = true, by = true, comment = true, now_ms = true,
}

-- ---------------------------------------------------------------- by hand

local function check_by_hand(document)
  local problems = {}
  for name in pairs(document) do
    if not BY_HAND[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  if type(document.title) ~= "string" or document.title == "" or #document.title > 256 then
    problems[#problems + 1] = "title must be a text of 1 to 256 bytes"
  end
  local known = false
  for i = 1, #compile.LEVELS do
    known = known or document.level == compile.LEVELS[i]
  end
  if not known then
    problems[#problems + 1] = "level must be one of " .. table.concat(compile.LEVELS, ", ")
  end
  if document.ack_required ~= nil and type(document.ack_required) ~= "boolean" then
    problems[#problems + 1] = "ack_required must be true or false"
  elseif document.level == "Info" and document.ack_required then
    problems[#problems + 1] = "ack_required does not go with level Info: it is an event, and asks for nothing"
  end
  if document.tags ~= nil then
    compile.check_tags(document.tags, problems)
  end
  table.sort(problems)
  errors.fail_all(problems)
end

local function by_hand(document)
  check_by_hand(document)
  local ack = document.ack_required
  if ack == nil then
    ack = compile.NEEDS_ACK[document.level] == true
  end
  return {
    status = "New", active = "1", count = "1", title = document.title, level = document.level,
    priority = string.format("%.0f", compile.PRIORITY[document.level]),
    description = args.text(document.description, "description", 4096),
    source = args.text(document.source, "source", 128) or "manual",
    value = document.value ~= nil and cjson.encode(args.number(document.value, "value")) or nil,
    tags = document.tags and next(document.tags) and cjson.encode(document.tags) or nil,
    ack_required = ack and "1" or "0", created_by = args.text(document.by, "by", 64),
  }
end

--- Create an alarm by hand; it is resolved by hand.
--
-- The id is the idempotency key: the same open alarm again is a repeat without effect.
--
-- KEYS[1]  alarm (optional, an id is made)
-- ARGV[1]  {id?, title, level, description?, source?, tags?, value?, ack_required?, by?, comment?, now_ms?}
-- Returns  the alarm
-- Errors   INVALID   every problem, with its field
--          CONFLICT  the id is of another alarm, or of one that is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:alarms:..., alarmsrv:journal
-- Example  FCALL store_alarm 1 door '{"title":"Door open","level":"Minor","source":"container 3"}'
function M.store(ns, id, argv)
  local document = args.document(argv[1])
  local wanted = id or document.id
  if wanted ~= nil then
    wanted = args.id(wanted, "alarm")
  end
  if document.id ~= nil and tostring(document.id) ~= wanted then
    errors.fail("INVALID", "id " .. tostring(document.id) .. " is not the key's alarm " .. wanted)
  end
  local alarm = by_hand(document)
  local comment = records.comment(document.comment)
  local ctx = call.begin(ns, document.now_ms)
  local before = wanted and records.load(ns, wanted)
  if before and before.status == "Resolved" then
    errors.fail("CONFLICT", "alarm " .. wanted .. " is Resolved, and its id stays with it while it is kept; choose another id")
  elseif before then
    if before.origin or before.title ~= alarm.title or before.level ~= alarm.level
      or before.source ~= alarm.source or before.description ~= alarm.description then
      errors.fail("CONFLICT", "alarm " .. wanted .. " is open and says something else (its title, level, source or description)"
        .. "; choose another id")
    end
    return records.encode(before)
  end
  call.accept(ctx)
  alarm.id = wanted or records.new_id(ctx)
  alarm.created_at_ms = string.format("%.0f", ctx.now)
  records.create(ctx, alarm, ctx.now)
  journal.append(ctx, ctx.now, alarm, "raised", alarm.created_by, comment)
  return call.finish(ctx, records.encode(alarm))
end

-- ---------------------------------------------------------------- acknowledge and resolve

--- Acknowledge an alarm.
--
-- A second acknowledgement changes nothing, so a client that lost the reply calls again.
-- Acknowledging an alarm whose condition has ended resolves it.
--
-- KEYS[1]  alarm
-- ARGV[1]  operator
-- ARGV[2]  now_ms (optional)
-- ARGV[3]  comment (optional)
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved, or an Info, which is an event
-- Writes   alarmsrv:alarm:{id}, alarmsrv:alarms:..., alarmsrv:journal
-- Example  FCALL acknowledge_alarm 1 door anna
function M.acknowledge(ns, id, argv)
  id = args.id(id, "alarm")
  local by = records.operator(argv[1], "the operator")
  local comment = records.comment(argv[3])
  local ctx = call.begin(ns, argv[2])
  local alarm = records.load_or_fail(ns, id)
  alarms.act(ctx, alarm, "acknowledge", by, comment, call.accept)
  return call.finish(ctx, records.encode(alarm))
end

--- Acknowledge many alarms; what can't be is named, the rest is done.
--
-- ARGV[1]  {ids (at most 500), by, comment?, now_ms?}
-- Returns  {acknowledged: [id], unchanged: [id], failed: [{id, code, message}]}
-- Errors   INVALID  ids is no list, or by is missing
--          LIMIT    more than 500 ids
-- Writes   alarmsrv:alarm:{id}, alarmsrv:alarms:..., alarmsrv:journal
-- Example  FCALL acknowledge_alarms_batch 0 '{"ids":["door"],"by":"anna"}'
function M.acknowledge_batch(ns, _, argv)
  local document = args.document(argv[1])
  local ids = document.ids
  if type(ids) ~= "table" or (next(ids) ~= nil and #ids == 0) then
    errors.fail("INVALID", "ids must be a list")
  end
  if #ids > MAX_BATCH then
    errors.fail("LIMIT", "ids has " .. #ids .. " items, at most " .. MAX_BATCH .. " are taken")
  end
  for i = 1, #ids do
    ids[i] = args.id(ids[i], "ids[" .. (i - 1) .. "]")
  end
  local by = records.operator(document.by, "by")
  local comment = records.comment(document.comment)
  local ctx = call.begin(ns, document.now_ms)
  call.accept(ctx)
  local done, unchanged, failed = {}, {}, {}
  for i = 1, #ids do
    local alarm = records.load(ns, ids[i])
    local row, problem
    if alarm then
      row, problem = alarms.asked(ctx, alarm, "acknowledge")
    end
    if not row then
      failed[#failed + 1] = json.object({
        "id", json.text(ids[i]), "code", json.text(alarm and "STATE" or "NOTFOUND"),
        "message", json.text(problem or "no such alarm"),
      })
    elseif row[5] then
      alarms.carry_out(ctx, alarm, row, by, comment)
      done[#done + 1] = json.text(ids[i])
    else
      unchanged[#unchanged + 1] = json.text(ids[i])
    end
  end
  return call.finish(ctx, json.object({
    "acknowledged", json.list(done), "unchanged", json.list(unchanged), "failed", json.list(failed),
  }))
end

--- Resolve an alarm by hand.
--
-- Twice is a repeat without effect.
--
-- KEYS[1]  alarm
-- ARGV[1]  operator
-- ARGV[2]  now_ms (optional)
-- ARGV[3]  comment (optional)
-- Returns  the alarm
-- Errors   NOTFOUND  no such alarm
--          STATE     its condition stands
-- Writes   alarmsrv:alarm:{id}, alarmsrv:alarms:..., alarmsrv:journal
-- Example  FCALL resolve_alarm 1 door anna
function M.resolve(ns, id, argv)
  id = args.id(id, "alarm")
  local by = records.operator(argv[1], "the operator")
  local comment = records.comment(argv[3])
  local ctx = call.begin(ns, argv[2])
  local alarm = records.load_or_fail(ns, id)
  alarms.act(ctx, alarm, "resolve", by, comment, call.accept)
  return call.finish(ctx, records.encode(alarm))
end

--- Remove Resolved alarms that are old; others are never removed.
--
-- ARGV[1]  {days? (30) or before_ms?, limit? (1000), now_ms?}
-- Returns  {removed, more}
-- Errors   INVALID  a field is wrong
-- Writes   alarmsrv:alarm:{id}, alarmsrv:alarms:...
-- Example  FCALL cleanup_old_alarms 0 '{"days":90}'
function M.cleanup(ns, _, argv)
  local document = args.document(argv[1], true)
  local days = document.days ~= nil and args.number(document.days, "days") or 30
  if days < 0 then
    errors.fail("INVALID", "days must be a number from 0")
  end
  local limit = args.integer(document.limit, "limit", 1, MAX_CLEANUP, MAX_CLEANUP)
  local before = document.before_ms ~= nil and args.integer(document.before_ms, "before_ms", 0, 9007199254740991)
  local ctx = call.begin(ns, document.now_ms)
  local index = keys.alarms_resolved(ns)
  local ids = redis.call(
    "ZRANGEBYSCORE", index, "-inf", "(" .. string.format("%.0f", before or ctx.now - days * DAY_MS), "LIMIT", 0, limit + 1
  )
  if #ids > 0 then
    call.accept(ctx)
  end
  local removed = math.min(#ids, limit)
  for i = 1, removed do
    local alarm = records.load(ns, ids[i])
    if alarm then
      records.remove(ns, alarm)
    else
      redis.call("ZREM", index, ids[i])
    end
  end
  return call.finish(ctx, json.object({ "removed", removed, "more", tostring(#ids > limit) }))
end

return M
