-- Why alarms ask for no attention: shelved by an operator, suppressed by design, out of service.
--
-- A mark is on a name, and it stays whether an alarm is open or not. An alarm has several names:
--   alarm:{definition}, rule:{rule}#{n}, system:...   its origin (hand:{alarm} for one made by hand)
--   group:{group}, equipment:{equipment}              what its definition says
--   comsrv:{ch}, comsrv:{ch}:unit:{unit}              channel and unit of its point
-- Shelving is on an origin alone. A name is marked as long as anybody holds a mark on it: a person
-- ("hand"), a definition's own condition ("condition"), or an alarm that stands, by its origin.
local deferred = require("core.deferred")
local journal = require("alarmsrv.journal")
local json = require("lib.json")
local keys = require("lib.keys")
local records = require("alarmsrv.records")
local states = require("alarmsrv.states")
local timers = require("core.timers")

local M = {}

M.HAND = "hand"
-- What a record says of a mark: who, on which of its names, and why.
local RECORD = {
  suppressed = { "suppressed_by", "suppressed_name", "suppressed_comment" },
  out_of_service = { "out_of_service_by", "out_of_service_name", "out_of_service_comment" },
}

--- Read the marks of a namespace into its graph.
function M.load(graph)
  graph.marks = { shelved = {}, suppressed = {}, out_of_service = {} }
  local found = redis.call("HGETALL", keys.alarm_marks(graph.ns))
  for i = 1, #found, 2 do
    local kind, name, holder = string.match(found[i], "^([%l_]+)|([^|]*)|(.*)$")
    local names = kind and graph.marks[kind]
    if names then
      names[name] = names[name] or {}
      names[name][holder] = cjson.decode(found[i + 1])
    end
  end
end

local function put(ctx, kind, name, holder, mark)
  local names = ctx.graph.marks[kind]
  names[name] = names[name] or {}
  names[name][holder] = mark
  redis.call("HSET", keys.alarm_marks(ctx.ns), kind .. "|" .. name .. "|" .. holder, json.object({
    "by", json.text(mark.by), "at_ms", json.integer(mark.at_ms),
    "until_ms", mark.until_ms and json.integer(mark.until_ms), "one_shot", mark.one_shot and "true",
    "comment", mark.comment and json.text(mark.comment),
  }))
end

local function drop(ctx, kind, name, holder)
  local names = ctx.graph.marks[kind]
  local mark = names[name] and names[name][holder]
  if not mark then
    return nil
  end
  names[name][holder] = nil
  if next(names[name]) == nil then
    names[name] = nil
  end
  redis.call("HDEL", keys.alarm_marks(ctx.ns), kind .. "|" .. name .. "|" .. holder)
  return mark
end

--- The watcher an alarm comes from (a definition, or a rule), or nil.
function M.watcher_of(ctx, alarm)
  return alarm.origin and ctx.graph.watchers[string.match(alarm.origin, "^[^#]*")]
end

--- The value and quality at this moment of the point an alarm is about; nil where nothing watches it.
function M.seen(ctx, alarm)
  local watcher = M.watcher_of(ctx, alarm)
  local slot = watcher and watcher.leaves[1].slot
  return slot and slot.ref and { text = slot.text, quality = slot.quality or (slot.text and "good" or "missing") } or nil
end

--- The same, and of an alarm that nothing watches what its record says.
function M.moment(ctx, alarm)
  return M.seen(ctx, alarm) or { text = alarm.value, quality = alarm.quality }
end

-- ---------------------------------------------------------------- names

local function origin_name(alarm)
  return alarm.origin or ("hand:" .. alarm.id)
end
M.origin_name = origin_name

--- The open alarm of an origin, or nil.
function M.alarm_of(ctx, origin)
  local hand = string.match(origin, "^hand:(.*)$")
  if not hand then
    return records.open(ctx, origin)
  end
  local alarm = records.load(ctx.ns, hand)
  return alarm and alarm.status ~= "Resolved" and alarm or nil
end

