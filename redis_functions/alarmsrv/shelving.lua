-- Alarms that ask for no attention: shelved for a time, suppressed by design, out of service.
-- They still stand, and `alarms:active` still holds them.
--
-- KEYS[1] is an alarm, or what it comes from: alarm:{definition} also while no alarm of it is open. Suppression
-- and service take group:{group}, equipment:{equipment}, comsrv:{channel} and comsrv:{channel}:unit:{unit}, too.
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local call = require("core.call")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local journal = require("alarmsrv.journal")
local json = require("lib.json")
local keys = require("lib.keys")
local known = require("core.known")
local marks = require("alarmsrv.marks")
local records = require("alarmsrv.records")
local states = require("alarmsrv.states")

local M = {}

local MAX_SHELVE_MS = compile.MAX_MS

-- ---------------------------------------------------------------- what is meant

local function definition_name(ns, name)
  local definition = string.match(name, "^alarm:(.*)$")
  if definition and redis.call("EXISTS", keys.definition(ns, definition)) == 0 then
    errors.fail("NOTFOUND", "alarm definition " .. definition)
  end
end

-- The alarm and the name that KEYS[1] means: { alarm, name }. The alarm of a name is nil while none is open.
local function target_of(ctx, id)
  if not compile.is_name(id) then
    local alarm = records.load_or_fail(ctx.ns, args.id(id, "alarm"))
    if alarm.status == "Resolved" then
      errors.fail("STATE", "alarm " .. id .. " is Resolved")
    end
    return { alarm = alarm, name = marks.origin_name(alarm) }
  end
  definition_name(ctx.ns, id)
  return { alarm = records.open(ctx, id), name = id }
end

local function level_of(ctx, target)
  if target.alarm then
    return target.alarm.level
  end
  local watcher = ctx.graph.watchers[target.name]
  return watcher and watcher.kept and watcher.kept.level
end

local function shelved_json(mark)
  return mark and json.object({
    "by", json.text(mark.by), "until_ms", json.integer(mark.until_ms), "one_shot", tostring(mark.one_shot == true),
    "comment", mark.comment and json.text(mark.comment),
  }) or "null"
end

-- What is marked: the open alarm, or one as it would be raised.
local function subject_of(ctx, target)
  local watcher = ctx.graph.watchers[target.name]
  local kept = watcher and watcher.kept or {}
  return target.alarm or { origin = target.name, source = kept.source or "", group = kept.group, equipment = kept.equipment }
end

-- The reply: the alarm, or where none is open what holds of the name.
local function answer(ctx, target)
  if target.alarm then
    return records.encode(target.alarm)
  end
  local subject, nobody = subject_of(ctx, target), known.nobody(ctx.graph, target.name)
  return json.object({
    "name", json.text(target.name), "shelved", shelved_json(marks.shelved(ctx, target.name)),
    "suppressed", records.by_json(marks.holder_of(ctx, "suppressed", subject)),
    "out_of_service", records.by_json(marks.holder_of(ctx, "out_of_service", subject)),
    "warnings", nobody and json.list({ known.warning(target.name, nobody) }),
  })
end

-- `stands` says who marked which of its names.
local function refuse(target, row, verb, stands)
  local what = target.alarm and ("alarm " .. target.alarm.id) or target.name
  errors.fail("STATE", what .. " can't be " .. verb .. ": " .. (row and row[6] or "there is no such way") .. (stands or ""))
end

-- Parse what all of the functions below take: { ctx, target, document, by, comment }.
local function begin(ns, id, argv)
  local document = args.document(argv[1], true)
  local by = records.operator(document.by or "redis-cli", "by")
  local comment = records.comment(document.comment)
  if not id then
    errors.fail("INVALID", "KEYS[1] is missing: an alarm, or a name such as alarm:{definition}")
  end
  local ctx = call.begin(ns, document.now_ms)
  return { ctx = ctx, target = target_of(ctx, id), document = document, by = by, comment = comment }
end

-- ---------------------------------------------------------------- shelving

