-- The records of alarms: one hash an occurrence, its indexes, and what is published of it.
-- Every change goes through M.create and M.change, so an index never keeps a stale member.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local specials = require("core.specials")

local M = {}

M.STATUSES = { "New", "Acknowledged", "Returned", "Resolved" }

-- The record's fields in the order of the document, with the JSON type of each: a word is a text of ours, which
-- needs no escaping.
local FIELDS = {
  { "id", "word" }, { "title", "text" }, { "description", "text" }, { "level", "word" }, { "priority", "number" },
  { "source", "text" }, { "status", "word" }, { "origin", "text" }, { "definition", "word" }, { "rule", "word" },
  { "version", "number" }, { "value", "number" }, { "quality", "word" }, { "count", "number" }, { "active", "flag" },
  { "uncertain", "flag" }, { "ack_required", "flag" }, { "latched", "flag" }, { "first_out", "flag" },
  { "group", "word" }, { "area", "text" }, { "equipment", "word" }, { "tags", "number" },
  { "created_by", "text" }, { "created_at_ms", "number" }, { "updated_at_ms", "number" }, { "acknowledged_by", "text" },
  { "acknowledged_at_ms", "number" }, { "returned_at_ms", "number" }, { "realarmed_at_ms", "number" },
  { "resolved_by", "text" }, { "resolved_at_ms", "number" }, { "comment", "text" },
}
-- What stands before a value of each field, made once.
for i = 1, #FIELDS do
  FIELDS[i][3] = '"' .. FIELDS[i][1] .. '":'
  FIELDS[i][4] = FIELDS[i][3] .. '"'
end

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

--- A record as its JSON document. Names and values stay apart: joining a pair makes one more text for each field.
function M.encode(alarm)
  local parts, n = { "{" }, 1
  for i = 1, #FIELDS do
    local field = FIELDS[i]
    local value = alarm[field[1]]
    if value and value ~= "" then
      local kind = field[2]
      if kind == "word" or (kind == "text" and not string.find(value, '[%c"\\/\127]')) then
        parts[n + 1], parts[n + 2], parts[n + 3] = field[4], value, '",'
      elseif kind == "number" then
        parts[n + 1], parts[n + 2], parts[n + 3] = field[3], value, ","
      elseif kind == "flag" then
        parts[n + 1], parts[n + 2], parts[n + 3] = field[3], value == "1" and "true" or "false", ","
      else
        parts[n + 1], parts[n + 2], parts[n + 3] = field[3], json.text(value), ","
      end
      n = n + 3
    end
  end
  return table.concat(parts) .. '"shelved":' .. shelved_json(alarm) .. ',"suppressed":'
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

--- The open record of an origin, or nil.
function M.open(ctx, origin)
  local id = ctx.graph.open[origin]
  return id and M.load(ctx.ns, id)
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

--- An id of a new alarm.
function M.new_id(ctx)
  ctx.alarms = (ctx.alarms or 0) + 1
  return "al-" .. ctx.image .. "-" .. ctx.alarms
end

local function write(ns, alarm, changes)
  local set, gone, n = {}, nil, 0
  for name, value in pairs(changes) do
    if value then
      set[n + 1], set[n + 2] = name, value
      n = n + 2
    else
      gone = gone or {}
      gone[#gone + 1] = name
    end
  end
  redis.call("HSET", keys.alarm(ns, alarm.id), unpack(set))
  if gone then
    redis.call("HDEL", keys.alarm(ns, alarm.id), unpack(gone))
  end
end

local function index_open(ctx, alarm)
  local ns = ctx.ns
  redis.call("SADD", keys.alarms_active(ns), alarm.id)
  if alarm.origin then
    redis.call("HSET", keys.alarms_open(ns), alarm.origin, alarm.id)
    ctx.graph.open[alarm.origin] = alarm.id
  end
end

local function index_resolved(ctx, alarm)
  local ns = ctx.ns
  redis.call("SREM", keys.alarms_active(ns), alarm.id)
  redis.call("ZADD", keys.alarms_resolved(ns), alarm.resolved_at_ms, alarm.id)
  if alarm.origin and ctx.graph.open[alarm.origin] == alarm.id then
    redis.call("HDEL", keys.alarms_open(ns), alarm.origin)
    ctx.graph.open[alarm.origin] = nil
  end
  if alarm.group then
    redis.call("SREM", keys.alarm_group(ns, alarm.group), alarm.id)
  end
end

--- Write a new record with its indexes, and publish it.
function M.create(ctx, alarm, at)
  local ns = ctx.ns
  alarm.updated_at_ms = string.format("%.0f", at)
  write(ns, alarm, alarm)
  redis.call("ZADD", keys.alarms_in(ns, alarm.status), alarm.created_at_ms, alarm.id)
  redis.call("SADD", keys.alarms_by_level(ns, alarm.level), alarm.id)
  redis.call("SADD", keys.alarms_by_source(ns, alarm.source), alarm.id)
  index_open(ctx, alarm)
  if alarm.origin then
    specials.changed(ctx, alarm.origin, at)
  end
  redis.call("PUBLISH", keys.alarm_new(ns), M.encode(alarm))
end

--- Change a record: { name = value }, where false takes a field away. Only what differs is written:
-- a storm of alarms is the most expensive thing a call does.
function M.change(ctx, alarm, changes, at)
  local ns, status, level, source = ctx.ns, alarm.status, alarm.level, alarm.source
  for name, value in pairs(changes) do
    if (alarm[name] or false) == value then
      changes[name] = nil
    else
      alarm[name] = value or nil
    end
  end
  local at_text = string.format("%.0f", at)
  changes.updated_at_ms, alarm.updated_at_ms = at_text, at_text
  write(ns, alarm, changes)
  if changes.status then
    redis.call("ZREM", keys.alarms_in(ns, status), alarm.id)
    redis.call("ZADD", keys.alarms_in(ns, alarm.status), alarm.created_at_ms, alarm.id)
    if alarm.status == "Resolved" then
      index_resolved(ctx, alarm)
    end
  end
  if changes.level then
    redis.call("SREM", keys.alarms_by_level(ns, level), alarm.id)
    redis.call("SADD", keys.alarms_by_level(ns, alarm.level), alarm.id)
  end
  if changes.source then
    redis.call("SREM", keys.alarms_by_source(ns, source), alarm.id)
    redis.call("SADD", keys.alarms_by_source(ns, alarm.source), alarm.id)
  end
  if alarm.origin then
    specials.changed(ctx, alarm.origin, at)
  end
  redis.call("PUBLISH", keys.alarm_changed(ns), M.encode(alarm))
end

--- Take a Resolved record and every index entry of it away.
function M.remove(ns, alarm)
  redis.call("DEL", keys.alarm(ns, alarm.id))
  redis.call("ZREM", keys.alarms_in(ns, alarm.status), alarm.id)
  redis.call("ZREM", keys.alarms_resolved(ns), alarm.id)
  redis.call("SREM", keys.alarms_by_level(ns, alarm.level), alarm.id)
  redis.call("SREM", keys.alarms_by_source(ns, alarm.source), alarm.id)
end

return M