-- The channel of an alarm's source, and the point there.
local function point_of(graph, source)
  local owner, kind, id = string.match(source, "^(comsrv:%d+):(%u):(%d+)$")
  if owner then
    return owner, kind, id
  end
  local model, name = string.match(source, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  local slot = model and graph.models[model] and graph.models[model][name]
  if slot then
    return slot.owner, slot.kind, slot.id
  end
  return string.match(source, "^(comsrv:%d+):unit:")
end

local function unit_of(ctx, owner, kind, id)
  local facts = redis.call("HGET", keys.points(ctx.ns, string.sub(owner, 8)), kind .. ":" .. id)
  return facts and string.match(facts, "^([^|]+)|")
end

local function names_a_unit(held, owner)
  for name in pairs(held) do
    if string.find(name, owner .. ":unit:", 1, true) == 1 then
      return true
    end
  end
  return false
end

-- `held` are the marks it is about; without them a unit is looked up in any case.
local function names_of(ctx, alarm, held)
  local names = { origin_name(alarm) }
  if alarm.group then
    names[#names + 1] = "group:" .. alarm.group
  end
  if alarm.equipment then
    names[#names + 1] = "equipment:" .. alarm.equipment
  end
  if alarm.origin then
    local owner, kind, id = point_of(ctx.graph, alarm.source)
    if owner then
      names[#names + 1] = owner
      local unit = kind and (not held or names_a_unit(held, owner)) and unit_of(ctx, owner, kind, id)
      if unit then
        names[#names + 1] = owner .. ":unit:" .. unit
      end
    end
  end
  return names
end

--- All names of a definition's alarm.
function M.names(graph, watcher)
  local kept = watcher.kept
  return names_of({ ns = graph.ns, graph = graph }, {
    origin = "alarm:" .. watcher.name, source = kept.source, group = kept.group, equipment = kept.equipment,
  })
end

-- True where the point of the definition that holds a mark hangs on the very unit whose alarm it is: that unit
-- suppresses the definition, and both would be hidden.
local function hangs_on(ctx, holder, alarm)
  local ch, unit = string.match(alarm.origin or "", "^system:unit:(%d+):(.+)$")
  local watcher = ch and ctx.graph.watchers[holder]
  if not watcher or not watcher.kept then
    return false
  end
  local owner, kind, id = point_of(ctx.graph, watcher.kept.source)
  return owner == "comsrv:" .. ch and kind ~= nil and unit_of(ctx, owner, kind, id) == unit
end

--- Who holds a mark of a kind on one of the alarm's names, on which, and why; nil for nobody. A person comes before
-- others, and it is never the alarm itself.
function M.holder_of(ctx, kind, alarm)
  local held = ctx.graph.marks[kind]
  if next(held) == nil then
    return nil
  end
  local names = names_of(ctx, alarm, held)
  for i = 1, #names do
    local best
    for holder, mark in pairs(held[names[i]] or {}) do
      if holder == M.HAND then
        return mark.by, names[i], mark.comment
      elseif holder ~= alarm.origin and (not best or mark.by < best) and not hangs_on(ctx, holder, alarm) then
        best = mark.by
      end
    end
    if best then
      return best, names[i]
    end
  end
  return nil
end

-- ---------------------------------------------------------------- on records

--- The mark an origin is shelved by, or nil.
function M.shelved(ctx, name)
  local holders = ctx.graph.marks.shelved[name]
  return holders and holders[M.HAND]
end

--- What a new record of this origin is born with.
function M.born(ctx, alarm)
  local mark = M.shelved(ctx, origin_name(alarm))
  if mark then
    alarm.shelved_by, alarm.shelved_one_shot = mark.by, mark.one_shot and "1" or "0"
    alarm.shelved_until_ms, alarm.shelved_comment = string.format("%.0f", mark.until_ms), mark.comment
  end
  for kind, fields in pairs(RECORD) do
    alarm[fields[1]], alarm[fields[2]], alarm[fields[3]] = M.holder_of(ctx, kind, alarm)
  end
end

--- Journal what a new record was born with, after its first entry.
function M.born_journal(ctx, alarm, at)
  if alarm.shelved_by then
    journal.append(ctx, at, alarm, "shelved", alarm.shelved_by, alarm.shelved_comment)
  end
  if alarm.suppressed_by then
    journal.append(ctx, at, alarm, "suppressed", alarm.suppressed_by, alarm.suppressed_comment)
  end
  if alarm.out_of_service_by then
    journal.append(ctx, at, alarm, "out_of_service", alarm.out_of_service_by, alarm.out_of_service_comment)
  end
end

--- Bring a record to what the marks say. `user` and `comment` are of the person who changed them.
function M.refresh(ctx, alarm, kind, at, user, comment)
  local by_field, name_field, why_field = unpack(RECORD[kind])
  local was, now, name, why = alarm[by_field], M.holder_of(ctx, kind, alarm)
  if was == now and alarm[name_field] == name and alarm[why_field] == why then
    return
  end
  local row
  if kind == "suppressed" then
    row = states.suppression(was and "suppressed" or "unsuppressed", now and "suppress" or "unsuppress", {})
  else
    row = states.service(was and "out_of_service" or "in_service", now and "take_out" or "return", {})
  end
  records.change(ctx, alarm, {
    [by_field] = now or false, [name_field] = name or false, [why_field] = why or false, comment = comment,
  }, at)
  if row[5] then
    journal.append(ctx, at, alarm, row[5], user or now or was, comment, M.seen(ctx, alarm))
  end
end

--- Carry out a refresh that waited.
function M.refresh_origin(ctx, origin, kind, at, user, comment)
  local alarm = M.alarm_of(ctx, origin)
  if alarm then
    M.refresh(ctx, alarm, kind, at, user, comment)
  end
end

-- The open origins that have a name, in order.
local function origins_of(ctx, name)
  if string.find(name, "^hand:") then
    return { name }
  elseif not (string.find(name, "^group:") or string.find(name, "^equipment:") or string.find(name, "^comsrv:")) then
    return ctx.graph.open[name] and { name } or {}
  end
  local found, seen = {}, {}
  local function add(origin)
    if ctx.graph.open[origin] and not seen[origin] then
      seen[origin] = true
      found[#found + 1] = origin
    end
  end
  local function add_watcher(watcher)
    if watcher.kind == "alarm" then
      add(watcher.id)
    elseif watcher.kind == "rule" then
      for i = 1, #(watcher.document.actions or {}) do
        add(watcher.id .. "#" .. i)
      end
    end
  end
  local ch, unit = string.match(name, "^comsrv:(%d+)(.*)$")
  if ch then
    for _, slots in pairs(ctx.graph.owners["comsrv:" .. ch] or {}) do
      for _, slot in pairs(slots) do
        for i = 1, slot.leaves and #slot.leaves or 0 do
          add_watcher(slot.leaves[i].watcher)
        end
      end
    end
    for origin in pairs(unit == "" and ctx.graph.open or {}) do
      if string.find(origin, "system:unit:" .. ch .. ":", 1, true) == 1 then
        add(origin)
      end
    end
  else
    for watcher in pairs(ctx.graph.members[name] or {}) do
      add_watcher(watcher)
    end
  end
  -- An alarm has the group it was raised with, also where its definition was made anew with another.
  local group = string.match(name, "^group:(.+)$")
  local members = group and redis.call("SMEMBERS", keys.alarm_group(ctx.ns, group)) or {}
  for i = 1, #members do
    local origin = redis.call("HGET", keys.alarm(ctx.ns, members[i]), "origin")
    if origin then
      add(origin)
    end
  end
  -- The alarm of a definition that is gone has its names still; a look at it does no harm where it has not this one.
  for origin in pairs(ctx.graph.open) do
    if not ctx.graph.watchers[string.match(origin, "^[^#]*")] and not string.find(origin, "^system:") then
      add(origin)
    end
  end
  table.sort(found)
  return found
end

local function refresh_all(ctx, kind, name, at, user, comment)
  local origins = origins_of(ctx, name)
  for i = 1, #origins do
    if deferred.admit(ctx) then
      M.refresh_origin(ctx, origins[i], kind, at, user, comment)
    else
      deferred.wait(ctx, { refresh = origins[i], kind = kind, at = at, user = user, comment = comment })
    end
  end
end

--- Mark a name ("suppressed" or "out_of_service"), and with it every open alarm that has it.
-- `holder` is who holds the mark (M.HAND, or the origin of an alarm that stands), `by` what people read.
-- Returns false when it was held already.
function M.hold(ctx, kind, name, holder, by, at, comment)
  local names = ctx.graph.marks[kind]
  if names[name] and names[name][holder] then
    return false
  end
  put(ctx, kind, name, holder, { by = by, at_ms = at, comment = comment })
  refresh_all(ctx, kind, name, at, by, comment)
  return true
end

--- End a mark. Returns false when there was none.
function M.release(ctx, kind, name, holder, by, at, comment)
  if not drop(ctx, kind, name, holder) then
    return false
  end
  refresh_all(ctx, kind, name, at, by, comment)
  return true
end

--- End all suppression that an origin holds: its alarm stands no more. `but` names what stays.
function M.release_all(ctx, holder, at, but)
  local held = ctx.graph.marks.suppressed
  if next(held) == nil then
    return
  end
  local names = {}
  for name, holders in pairs(held) do
    if holders[holder] and not (but and but[name]) then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for i = 1, #names do
    M.release(ctx, "suppressed", names[i], holder, holder, at)
  end
end

--- Forget everything about a name that is gone, a deleted definition or a closed alarm by hand.
function M.forget(ctx, name)
  for kind, names in pairs(ctx.graph.marks) do
    local holders = {}
    for holder in pairs(names[name] or {}) do
      holders[#holders + 1] = holder
    end
    for i = 1, #holders do
      drop(ctx, kind, name, holders[i])
    end
  end
  timers.cancel(ctx.ns, "shelve", name)
end

--- True when a person marked this very name.
function M.by_hand(ctx, kind, name)
  local holders = ctx.graph.marks[kind][name]
  return holders ~= nil and holders[M.HAND] ~= nil
end

-- ---------------------------------------------------------------- shelving

--- Shelve an origin until an instant; `once` ends with its condition, too.
function M.shelve(ctx, name, by, until_ms, once, comment)
  put(ctx, "shelved", name, M.HAND, {
    by = by, at_ms = ctx.now, until_ms = until_ms, one_shot = once or nil, comment = comment,
  })
  timers.set(ctx.ns, until_ms, "shelve", name)
end

--- What a record loses with its shelving.
function M.unshelved()
  return { shelved_by = false, shelved_until_ms = false, shelved_one_shot = false, shelved_comment = false }
end

--- End the shelving of an origin. Returns the mark it had.
function M.unshelve(ctx, name)
  local mark = drop(ctx, "shelved", name, M.HAND)
  if mark then
    timers.cancel(ctx.ns, "shelve", name)
  end
  return mark
end

return M
