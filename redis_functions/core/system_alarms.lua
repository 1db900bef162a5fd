-- System alarms: what goes wrong with the system itself, raised by one table.
--
-- A condition is reported again and again, and its alarm follows: it is raised once the condition
-- stood for the kind's on-delay, and ends once it was gone for the off-delay. What Redis knows is
-- reported from here (a lapsed lease, a unit, memory, the ledger, a command); what a service knows
-- comes by `alarm_system`, whose reporter repeats all that is wrong now. A reporter that falls
-- silent leaves its alarms uncertain, and ends them when it stays silent.
local alarms = require("alarmsrv.alarms")
local keys = require("lib.keys")
local order = require("lib.order")
local timers = require("core.timers")

local M = {}

-- A reporter that is not heard for this long is silent, and after this long what it said is over.
M.SILENT_MS = 30000
M.FORGOTTEN_MS = 600000
-- A delay that ends this late ran while nothing else did (the machine was off): it begins anew.
M.LATE_MS = 5000
local MAX_TITLE = 256
local NEEDS_SEEING = { Critical = true, Major = true, Minor = true }

-- `title` and `source` take the id; `once`: an event, over as soon as it is raised, that waits to be seen.
M.KINDS = {
  channel = {
    level = "Major", on_ms = 10000, title = "Channel %s is down", source = "comsrv:%s",
    remedy = "Check cable, address and the service comsrv: voltage doctor, /api/channels/{id}/diagnostics.",
  },
  unit = {
    level = "Major", on_ms = 10000, title = "Unit %s does not answer", source = "comsrv:%s",
    remedy = "Check the device, its unit id and the line: /api/channels/{id}/diagnostics.",
  },
  command = {
    level = "Warning", once = true, title = "A command to %s failed", source = "comsrv:%s",
    remedy = "See what the device said: voltage commands, /api/commands.",
  },
  service = {
    level = "Minor", title = "Service %s restarted", source = "system:service:%s",
    remedy = "See why it ended: voltage logs, followed by the service's name.",
  },
  functions = {
    level = "Major", once = true, title = "Redis had lost the function library", source = "system:functions",
    remedy = "It is loaded again. See why Redis lost it: voltage logs redis, voltage doctor.",
  },
  memory = {
    level = "Major", title = "The memory of Redis is filling up", source = "system:memory",
    remedy = "Raise VOLTAGE_REDIS_MAXMEMORY; see what is large: voltage redis MEMORY STATS.",
  },
  history_queue = {
    level = "Major", title = "The history queue is filling up; is hissrv running?", source = "system:history_queue",
    remedy = "See what history waits for: voltage doctor, /api/history/status. At its cap the oldest entries go.",
  },
  store = {
    level = "Major", on_ms = 10000, title = "History is not written", source = "system:store",
    remedy = "Make room, or bring the history server back: voltage doctor. Until then samples wait in Redis.",
  },
  disk = {
    level = "Major", title = "The disk of %s is filling up", source = "system:disk:%s",
    remedy = "Make room, or lower HISSRV_STORE_RETENTION_DAYS. History stops first, control last.",
  },
  persistence = {
    level = "Critical", title = "Redis can't write to its disk", source = "system:persistence",
    remedy = "Make room on the disk of Redis: until it can write, it takes no values and no commands.",
  },
  network = {
    level = "Minor", on_ms = 30000, title = "Network %s is not connected", source = "system:network:%s",
    remedy = "Check address, credentials and the way out: voltage networks. What is to be sent waits on disk.",
  },
  forwarding = {
    level = "Major", on_ms = 10000, title = "Forwarding waits", source = "system:forwarding",
    remedy = "Make room on netsrv's disk: voltage doctor, voltage logs netsrv. Until then samples wait in Redis.",
  },
  notification = {
    level = "Major", on_ms = 120000, title = "A recipient of alarms is not reached", source = "system:notification:%s",
    remedy = "Check its address, and notifications in config/alarmsrv.yaml; try it: voltage alarms notify-test. "
      .. "What was given up: voltage doctor, /api/alarms/outbox/dead-letters.",
  },
  flood = {
    level = "Info", title = "A flood of alarms: more than ten within ten minutes", source = "system:flood",
    remedy = "Look at the first-outs, shelve what says nothing new; afterwards: voltage alarms quality.",
  },
  clock = {
    level = "Warning", once = true, title = "The clock was set back", source = "system:clock",
    remedy = "Synchronize the machine's clock; timers moved with it.",
  },
  ledger = {
    level = "Major", once = true, title = "The ledger does not balance", source = "system:ledger",
    remedy = "Look at /api/ledger, and report it together with the logs: it should never be.",
  },
}

-- ---------------------------------------------------------------- settings

--- A kind with what the site's settings change: { enabled?, level?, on_delay_ms?, off_delay_ms? }.
function M.kind_of(ns, name)
  local kind, said = M.KINDS[name], redis.call("HGET", keys.system_settings(ns), name)
  local set = said and cjson.decode(said) or {}
  return {
    kind = kind, level = set.level or kind.level, enabled = set.enabled ~= false,
    on_ms = set.on_delay_ms or kind.on_ms or 0, off_ms = set.off_delay_ms or 0,
  }
