-- Alarms: one record an occurrence, its indexes, its journal, and what raises and ends it.
--
-- New = active, unacknowledged; Acknowledged = active, acknowledged; Returned = condition ended,
-- unacknowledged; Resolved = closed. Every change goes through M.save, so an index never keeps a
-- stale member.
local args = require("lib.args")
local errors = require("lib.errors")
local journal = require("alarmsrv.journal")
local json = require("lib.json")
local keys = require("lib.keys")
local timers = require("core.timers")

local M = {}

-- The record's fields in the order of the document, with the JSON type of each.
local FIELDS = {
  { "id", "text" }, { "title", "text" }, { "description", "text" }, { "level", "text" }, { "source", "text" },
  { "status", "text" }, { "origin", "text" }, { "definition", "text" }, { "rule", "text" }, { "version", "number" },
  { "value", "number" }, { "quality", "text" }, { "count", "number" }, { "active", "flag" }, { "uncertain", "flag" },
  { "ack_required", "flag" }, { "latched", "flag" }, { "tags", "json" },
  { "created_by", "text" }, { "created_at_ms", "number" }, { "updated_at_ms", "number" }, { "acknowledged_by", "text" },
  { "acknowledged_at_ms", "number" }, { "returned_at_ms", "number" }, { "resolved_by", "text" },
  { "resolved_at_ms", "number" }, { "comment", "text" },
}

local function shelved_json(alarm)
  if not alarm.shelved_by or alarm.shelved_by == "" then
    return "null"
  end
  return json.object({
    "until_ms", alarm.shelved_until_ms ~= "" and alarm.shelved_until_ms or "null", "by", json.text(alarm.shelved_by),
    "one_shot", alarm.shelved_one_shot == "1" and "true" or "false",
  })
end

local function by_json(by)
  return by and by ~= "" and json.object({ "by", json.text(by) }) or "null"
end

--- A record as its JSON document.
function M.encode(alarm)
  local parts, count = {}, 0
  for i = 1, #FIELDS do
    local field = FIELDS[i]
    local value = alarm[field[1]]
    if value ~= nil and value ~= "" then
      if field[2] == "text" then
        value = json.text(value)
      elseif field[2] == "flag" then
        value = value == "1" and "true" or "false"
      end
      -- Name and value stay apart: a joined pair is a text more to make for each field.
      parts[count + 1], parts[count + 2], parts[count + 3], parts[count + 4] = '"', field[1], '":', value
      parts[count + 5] = ","
      count = count + 5
    end
  end
  return "{" .. table.concat(parts) .. '"shelved":' .. shelved_json(alarm) .. ',"suppressed":'
    .. by_json(alarm.suppressed_by) .. ',"out_of_service":' .. by_json(alarm.out_of_service_by) .. "}"
end

--- The record of an id, or nil.
function M.load(ns, id)
  local found = redis.call("HGETALL", keys.alarm(ns, id))
  if #found == 0 then
    return nil
  end
  local alarm = {}
  for i = 1, #found, 2 do
    alarm[found[i]] = found[i + 1]
  end
  return alarm
end

--- The record of an id, or NOTFOUND.
function M.load_or_fail(ns, id)
  return M.load(ns, id) or errors.fail("NOTFOUND", "alarm " .. id)
end

--- The record of an id; STATE when it is Resolved.
function M.load_open(ns, id)
  local alarm = M.load_or_fail(ns, id)
  if alarm.status == "Resolved" then
    errors.fail("STATE", "alarm " .. id .. " is Resolved")
  end
  return alarm
end

--- Who does it, or INVALID.
function M.operator(text, what)
  local by = args.text(text, what, 64)
  if by == nil or by == "" then
    errors.fail("INVALID", what .. " is missing")
  end
  return by
end

--- What the operator says about it; nil where that is nothing.
function M.comment(text)
  local comment = args.text(text, "comment", 512)
  return comment ~= "" and comment or nil
end

--- Append a transition to the journal (alarmsrv/journal.lua).
M.journal = journal.append