local function most_of(ctx, target)
  local watcher = ctx.graph.watchers[target.name]
  local most = watcher and watcher.document.max_shelve_ms
  return most and math.min(most, MAX_SHELVE_MS) or MAX_SHELVE_MS
end

local function shelving_state(ctx, name)
  local mark = marks.shelved(ctx, name)
  return not mark and "unshelved" or (mark.one_shot and "one_shot" or "timed")
end

local function note(asked, what, changes)
  local ctx, alarm = asked.ctx, asked.target.alarm
  if alarm then
    changes.comment = asked.comment
    records.change(ctx, alarm, changes, ctx.now)
  end
  journal.append(
    ctx, ctx.now, alarm or alarms.nobody(asked.target.name), what, asked.by, asked.comment, alarm and alarms.seen(ctx, alarm)
  )
end

--- Shelve an alarm: it stands, but asks for no attention until the time is over.
--
-- The time is of the definition: an alarm that comes again within it is shelved, too. One shot ends with the
-- condition, and at the latest after the maximum: 24 h, or the definition's max_shelve_ms.
--
-- KEYS[1]  alarm, or alarm:{definition}
-- ARGV[1]  {duration_ms (at most the maximum) or one_shot: true (until its condition ends), comment?, by?, now_ms?}
-- Returns  the alarm; {name, shelved, suppressed, out_of_service, warnings?} where none is open: it warns of a name that
--          stands for nothing (yet)
-- Errors   NOTFOUND  no such alarm
--          INVALID   duration_ms is not 1 to the maximum
--          STATE     it is Resolved, or an Info; one_shot while its condition has ended; max_shelve_ms is 0
-- Writes   alarmsrv:alarm:{id}, alarmsrv:marks, voltage:timers, alarmsrv:journal
-- Example  FCALL alarm_shelve 1 door '{"duration_ms":600000,"by":"anna","comment":"repair on Monday"}'
function M.shelve(ns, id, argv)
  local asked = begin(ns, id, argv)
  local ctx, target = asked.ctx, asked.target
  local once = asked.document.one_shot == true
  if string.find(target.name, "^group:") or string.find(target.name, "^equipment:") or string.find(target.name, "^comsrv:") then
    errors.fail("INVALID", target.name .. " can be suppressed or taken out of service; shelving is of an alarm")
  end
  local most = most_of(ctx, target)
  local lasts = once and most or args.integer(asked.document.duration_ms, "duration_ms", 1, most > 0 and most or MAX_SHELVE_MS)
  local row = states.shelving(shelving_state(ctx, target.name), once and "shelve_once" or "shelve", {
    event = level_of(ctx, target) == "Info", unshelvable = most == 0,
    ended = target.alarm == nil or target.alarm.active ~= "1",
  })
  if not row or not row[4] then
    refuse(target, row, "shelved")
  end
  call.accept(ctx)
  marks.shelve(ctx, target.name, asked.by, ctx.now + lasts, once, asked.comment)
  note(asked, row[5], {
    shelved_by = asked.by, shelved_one_shot = once and "1" or "0", shelved_until_ms = string.format("%.0f", ctx.now + lasts),
    shelved_comment = asked.comment or false,
  })
  return call.finish(ctx, answer(ctx, target))
end

--- End the shelving of an alarm; without one nothing changes.
--
-- KEYS[1]  alarm, or alarm:{definition}
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  as alarm_shelve
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:marks, voltage:timers, alarmsrv:journal
-- Example  FCALL alarm_unshelve 1 door '{"by":"anna"}'
function M.unshelve(ns, id, argv)
  local asked = begin(ns, id, argv)
  local ctx, target = asked.ctx, asked.target
  local row = states.shelving(shelving_state(ctx, target.name), "unshelve", {})
  if row[5] then
    call.accept(ctx)
    marks.unshelve(ctx, target.name)
    note(asked, row[5], marks.unshelved())
  end
  return call.finish(ctx, answer(ctx, target))
end

-- ---------------------------------------------------------------- suppression and service

local IN = { suppressed = "suppressed", out_of_service = "out_of_service" }
local OUT = { suppressed = "unsuppressed", out_of_service = "in_service" }