end

-- ---------------------------------------------------------------- raising and ending

local function origin_of(name, id)
  return id == "" and ("system:" .. name) or ("system:" .. name .. ":" .. id)
end

local function source_of(name, id)
  if name == "unit" then
    return (string.gsub("comsrv:" .. id, ":([^:]*)$", ":unit:%1"))
  end
  return string.format(M.KINDS[name].source, id)
end

local function accept(ctx)
  if not ctx.accepted then
    ctx.accept(ctx)
  end
end

-- What people call it: a channel has a name, a unit is of a channel.
local function label(ctx, name, id)
  local ch, unit = string.match(id, "^(%d+):?(.*)$")
  if name ~= "channel" and name ~= "unit" or not ch then
    return id
  end
  local text = redis.call("GET", keys.channel(ctx.ns, ch))
  local found = text and cjson.decode(text).name
  local called = ch .. (type(found) == "string" and " (" .. found .. ")" or "")
  return name == "unit" and unit .. " of channel " .. called or called
end

local function raise(ctx, name, id, detail, what, at)
  accept(ctx)
  local title = string.format(what.kind.title, label(ctx, name, id)) .. (detail ~= "" and (": " .. detail) or "")
  alarms.raise(ctx, {
    origin = origin_of(name, id), source = source_of(name, id), level = what.level,
    title = string.sub(title, 1, MAX_TITLE), description = what.kind.remedy,
    ack_required = what.kind.once or NEEDS_SEEING[what.level] or false, quality = "good",
    tags = cjson.encode({ "system", name }),
  }, at)
end

local function finish(ctx, name, id, at)
  accept(ctx)
  alarms.condition_ended(ctx, origin_of(name, id), at)
end

-- A condition that is there, in the hash of conditions: "state|reporter|detail", where the state is
-- `waiting` for its on-delay, `standing`, or `ending` while the off-delay runs.
local function load(ns, field)
  local text = redis.call("HGET", keys.system_conditions(ns), field)
  if text then
    return string.match(text, "^(%a+)|([^|]*)|(.*)$")
  end
end

local function keep(ns, field, state, reporter, detail)
  redis.call("HSET", keys.system_conditions(ns), field, state .. "|" .. (reporter or "") .. "|" .. detail)
end

local function forget(ns, field)
  redis.call("HDEL", keys.system_conditions(ns), field)
end

local function begins(ctx, field, name, id, seen, what, at)
  if what.on_ms > 0 then
    keep(ctx.ns, field, "waiting", seen.reporter, seen.detail)
    timers.set(ctx.ns, at + what.on_ms, "alarm", field)
  else
    keep(ctx.ns, field, "standing", seen.reporter, seen.detail)
    raise(ctx, name, id, seen.detail, what, at)
  end
end

local function goes_on(ctx, field, name, id, state, seen)
  if state == "ending" then
    timers.cancel(ctx.ns, "alarm", field)
    state = "standing"
  end
  keep(ctx.ns, field, state, seen.reporter, seen.detail)
  if state == "standing" and seen.reporter then
    alarms.mark_uncertain(ctx, origin_of(name, id), false)
  end
end

local function ends(ctx, field, name, id, state, what, at)
  if state == "standing" and what.off_ms > 0 and what.enabled then
    local _, reporter, detail = load(ctx.ns, field)
    keep(ctx.ns, field, "ending", reporter, detail)
    timers.set(ctx.ns, at + what.off_ms, "alarm", field)
  elseif state ~= "ending" or not what.enabled then
    timers.cancel(ctx.ns, "alarm", field)
    forget(ctx.ns, field)
    if state ~= "waiting" then
      finish(ctx, name, id, at)
    end
  end
end

--- Say whether a condition is there. `seen` is { active, detail?, reporter? }; `at` defaults to now.
function M.report(ctx, name, id, seen, at)
  id = id or ""
  local field = name .. "|" .. id
  local state = load(ctx.ns, field)
  if not state and not seen.active then
    return
  end
  local what = M.kind_of(ctx.ns, name)
  seen.detail = seen.detail or ""
  if not (seen.active and what.enabled) then
    if state then
      ends(ctx, field, name, id, state, what, at or ctx.now)
    end
  elseif state then
    goes_on(ctx, field, name, id, state, seen)
  else
    begins(ctx, field, name, id, seen, what, at or ctx.now)
  end
end

--- Note something that happened: its alarm has returned already and waits to be seen.
function M.note(ctx, name, id, detail, at)
  local what = M.kind_of(ctx.ns, name)
  if what.enabled then
    raise(ctx, name, id or "", detail or "", what, at or ctx.now)
    finish(ctx, name, id or "", at or ctx.now)
  end
end