local function write_record(ns, alarm, before)
  local set, gone = {}, {}
  for name, value in pairs(alarm) do
    if not before or before[name] ~= value then
      set[#set + 1] = name
      set[#set + 1] = value
    end
  end
  for name in pairs(before or {}) do
    if alarm[name] == nil then
      gone[#gone + 1] = name
    end
  end
  if #set > 0 then
    redis.call("HSET", keys.alarm(ns, alarm.id), unpack(set))
  end
  if #gone > 0 then
    redis.call("HDEL", keys.alarm(ns, alarm.id), unpack(gone))
  end
end

-- Move an alarm from one index of a kind (by level, status, source) to another.
local function index(ns, key_of, field, alarm, before)
  if before and before[field] == alarm[field] then
    return
  end
  if before then
    redis.call("SREM", key_of(ns, before[field]), alarm.id)
  end
  redis.call("SADD", key_of(ns, alarm[field]), alarm.id)
end

local function index_open(ns, alarm, before)
  redis.call("SADD", keys.alarms_active(ns), alarm.id)
  if before then
    redis.call("ZREM", keys.alarms_resolved(ns), alarm.id)
  end
  if alarm.origin then
    redis.call("HSET", keys.alarms_open(ns), alarm.origin, alarm.id)
  end
end

local function index_resolved(ns, alarm)
  redis.call("SREM", keys.alarms_active(ns), alarm.id)
  redis.call("ZADD", keys.alarms_resolved(ns), alarm.resolved_at_ms, alarm.id)
  if alarm.origin and redis.call("HGET", keys.alarms_open(ns), alarm.origin) == alarm.id then
    redis.call("HDEL", keys.alarms_open(ns), alarm.origin)
  end
  timers.cancel(ns, "shelve", alarm.id)
end

--- Write a record and its indexes, and publish it. `before` is the record as it was, nil when new.
-- Only what differs from `before` is written: a storm of alarms is the most expensive thing a call does.
function M.save(ctx, alarm, before, at)
  local ns = ctx.ns
  alarm.updated_at_ms = string.format("%.0f", at)
  write_record(ns, alarm, before)
  if not before then
    redis.call("ZADD", keys.alarms(ns), alarm.created_at_ms, alarm.id)
  end
  index(ns, keys.alarms_by_level, "level", alarm, before)
  index(ns, keys.alarms_by_status, "status", alarm, before)
  index(ns, keys.alarms_by_source, "source", alarm, before)
  if alarm.status == "Resolved" then
    index_resolved(ns, alarm)
  elseif not before or before.status == "Resolved" then
    index_open(ns, alarm, before)
  end
  redis.call("PUBLISH", before and keys.alarm_changed(ns) or keys.alarm_new(ns), M.encode(alarm))
end

--- Take a record and every index entry of it away.
function M.remove(ns, alarm)
  redis.call("DEL", keys.alarm(ns, alarm.id))
  redis.call("ZREM", keys.alarms(ns), alarm.id)
  redis.call("ZREM", keys.alarms_resolved(ns), alarm.id)
  redis.call("SREM", keys.alarms_active(ns), alarm.id)
  redis.call("SREM", keys.alarms_by_level(ns, alarm.level), alarm.id)
  redis.call("SREM", keys.alarms_by_status(ns, alarm.status), alarm.id)
  redis.call("SREM", keys.alarms_by_source(ns, alarm.source), alarm.id)
  if alarm.origin and redis.call("HGET", keys.alarms_open(ns), alarm.origin) == alarm.id then
    redis.call("HDEL", keys.alarms_open(ns), alarm.origin)
  end
  timers.cancel(ns, "shelve", alarm.id)
end

--- A copy, for `before` of M.save.
function M.copy(alarm)
  local copy = {}
  for name, value in pairs(alarm) do
    copy[name] = value
  end
  return copy
end

--- An id of a new alarm.
function M.new_id(ctx)
  ctx.alarms = (ctx.alarms or 0) + 1
  return "al-" .. ctx.image .. "-" .. ctx.alarms
end

--- Raise the alarm of an origin, or count on the open one.
-- `spec` is { origin, title, description, level, source, ack_required, value, quality, version, ... }.
function M.raise(ctx, spec, at)
  local at_text = string.format("%.0f", at)
  local open = redis.call("HGET", keys.alarms_open(ctx.ns), spec.origin)
  local alarm = open and M.load(ctx.ns, open)
  if alarm then
    local before = M.copy(alarm)
    alarm.count = string.format("%.0f", tonumber(alarm.count or 1) + 1)
    alarm.active, alarm.latched, alarm.uncertain = "1", nil, nil
    alarm.value, alarm.quality = spec.value, spec.quality
    if alarm.status == "Returned" then
      alarm.status, alarm.returned_at_ms = "New", nil
    end
    M.save(ctx, alarm, before, at)
    M.journal(ctx.ns, at, alarm, "recurred")
    return alarm
  end
  alarm = {
    id = M.new_id(ctx), status = "New", active = "1", count = "1", created_at_ms = at_text,
    title = spec.title, description = spec.description, level = spec.level, source = spec.source,
    origin = spec.origin, definition = spec.definition, rule = spec.rule, version = spec.version,
    value = spec.value, quality = spec.quality, tags = spec.tags,
    ack_required = spec.ack_required and "1" or "0",
  }
  M.save(ctx, alarm, nil, at)
  M.journal(ctx.ns, at, alarm, "raised")
  return alarm
end

local function title_of(document)
  return document.message or document.name or (document.detector .. " " .. document.source)
end

--- Raise the alarm of a definition. `seen` holds the value and quality at the transition.
function M.raise_definition(ctx, watcher, seen)
  local document = watcher.document
  return M.raise(ctx, {
    origin = watcher.id, definition = watcher.name, title = title_of(document), level = document.level,
    source = document.source, ack_required = watcher.ack_required, value = seen.text, quality = seen.quality or "good",
    version = document.version and string.format("%.0f", document.version),
    tags = document.tags and next(document.tags) and cjson.encode(document.tags) or nil,
  }, seen.at)
end

--- A definition changed while its alarm stands: the open alarm says what the definition says now.
function M.redefine(ctx, watcher)
  local open = redis.call("HGET", keys.alarms_open(ctx.ns), watcher.id)
  local alarm = open and M.load(ctx.ns, open)
  if not alarm then
    return
  end
  local before, document = M.copy(alarm), watcher.document
  alarm.title, alarm.level = title_of(document), document.level
  alarm.version = document.version and string.format("%.0f", document.version)
  alarm.tags = document.tags and next(document.tags) and cjson.encode(document.tags) or nil
  alarm.ack_required = watcher.ack_required and "1" or "0"
  M.save(ctx, alarm, before, ctx.now)
  M.journal(ctx.ns, ctx.now, alarm, "redefined")
end

--- Close a record. `before` is the record as stored, where the caller has changed it already.
function M.close(ctx, alarm, at, user, what, comment, before)
  before = before or M.copy(alarm)
  alarm.status, alarm.active = "Resolved", "0"
  alarm.resolved_at_ms = string.format("%.0f", at)
  alarm.resolved_by = user or "condition"
  alarm.comment = comment or alarm.comment
  alarm.uncertain, alarm.latched = nil, nil
  alarm.shelved_by, alarm.shelved_until_ms, alarm.shelved_one_shot = nil, nil, nil
  M.save(ctx, alarm, before, at)
  M.journal(ctx.ns, at, alarm, what, user, comment)
end

local function latching(ns, alarm)
  if not alarm.definition then
    return false
  end
  local text = redis.call("GET", keys.definition(ns, alarm.definition))
  return text and cjson.decode(text).latching == true
end

--- The condition of an origin ended: Returned, Resolved, or latched where the definition says so.
function M.condition_ended(ctx, origin, at)
  local open = redis.call("HGET", keys.alarms_open(ctx.ns), origin)
  local alarm = open and M.load(ctx.ns, open)
  if not alarm or alarm.active ~= "1" then
    return
  end
  local before = M.copy(alarm)
  alarm.active, alarm.uncertain = "0", nil
  alarm.returned_at_ms = string.format("%.0f", at)
  if alarm.shelved_one_shot == "1" then
    alarm.shelved_by, alarm.shelved_until_ms, alarm.shelved_one_shot = nil, nil, nil
  end
  if latching(ctx.ns, alarm) then
    alarm.latched = "1"
    M.save(ctx, alarm, before, at)
    M.journal(ctx.ns, at, alarm, "latched")
  elseif alarm.status == "Acknowledged" or alarm.ack_required ~= "1" then
    M.close(ctx, alarm, at, nil, "resolved", nil, before)
  else
    alarm.status = "Returned"
    M.save(ctx, alarm, before, at)
    M.journal(ctx.ns, at, alarm, "returned")
  end
end

--- Mark the open alarm of an origin uncertain while its condition is unknown.
function M.mark_uncertain(ctx, origin, uncertain)
  local open = redis.call("HGET", keys.alarms_open(ctx.ns), origin)
  local alarm = open and M.load(ctx.ns, open)
  if alarm and (alarm.uncertain == "1") ~= uncertain then
    local before = M.copy(alarm)
    alarm.uncertain = uncertain and "1" or nil
    M.save(ctx, alarm, before, ctx.now)
    M.journal(ctx.ns, ctx.now, alarm, uncertain and "uncertain" or "certain")
  end
end

--- The shelving of an alarm ran out.
function M.shelve_over(ctx, id, due)
  local alarm = M.load(ctx.ns, id)
  if alarm and alarm.shelved_by then
    local before = M.copy(alarm)
    alarm.shelved_by, alarm.shelved_until_ms, alarm.shelved_one_shot = nil, nil, nil
    M.save(ctx, alarm, before, due)
    M.journal(ctx.ns, due, alarm, "unshelved", "timer")
  end
end

return M
