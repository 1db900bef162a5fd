-- The life of alarms: what raises, ends, re-alarms and closes them, row by row of alarmsrv/states.lua.
--
-- New = active, unacknowledged; Acknowledged = active, acknowledged; Returned = condition ended,
-- unacknowledged; Resolved = closed. One record an occurrence, at most one open record an origin.
local errors = require("lib.errors")
local journal = require("alarmsrv.journal")
local keys = require("lib.keys")
local marks = require("alarmsrv.marks")
local numbers = require("lib.numbers")
local records = require("alarmsrv.records")
local states = require("alarmsrv.states")
local templates = require("alarmsrv.templates")
local timers = require("core.timers")

local M = {}

M.encode = records.encode
M.load = records.load

local NO_FACTS = {}

M.seen = marks.seen

-- ---------------------------------------------------------------- beginning

-- A channel or a unit that is down suppresses the alarms of its points.
local function suppresses(spec)
  if spec.suppresses then
    return spec.suppresses
  end
  if string.find(spec.origin, "^system:channel:") or string.find(spec.origin, "^system:unit:") then
    return { spec.source }
  end
  return nil
end

local function set_realarm(ctx, alarm, at)
  if alarm.realarm_ms then
    timers.set(ctx.ns, at + tonumber(alarm.realarm_ms), "realarm", alarm.id)
  end
end

-- An alarm joins a group. True when it is the first-out: the first of a group whose alarms were all closed, until they
-- all are again, also where it was closed meanwhile and comes again.
local function join_group(ctx, alarm, group)
  local members, firsts = keys.alarm_group(ctx.ns, group), keys.alarm_first_outs(ctx.ns)
  local first = redis.call("EXISTS", members) == 0
  if first then
    redis.call("HSET", firsts, group, alarm.origin)
  end
  redis.call("SADD", members, alarm.id)
  return first or redis.call("HGET", firsts, group) == alarm.origin
end

-- Events are of no group's first-out. Returns what becomes of the mark: nil where it stays.
local function swap_group(ctx, alarm, kept)
  local was, group = alarm.level ~= "Info" and alarm.group or nil, kept.level ~= "Info" and kept.group or nil
  if was ~= group then
    if was then
      records.leave_group(ctx.ns, was, alarm.id)
    end
    return group and join_group(ctx, alarm, group) and "1" or false
  end
  return nil
end

-- The definition may be another than when the alarm returned. True when its names are others.
local function adopt(ctx, alarm, spec, changes)
  changes.level, changes.priority, changes.version = spec.level, spec.priority, spec.version or false
  changes.ack_required, changes.tags = spec.ack_required and "1" or "0", spec.tags or false
  changes.group, changes.area, changes.equipment = spec.group or false, spec.area or false, spec.equipment or false
  changes.source, changes.realarm_ms = spec.source, spec.realarm_ms or false
  changes.first_out = swap_group(ctx, alarm, spec)
  return alarm.group ~= spec.group or alarm.equipment ~= spec.equipment or alarm.source ~= spec.source
end

local function recur(ctx, alarm, spec, at)
  local row = states.life(states.of(alarm), "begin", NO_FACTS)
  local status, latched = states.split(row[4])
  local changes = {
    status = status, latched = latched or false, active = "1", uncertain = false,
    count = string.format("%.0f", tonumber(alarm.count or 1) + 1),
    value = spec.value or false, quality = spec.quality or false, returned_at_ms = false,
    -- It says why it came this time: the value that a message shows, the cause of a system alarm.
    title = spec.title, description = spec.description,
  }
  if status == "New" then
    changes.acknowledged_by, changes.acknowledged_at_ms = false, false
  end
  local moved = spec.definition and adopt(ctx, alarm, spec, changes)
  records.change(ctx, alarm, changes, at)
  journal.append(ctx, at, alarm, row[5])
  if moved then
    marks.refresh(ctx, alarm, "suppressed", at)
    marks.refresh(ctx, alarm, "out_of_service", at)
  end
  return alarm
