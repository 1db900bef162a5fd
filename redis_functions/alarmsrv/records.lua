-- The records of alarms: one hash an occurrence, its indexes, and what is published of it.
-- Every change goes through M.create and M.change, so an index never keeps a stale member.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local replay = require("core.replay")
local specials = require("core.specials")
local writes = require("core.writes")

local M = {}

M.STATUSES = { "New", "Acknowledged", "Returned", "Resolved" }

-- What not every record has, in the order of the document, with the JSON type of each: a word is a text of ours, which
-- needs no escaping.
local MORE = {
  { "description", "text" }, { "priority", "number" }, { "origin", "text" }, { "definition", "word" }, { "rule", "word" },
  { "version", "number" }, { "value", "number" }, { "quality", "word" }, { "uncertain", "flag" }, { "latched", "flag" },
  { "first_out", "flag" }, { "group", "word" }, { "area", "text" }, { "equipment", "word" }, { "tags", "number" },
  { "created_by", "text" }, { "acknowledged_by", "text" }, { "acknowledged_at_ms", "number" },
  { "returned_at_ms", "number" }, { "realarmed_at_ms", "number" }, { "resolved_by", "text" },
  { "resolved_at_ms", "number" }, { "comment", "text" },
}
-- Names, and what stands before a value of each, made once; of a flag the whole member.
local NAMES, KINDS, BEFORE = {}, {}, {}
for i = 1, #MORE do
  local name, kind = MORE[i][1], MORE[i][2]
  NAMES[i], KINDS[i] = name, kind
  BEFORE[i] = ',"' .. name .. '":' .. (kind == "flag" and "true" or kind == "word" and '"' or "")
end

local function shelved_json(alarm)
  if not alarm.shelved_by or alarm.shelved_by == "" then
    return "null"
  end
  return json.object({
    "until_ms", alarm.shelved_until_ms ~= "" and alarm.shelved_until_ms or "null", "by", json.text(alarm.shelved_by),
    "one_shot", alarm.shelved_one_shot == "1" and "true" or "false",
    "comment", alarm.shelved_comment and json.text(alarm.shelved_comment),
  })
end

-- By whom, on which of the alarm's names (its own, its group's, ...), and why.
local function by_json(by, name, comment)
  return by and by ~= "" and json.object({
    "by", json.text(by), "name", name and json.text(name), "comment", comment and json.text(comment),
  }) or "null"
end
M.by_json = by_json

local function attention_json(alarm)
  if not (alarm.shelved_by or alarm.suppressed_by or alarm.out_of_service_by) then
    return ',"shelved":null,"suppressed":null,"out_of_service":null}'
  end
  return ',"shelved":' .. shelved_json(alarm)
    .. ',"suppressed":' .. by_json(alarm.suppressed_by, alarm.suppressed_name, alarm.suppressed_comment)
    .. ',"out_of_service":' .. by_json(alarm.out_of_service_by, alarm.out_of_service_name, alarm.out_of_service_comment) .. "}"
end

local function text_json(value)
  value = value or ""
  return string.find(value, '[%c"\\/\127]') and json.text(value) or '"' .. value .. '"'
end

-- Lists that grow cost more than what is done with them, and every transition needs one: these are used again and
-- again, each time from 1 to a length of its own.
local parts, flat = {}, {}

--- A record as its JSON document. This is much of what a transition costs, so what every record has is one
-- expression, and of the rest names and values stay apart: joining a pair makes one more text for each.
function M.encode(alarm)
  local list, names, n = parts, NAMES, 1
  list[1] = '{"id":"' .. alarm.id .. '","title":' .. text_json(alarm.title) .. ',"level":"' .. alarm.level
    .. '","source":' .. text_json(alarm.source) .. ',"status":"' .. alarm.status .. '","count":' .. (alarm.count or "1")
    .. ',"active":' .. (alarm.active == "1" and "true" or "false")
    .. ',"ack_required":' .. (alarm.ack_required == "1" and "true" or "false")
    .. ',"created_at_ms":' .. alarm.created_at_ms .. ',"updated_at_ms":' .. (alarm.updated_at_ms or alarm.created_at_ms)
  for i = 1, #names do
    local value = alarm[names[i]]
    if value and value ~= "" then
      local kind = KINDS[i]
      list[n + 1] = BEFORE[i]
      if kind == "number" then
        list[n + 2] = value
        n = n + 2
      elseif kind == "word" then
        list[n + 2], list[n + 3] = value, '"'
        n = n + 3
      elseif kind == "text" then
        list[n + 2] = text_json(value)
        n = n + 2
      elseif value == "1" then
        n = n + 1
      end
    end
  end
  list[n + 1] = attention_json(alarm)
  return table.concat(list, "", 1, n + 1)
end

--- The record of an id, or nil.
function M.load(ns, id)
  local found = redis.call("HGETALL", keys.alarm(ns, id))
  if #found == 0 then
    return nil
  end
  -- With room for what most have: a table that grows is made anew at each doubling.
  local alarm = {
    id = nil, status = nil, active = nil, count = nil, created_at_ms = nil, title = nil, level = nil, source = nil,
    origin = nil, definition = nil, version = nil, value = nil, quality = nil, ack_required = nil, priority = nil,
    updated_at_ms = nil, returned_at_ms = nil, resolved_at_ms = nil, resolved_by = nil, acknowledged_by = nil,
  }
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