-- One alarm is enough for a channel: its units are as silent as it is.
local function hidden(ns, name, id)
  if name ~= "unit" then
    return false
  end
  local status = redis.call("HMGET", keys.status(ns, string.match(id, "^%d+")), "state", "leased")
  return status[1] == "down" or status[2] ~= "1"
end

--- The timer of a delay.
function M.delay_over(ctx, field, due)
  local name, id = string.match(field, "^([^|]+)|(.*)$")
  local state, reporter, detail = load(ctx.ns, field)
  local what = M.kind_of(ctx.ns, name)
  if state == "waiting" and ctx.now - due > M.LATE_MS then
    timers.set(ctx.ns, ctx.now + what.on_ms, "alarm", field)
  elseif state == "waiting" and what.enabled and not hidden(ctx.ns, name, id) then
    keep(ctx.ns, field, "standing", reporter, detail)
    raise(ctx, name, id, detail, what, due)
  elseif state then
    forget(ctx.ns, field)
    if state ~= "waiting" then
      finish(ctx, name, id, due)
    end
  end
end

-- ---------------------------------------------------------------- channels and units

--- A channel's state changed. `why` says more about one that is down.
function M.channel(ctx, ch, state, why, at)
  if state == "down" or state == "stale" then
    M.report(ctx, "channel", ch, { active = true, detail = why }, at)
  elseif state ~= "starting" then
    M.report(ctx, "channel", ch, { active = false }, at)
  end
end

--- A channel's units: `before` and `after` map a unit to its document. In order: alarms of one call come in the same
-- order again when it is replayed.
function M.units(ctx, ch, before, after)
  local units = order.names(after)
  for i = 1, #units do
    local unit, document = units[i], after[units[i]]
    local down = type(document) == "table" and document.state == "down"
    local problem = down and type(document.problem) == "string" and string.sub(document.problem, 1, 128) or nil
    M.report(ctx, "unit", ch .. ":" .. unit, { active = down, detail = problem })
  end
  local known = order.names(before)
  for i = 1, #known do
    local unit = known[i]
    -- While a channel is down nobody knows of its units; else one that is not named is gone.
    if after[unit] == nil and next(after) ~= nil then
      M.report(ctx, "unit", ch .. ":" .. unit, { active = false })
    end
  end
end

--- A channel is stopped or deleted by hand: nothing of it is wrong.
function M.at_rest(ctx, ch, at)
  M.report(ctx, "channel", ch, { active = false }, at)
  local fields = redis.call("HKEYS", keys.system_conditions(ctx.ns))
  table.sort(fields)
  for i = 1, #fields do
    local unit = string.match(fields[i], "^unit|(" .. ch .. ":.*)$")
    if unit then
      M.report(ctx, "unit", unit, { active = false }, at)
    end
  end
end

-- ---------------------------------------------------------------- what services report

-- The conditions a reporter stands for: { field, name, id, state }, in order.
local function of_reporter(ns, wanted)
  local found, all = {}, redis.call("HGETALL", keys.system_conditions(ns))
  for i = 1, #all, 2 do
    local state, reporter = string.match(all[i + 1], "^(%a+)|([^|]*)|")
    if reporter == wanted then
      local name, id = string.match(all[i], "^([^|]+)|(.*)$")
      found[#found + 1] = { field = all[i], name = name, id = id, state = state }
    end
  end
  table.sort(found, function(a, b)
    return a.field < b.field
  end)
  return found
end

--- Take a reporter's whole list of what is wrong now: { { name, id, detail }, ... }.
function M.heard(ctx, reporter, wrong)
  local named = {}
  for i = 1, #wrong do
    local one = wrong[i]
    named[one.name .. "|" .. one.id] = true
    M.report(ctx, one.name, one.id, { active = true, detail = one.detail, reporter = reporter })
  end
  local known = of_reporter(ctx.ns, reporter)
  for i = 1, #known do
    if not named[known[i].field] then
      M.report(ctx, known[i].name, known[i].id, { active = false })
    end
  end
  timers.cancel(ctx.ns, "forgotten", reporter)
  if #wrong > 0 then
    timers.set(ctx.ns, ctx.now + M.SILENT_MS, "silent", reporter)
  else
    timers.cancel(ctx.ns, "silent", reporter)
  end
end

--- The timer of a reporter that is not heard any more: nobody knows whether its alarms still hold.
function M.silent(ctx, reporter, due)
  local known = of_reporter(ctx.ns, reporter)
  for i = 1, #known do
    if known[i].state == "waiting" then
      M.report(ctx, known[i].name, known[i].id, { active = false }, due)
    else
      alarms.mark_uncertain(ctx, origin_of(known[i].name, known[i].id), true)
    end
  end
  timers.set(ctx.ns, due + M.FORGOTTEN_MS, "forgotten", reporter)
end

--- The timer of a reporter that stayed silent: its alarms end.
function M.forgotten(ctx, reporter, due)
  local known = of_reporter(ctx.ns, reporter)
  for i = 1, #known do
    M.report(ctx, known[i].name, known[i].id, { active = false }, due)
  end
end

return M