end

local function begin(ctx, spec, at)
  local row = states.life("Normal", "begin", NO_FACTS)
  local alarm = {
    id = records.new_id(ctx, spec.origin), status = row[4], active = "1", count = "1", created_at_ms = numbers.whole(at),
    title = spec.title, description = spec.description, level = spec.level, source = spec.source,
    origin = spec.origin, definition = spec.definition, rule = spec.rule, version = spec.version,
    value = spec.value, quality = spec.quality, tags = spec.tags, ack_required = spec.ack_required and "1" or "0",
    priority = spec.priority, group = spec.group, area = spec.area, equipment = spec.equipment,
    realarm_ms = spec.realarm_ms,
  }
  if alarm.group and alarm.level ~= "Info" and join_group(ctx, alarm, alarm.group) then
    alarm.first_out = "1"
  end
  marks.born(ctx, alarm)
  records.create(ctx, alarm, at)
  journal.append(ctx, at, alarm, row[5])
  marks.born_journal(ctx, alarm, at)
  return alarm
end

--- Raise the alarm of an origin, or count on the open one.
-- `spec` is { origin, title, description, level, source, ack_required, value, quality, version, ... }, and
-- `suppresses`, a list of names (alarmsrv/marks.lua) whose alarms are suppressed while this one is active.
function M.raise(ctx, spec, at)
  local open = records.open(ctx, spec.origin)
  local alarm
  if open then
    alarm = recur(ctx, open, spec, at)
  else
    alarm = begin(ctx, spec, at)
  end
  set_realarm(ctx, alarm, at)
  local names = suppresses(spec)
  for i = 1, names and #names or 0 do
    marks.hold(ctx, "suppressed", names[i], spec.origin, spec.origin, at)
  end
  return alarm
end

--- Raise the alarm of a definition. `seen` holds the value and quality at the transition.
function M.raise_definition(ctx, watcher, seen)
  local kept = watcher.kept
  return M.raise(ctx, {
    origin = watcher.id, definition = watcher.name, title = seen.title or templates.render(ctx, watcher, seen),
    level = kept.level, source = kept.source, ack_required = watcher.ack_required, value = seen.text,
    quality = seen.quality or "good", version = kept.version, tags = kept.tags, priority = kept.priority,
    group = kept.group, area = kept.area, equipment = kept.equipment, realarm_ms = kept.realarm_ms,
    suppresses = watcher.document.suppresses,
  }, seen.at)
end

--- A definition changed while its alarm stands: the open alarm says what the definition says now.
function M.redefine(ctx, watcher)
  local alarm = records.open(ctx, watcher.id)
  if not alarm then
    return
  end
  local kept, stays = watcher.kept, {}
  local first_out = swap_group(ctx, alarm, kept)
  if alarm.realarm_ms ~= kept.realarm_ms then
    timers.cancel(ctx.ns, "realarm", alarm.id)
  end
  local moved = alarm.realarm_ms ~= kept.realarm_ms
  records.change(ctx, alarm, {
    title = templates.render(ctx, watcher, M.seen(ctx, alarm) or {}), level = kept.level, version = kept.version or false,
    tags = kept.tags or false, ack_required = watcher.ack_required and "1" or "0", priority = kept.priority,
    group = kept.group or false, area = kept.area or false, equipment = kept.equipment or false,
    realarm_ms = kept.realarm_ms or false, first_out = first_out,
  }, ctx.now)
  if moved then
    set_realarm(ctx, alarm, ctx.now)
  end
  journal.append(ctx, ctx.now, alarm, "redefined")
  local names = watcher.document.suppresses or {}
  for i = 1, #names do
    stays[names[i]] = true
    marks.hold(ctx, "suppressed", names[i], watcher.id, watcher.id, ctx.now)
  end
  marks.release_all(ctx, watcher.id, ctx.now, stays)
  marks.refresh(ctx, alarm, "suppressed", ctx.now)
  marks.refresh(ctx, alarm, "out_of_service", ctx.now)