--- An id of a new alarm; one by hand has no origin.
function M.new_id(ctx, origin)
  ctx.alarms = (ctx.alarms or 0) + 1
  return replay.id(ctx.ns, "alarm|" .. (origin or ""), "al-" .. ctx.image .. "-" .. ctx.alarms)
end

local function write(ns, alarm, changes)
  local gone, n = nil, 0
  for name, value in pairs(changes) do
    if value then
      flat[n + 1], flat[n + 2] = name, value
      n = n + 2
    else
      gone = gone or {}
      gone[#gone + 1] = name
    end
  end
  redis.call("HSET", keys.alarm(ns, alarm.id), unpack(flat, 1, n))
  if gone then
    redis.call("HDEL", keys.alarm(ns, alarm.id), unpack(gone))
  end
end

-- What keeps an alarm quiet: the field that says who, and the name of the index.
local QUIET = { shelved_by = "shelved", suppressed_by = "suppressed", out_of_service_by = "out_of_service" }

local function index_place(ns, id, area, equipment, present)
  if area then
    writes.member(keys.alarms_by_area(ns, area), id, present)
  end
  if equipment then
    writes.member(keys.alarms_by_equipment(ns, equipment), id, present)
  end
end

-- The sets an alarm is in for what few have. `changes` names the fields that are new; `area` and
-- `equipment` are what they were.
local function index_more(ns, alarm, changes, area, equipment)
  if changes.area ~= nil or changes.equipment ~= nil then
    index_place(ns, alarm.id, area ~= alarm.area and area, equipment ~= alarm.equipment and equipment, false)
    index_place(ns, alarm.id, alarm.area, alarm.equipment, true)
  end
  for field, why in pairs(QUIET) do
    if changes[field] ~= nil then
      writes.member(keys.alarms_quiet(ns, why), alarm.id, alarm[field] ~= nil)
    end
  end
end

local function index_open(ctx, alarm)
  local ns = ctx.ns
  writes.member(keys.alarms_active(ns), alarm.id, true)
  if alarm.origin then
    writes.field(keys.alarms_open(ns), alarm.origin, alarm.id)
    ctx.graph.open[alarm.origin] = alarm.id
  end
end

--- An alarm leaves its group. With the last one the group is clear, and its first-out over.
function M.leave_group(ns, group, id)
  redis.call("SREM", keys.alarm_group(ns, group), id)
  if redis.call("EXISTS", keys.alarm_group(ns, group)) == 0 then
    redis.call("HDEL", keys.alarm_first_outs(ns), group)
  end
end

local function index_resolved(ctx, alarm)
  local ns = ctx.ns
  writes.member(keys.alarms_active(ns), alarm.id, false)
  writes.score(keys.alarms_resolved(ns), alarm.id, alarm.resolved_at_ms)
  if alarm.origin and ctx.graph.open[alarm.origin] == alarm.id then
    writes.field(keys.alarms_open(ns), alarm.origin, false)
    ctx.graph.open[alarm.origin] = nil
  end
  if alarm.group then
    M.leave_group(ns, alarm.group, alarm.id)
  end
end

--- Write a new record with its indexes, and publish it.
function M.create(ctx, alarm, at)
  local ns = ctx.ns
  alarm.updated_at_ms = numbers.whole(at)
  write(ns, alarm, alarm)
  writes.score(keys.alarms_in(ns, alarm.status), alarm.id, alarm.created_at_ms)
  writes.member(keys.alarms_by_level(ns, alarm.level), alarm.id, true)
  writes.count(keys.alarms_counts(ns), alarm.level, 1)
  redis.call("SADD", keys.alarms_by_source(ns, alarm.source), alarm.id)
  index_more(ns, alarm, alarm)
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
  local area, equipment = alarm.area, alarm.equipment
  for name, value in pairs(changes) do
    if (alarm[name] or false) == value then
      changes[name] = nil
    else
      alarm[name] = value or nil
    end
  end
  local at_text = numbers.whole(at)
  changes.updated_at_ms, alarm.updated_at_ms = at_text, at_text
  write(ns, alarm, changes)
  if changes.status then
    writes.score(keys.alarms_in(ns, status), alarm.id, false)
    writes.score(keys.alarms_in(ns, alarm.status), alarm.id, alarm.created_at_ms)
    if alarm.status == "Resolved" then
      index_resolved(ctx, alarm)
      writes.count(keys.alarms_counts(ns), alarm.level, -1)
    end
  end
  index_more(ns, alarm, changes, area, equipment)
  if changes.level then
    writes.count(keys.alarms_counts(ns), level, -1)
    writes.count(keys.alarms_counts(ns), alarm.level, 1)
    writes.member(keys.alarms_by_level(ns, level), alarm.id, false)
    writes.member(keys.alarms_by_level(ns, alarm.level), alarm.id, true)
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
  writes.score(keys.alarms_in(ns, alarm.status), alarm.id, false)
  writes.score(keys.alarms_resolved(ns), alarm.id, false)
  writes.member(keys.alarms_by_level(ns, alarm.level), alarm.id, false)
  redis.call("SREM", keys.alarms_by_source(ns, alarm.source), alarm.id)
  index_place(ns, alarm.id, alarm.area, alarm.equipment, false)
  for field, why in pairs(QUIET) do
    if alarm[field] then
      writes.member(keys.alarms_quiet(ns, why), alarm.id, false)
    end
  end
end

return M