-- A name's own mark is changed; every open alarm that has the name follows (alarmsrv/marks.lua).
local function alter(ns, id, argv, kind, event, on)
  local asked = begin(ns, id, argv)
  local ctx, target = asked.ctx, asked.target
  local held = marks.by_hand(ctx, kind, target.name)
  local by, name = marks.holder_of(ctx, kind, subject_of(ctx, target))
  local machine = kind == "suppressed" and states.suppression or states.service
  local row = machine(by and IN[kind] or OUT[kind], event, { by_design = not held })
  if not row[4] then
    refuse(
      target, row, on and kind or (kind == "suppressed" and "unsuppressed" or "returned to service"), " (" .. name .. ", by " .. by .. ")"
    )
  end
  -- A person's mark beside another's changes nothing that shows, but outlasts it.
  if on ~= held then
    call.accept(ctx)
    local change = on and marks.hold or marks.release
    change(ctx, kind, target.name, marks.HAND, asked.by, ctx.now, asked.comment)
    if target.alarm then
      target.alarm = records.load(ns, target.alarm.id)
    else
      journal.append(ctx, ctx.now, alarms.nobody(target.name), on and IN[kind] or OUT[kind], asked.by, asked.comment)
    end
  end
  return call.finish(ctx, answer(ctx, target))
end

--- Suppress an alarm by design, as while its plant is started up.
--
-- KEYS[1]  alarm, alarm:{definition}, group:{group}, equipment:{equipment}, comsrv:{channel}, comsrv:{channel}:unit:{unit}
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  as alarm_shelve
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved
-- Writes   alarmsrv:alarm:{id}, alarmsrv:marks, alarmsrv:journal
-- Example  FCALL alarm_suppress 1 door '{"by":"anna"}'
function M.suppress(ns, id, argv)
  return alter(ns, id, argv, "suppressed", "suppress", true)
end

--- End the suppression of an alarm by a person; without one nothing changes.
--
-- KEYS[1]  as alarm_suppress
-- ARGV[1]  {comment?, by?, now_ms?}
-- Returns  as alarm_shelve
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved, or what suppresses it by design stands
-- Writes   alarmsrv:alarm:{id}, alarmsrv:marks, alarmsrv:journal
-- Example  FCALL alarm_unsuppress 1 door '{"by":"anna"}'
function M.unsuppress(ns, id, argv)
  return alter(ns, id, argv, "suppressed", "unsuppress", false)
end

--- Take an alarm out of service for maintenance, or return it.
--
-- KEYS[1]  as alarm_suppress
-- ARGV[1]  {in_service?: true to return it, comment?, by?, now_ms?}
-- Returns  as alarm_shelve
-- Errors   NOTFOUND  no such alarm
--          STATE     it is Resolved, or its group or equipment is out of service
-- Writes   alarmsrv:alarm:{id}, alarmsrv:marks, alarmsrv:journal
-- Example  FCALL alarm_out_of_service 1 door '{"by":"anna"}'
function M.out_of_service(ns, id, argv)
  local back = args.document(argv[1], true).in_service == true
  return alter(ns, id, argv, "out_of_service", back and "return" or "take_out", not back)
end

--- What is shelved, suppressed or out of service, whether an alarm of it is open or not.
--
-- Returns  {items: [{kind, name, holder, by, at_ms, until_ms?, one_shot?, comment?}]}, by kind and name
-- Example  FCALL alarm_marks 0
function M.list(ns)
  local found, items = redis.call("HGETALL", keys.alarm_marks(ns)), {}
  for i = 1, #found, 2 do
    local kind, name, holder = string.match(found[i], "^([%l_]+)|([^|]*)|(.*)$")
    items[#items + 1] = json.object({
      "kind", json.text(kind), "name", json.text(name), "holder", json.text(holder),
    })
    items[#items] = string.sub(items[#items], 1, -2) .. "," .. string.sub(found[i + 1], 2)
  end
  table.sort(items)
  return json.object({ "items", json.list(items) })
end

return M