end

-- ---------------------------------------------------------------- ending

-- Close a record. `changes` is what the caller changes with it.
local function close(ctx, alarm, at, done, changes)
  changes = changes or {}
  changes.status, changes.active = "Resolved", "0"
  changes.resolved_at_ms = numbers.whole(at)
  changes.resolved_by = done.user or "condition"
  changes.uncertain, changes.latched = false, false
  for field, gone in pairs(marks.unshelved()) do
    changes[field] = gone
  end
  if done.comment then
    changes.comment = done.comment
  end
  records.change(ctx, alarm, changes, at)
  journal.append(ctx, at, alarm, done.what, done.user, done.comment, done.seen)
  if alarm.realarm_ms then
    timers.cancel(ctx.ns, "realarm", alarm.id)
  end
  if not alarm.origin then
    marks.forget(ctx, marks.origin_name(alarm))
  end
end

-- One shot is over when its condition ends.
local function end_one_shot(ctx, alarm, at, seen)
  if alarm.shelved_one_shot ~= "1" then
    return
  end
  local row = states.shelving("one_shot", "end", NO_FACTS)
  marks.unshelve(ctx, marks.origin_name(alarm))
  records.change(ctx, alarm, marks.unshelved(), at)
  local said = seen or { text = alarm.value, quality = alarm.quality }
  journal.append(ctx, at, alarm, row[5], "condition", nil, { text = said.text, quality = said.quality, over = true })
end

--- The condition of an origin ended: Returned, Resolved, or latched where the definition says so.
-- `seen` is { text, quality } of that moment, where the caller has it.
function M.condition_ended(ctx, origin, at, seen)
  local alarm = records.open(ctx, origin)
  if not alarm or alarm.active ~= "1" then
    return
  end
  local watcher = ctx.graph.watchers[origin]
  end_one_shot(ctx, alarm, at, seen)
  local row = states.life(states.of(alarm), "end", {
    latching = watcher and watcher.document.latching == true, ack_required = alarm.ack_required == "1",
  })
  local changes = { active = "0", uncertain = false, returned_at_ms = numbers.whole(at) }
  if row[4] == "Resolved" then
    close(ctx, alarm, at, { what = row[5], seen = seen }, changes)
  else
    local status, latched = states.split(row[4])
    changes.status, changes.latched = status, latched or false
    if alarm.realarm_ms then
      timers.cancel(ctx.ns, "realarm", alarm.id)
    end
    records.change(ctx, alarm, changes, at)
    journal.append(ctx, at, alarm, row[5], nil, nil, seen)
  end
  marks.release_all(ctx, origin, at)
end

--- Mark the open alarm of an origin uncertain while its condition is unknown.
function M.mark_uncertain(ctx, origin, uncertain, at)
  local alarm = records.open(ctx, origin)
  if alarm and (alarm.uncertain == "1") ~= uncertain then
    records.change(ctx, alarm, { uncertain = uncertain and "1" or false }, at or ctx.now)
    journal.append(ctx, at or ctx.now, alarm, uncertain and "uncertain" or "certain", nil, nil, M.seen(ctx, alarm))
  end
end

-- ---------------------------------------------------------------- what people do

-- The flag says that the condition stood at the last transition; a rule that was triggered by hand
-- raises an alarm whose condition nobody watches, and that one resolves by hand.
local function stands(ctx, alarm)
  if alarm.active ~= "1" or not alarm.origin then
    return false
  end
  local watcher = marks.watcher_of(ctx, alarm)
  return watcher ~= nil and watcher.active == true
end

