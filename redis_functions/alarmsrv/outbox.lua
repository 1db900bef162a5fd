-- The outbox: what operators must be told, written by the transition itself, only where a route wants it.
--
-- The head of the journal says what routes want: `wants:{level}` holds events (",raised,returned,") and
-- `escalate:{level}` the delays after which nobody having acknowledged is told ("[[300000,["hall-1"]],...]").
-- Without routes a transition finds neither and does nothing here.
local keys = require("lib.keys")
local timers = require("core.timers")

local M = {}

M.GROUP = "alarmsrv"
M.CAP = 20000

-- With these an unacknowledged alarm asks for attention, from now on.
local ASKS = { raised = true, recurred = true, realarmed = true, unshelved = true, unsuppressed = true, in_service = true }
-- These begin to ask. Where something keeps the alarm quiet meanwhile, its record keeps the first as `untold`.
local BEGINS = { raised = true, recurred = true, realarmed = true }

local function set(text)
  return text and text ~= ""
end

--- What keeps an alarm from asking for attention, or nil.
function M.masked(alarm)
  return set(alarm.out_of_service_by) and "out_of_service" or set(alarm.suppressed_by) and "suppressed"
    or set(alarm.shelved_by) and "shelved" or nil
end

--- True while nobody has acknowledged an alarm that asks for attention.
function M.waits(alarm)
  return (alarm.status == "New" or alarm.status == "Returned") and not M.masked(alarm)
end

--- True when a transition makes an alarm ask for somebody: an event or one that is masked asks nobody.
function M.asks(alarm, what, masked)
  return ASKS[what] and alarm.status == "New" and alarm.level ~= "Info" and not masked
end

--- Put something into the outbox; at the cap the oldest entry goes and the ledger counts it.
function M.put(ns, kind, fields)
  local key = keys.alarm_outbox(ns)
  redis.call("XADD", key, "*", "kind", kind, unpack(fields))
  if redis.call("XLEN", key) > M.CAP then
    redis.call("HINCRBY", keys.ledger(ns), "dropped:outbox_full", redis.call("XTRIM", key, "MAXLEN", M.CAP))
  end
end

-- What is told: the alarm, and of the moment its number in the journal, value, quality, user and comment.
local function entry_of(at, alarm, what, moment)
  return {
    "number", moment.number, "at_ms", string.format("%.0f", at), "alarm", alarm.id, "event", what, "status", alarm.status,
    "level", alarm.level, "source", alarm.source, "title", alarm.title, "value", moment.value or "",
    "quality", moment.quality or "", "tags", alarm.tags or "", "area", alarm.area or "",
    "equipment", alarm.equipment or "", "user", moment.user or "", "comment", moment.comment or "",
    "definition", alarm.definition or "", "priority", alarm.priority or "", "raised_at_ms", alarm.created_at_ms,
    "description", alarm.description or "",
  }
end

--- True when an alarm has one of the tags, or is of that area or equipment; a route without tags wants all.
function M.tagged(tags, alarm)
  if not tags or #tags == 0 then
    return true
  end
  local found = set(alarm.tags) and cjson.decode(alarm.tags) or {}
  found[#found + 1] = alarm.area
  found[#found + 1] = alarm.equipment
  for i = 1, #found do
    for k = 1, #tags do
      if found[i] == tags[k] then
        return true
      end
    end
  end
  return false
end

--- The steps of escalation that apply to an alarm: { { after_ms, tags }, ... }.
function M.steps(text, alarm)
  local steps = {}
  for _, step in ipairs(cjson.decode(text)) do
    if M.tagged(step[2], alarm) then
      steps[#steps + 1] = step[1]
    end
  end
  return steps
end

local function note_untold(ns, alarm, what)
  if alarm.untold ~= (what or nil) then
    alarm.untold = what or nil
    if what then
      redis.call("HSET", keys.alarm(ns, alarm.id), "untold", what)
    else
      redis.call("HDEL", keys.alarm(ns, alarm.id), "untold")
    end
  end
end

local function wanted(wants, what)
  return wants and what and string.find(wants, "," .. what .. ",", 1, true) ~= nil
end

--- A transition was journaled: tell whoever wants it, and let time run for who must know of no acknowledgement.
-- `wants` and `escalate` are the head's fields of the alarm's level; `moment` is what the journal says of it, and
-- `over` where the condition ends in this call. What began while the alarm was quiet is told when that ends.
function M.transition(ns, at, alarm, what, wants, escalate, moment)
  if M.masked(alarm) then
    if BEGINS[what] and alarm.status == "New" then
      note_untold(ns, alarm, alarm.untold or what)
    end
    return
  end
  local asks = ASKS[what] and not moment.over
  if asks and not M.waits(alarm) then
    return
  end
  local untold = alarm.untold
  local told_as = asks and alarm.status == "New" and untold or nil
  if wanted(wants, what) or wanted(wants, told_as) then
    local fields = entry_of(at, alarm, what, moment)
    if told_as then
      fields[#fields + 1], fields[#fields + 2] = "told_as", told_as
    end
    M.put(ns, "event", fields)
  end
  if told_as then
    note_untold(ns, alarm, false)
  end
  -- Nobody waits for an answer about what nobody was told of.
  if escalate and asks and (told_as or not untold) then
    local steps = M.steps(escalate, alarm)
    for i = 1, #steps do
      timers.set(ns, at + steps[i], "escalate", alarm.id .. "|" .. string.format("%.0f", steps[i]))
    end
  end
end

--- Nobody acknowledged in time: tell those whom the step names. `seen` is the value and quality of the moment.
-- With `route` the time ran for this route alone.
function M.escalated(ns, number, at, alarm, after_ms, seen, route)
  local fields = entry_of(at, alarm, "escalated", { number = number, value = seen.text, quality = seen.quality })
  fields[#fields + 1], fields[#fields + 2] = "after_ms", string.format("%.0f", after_ms)
  if route then
    fields[#fields + 1], fields[#fields + 2] = "route", route
  end
  M.put(ns, "escalation", fields)
end

--- The steps of a route's escalation.
function M.steps_of(route)
  return type(route.escalation) == "table" and route.escalation or {}
end

--- The shift of a route begins: it is told of an alarm that stands, and its escalation counts from now.
function M.standing(ctx, at, alarm, route, seen)
  local fields = entry_of(at, alarm, "standing", { number = "", value = seen.text, quality = seen.quality })
  fields[#fields + 1], fields[#fields + 2] = "route", route.id
  M.put(ctx.ns, "standing", fields)
  for _, step in ipairs(M.steps_of(route)) do
    local after = step.after_s * 1000
    timers.set(ctx.ns, ctx.now + after, "escalate", alarm.id .. "|" .. string.format("%.0f", after) .. "|" .. route.id)
  end
end

return M