--- The row of what a person asks for, or STATE. Nothing is written.
function M.asked(ctx, alarm, event)
  local state = states.of(alarm)
  local row = states.life(state, event, { event = alarm.level == "Info", stands = stands(ctx, alarm) })
  if not row then
    return nil, "alarm " .. alarm.id .. " is " .. state
  elseif not row[4] then
    return nil, "alarm " .. alarm.id .. " can't be " .. event .. "d: " .. row[6]
  end
  return row
end

--- Carry out what M.asked allowed.
function M.carry_out(ctx, alarm, row, by, comment)
  local now, seen = ctx.now, M.seen(ctx, alarm)
  local changes = {}
  if row[5] == "acknowledged" then
    changes.acknowledged_by, changes.acknowledged_at_ms = by, numbers.whole(now)
  end
  if row[4] == "Resolved" then
    local ended = alarm.active == "1"
    close(ctx, alarm, now, { what = row[5], user = by, comment = comment, seen = seen }, changes)
    if ended and alarm.origin then
      marks.release_all(ctx, alarm.origin, now)
    end
    return
  end
  local status, latched = states.split(row[4])
  changes.status, changes.latched, changes.comment = status, latched or false, comment
  records.change(ctx, alarm, changes, now)
  journal.append(ctx, now, alarm, row[5], by, comment, seen)
end

--- Ask and carry out, or fail with STATE. Returns false where nothing changes.
function M.act(ctx, alarm, event, by, comment, accept)
  local row, problem = M.asked(ctx, alarm, event)
  if not row then
    errors.fail("STATE", problem)
  elseif not row[5] then
    return false
  end
  accept(ctx)
  M.carry_out(ctx, alarm, row, by, comment)
  return true
end

-- ---------------------------------------------------------------- timers

--- The re-alarm time is over: an alarm that is still active asks for attention anew, acknowledged or not.
function M.realarm_over(ctx, id, due)
  local alarm = records.load(ctx.ns, id)
  local row = alarm and alarm.realarm_ms and alarm.active == "1" and states.life(states.of(alarm), "realarm", NO_FACTS)
  if not row then
    return
  end
  -- After a time without calls it fires once, not once for each interval that went by.
  local interval = tonumber(alarm.realarm_ms)
  timers.set(ctx.ns, due + interval * (math.floor((ctx.now - due) / interval) + 1), "realarm", id)
  if alarm.shelved_by or alarm.suppressed_by or alarm.out_of_service_by then
    return
  end
  records.change(ctx, alarm, {
    status = row[4], acknowledged_by = false, acknowledged_at_ms = false, realarmed_at_ms = numbers.whole(due),
  }, due)
  journal.append(ctx, due, alarm, row[5], nil, nil, M.seen(ctx, alarm))
end

--- End the shelving of a name: its time is over, or its definition is gone. `user` is what the journal says.
function M.unshelve(ctx, name, at, user)
  local mark = marks.unshelve(ctx, name)
  local row = mark and states.shelving(mark.one_shot and "one_shot" or "timed", "expire", NO_FACTS)
  if not row then
    return
  end
  local alarm = marks.alarm_of(ctx, name)
  if alarm then
    records.change(ctx, alarm, marks.unshelved(), at)
    journal.append(ctx, at, alarm, row[5], user, nil, M.seen(ctx, alarm))
  else
    journal.append(ctx, at, M.nobody(name), row[5], user)
  end
end

--- The timer of a shelving.
function M.shelve_over(ctx, name, due)
  M.unshelve(ctx, name, due, "timer")
end

--- A definition is gone, and with it why its alarm asked for no attention.
function M.forget(ctx, name)
  M.unshelve(ctx, name, ctx.now, "definition")
  for _, kind in ipairs({ "suppressed", "out_of_service" }) do
    marks.release(ctx, kind, name, marks.HAND, "definition", ctx.now)
    marks.release(ctx, kind, name, "condition", "definition", ctx.now)
  end
  marks.forget(ctx, name)
end

--- What the journal says of a name without an open alarm.
function M.nobody(name)
  return { id = name, status = "Normal", level = "Info", source = name, title = name, origin = name }
end

return M
