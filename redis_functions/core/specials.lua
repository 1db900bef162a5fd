-- Slots that are no points: states of alarms, rules and commands, windows of time, aggregates. Conditions on them are
-- compared like any other; what changes one of them touches its slot.
local aggregates = require("core.aggregates")
local calendar = require("core.calendar")
local keys = require("lib.keys")
local slots = require("core.slots")
local timers = require("core.timers")

local M = {}

-- The namespace's last instant: what is read anew is read as of then.
local function last_now(graph)
  return tonumber(redis.call("HGET", keys.clock(graph.ns), "last") or 0)
end
M.last_now = last_now

--- The slot a condition looks at.
function M.slot(graph, leaf)
  local ref = leaf.watch or leaf.source
  local slot = graph.specials[ref]
  if not slot then
    slot = { ref = ref, state = leaf.state, window = leaf.window, aggregate = leaf.aggregate }
    graph.specials[ref] = slot
    graph.fresh_specials[#graph.fresh_specials + 1] = slot
  end
  if slot.aggregate then
    local input = slots.resolve(graph, leaf.source)
    local window = graph.windows[slot.aggregate.window]
    if window and window.input ~= input then
      -- The model's point is another one now: the window goes on with what that says.
      window.loaded = nil
      graph.fresh_specials[#graph.fresh_specials + 1] = slot
    end
    aggregates.window(graph, slot, input)
  end
  return slot
end

--- A condition watches its slot from now on.
function M.attached(graph, leaf)
  if leaf.aggregate then
    aggregates.follow(graph.windows[leaf.aggregate.window])
    graph.windowed = true
  end
end

local function set(slot, value, quality)
  slot.value, slot.quality = value, quality
  slot.text = value and cjson.encode(value)
end

local READ = {
  alarm = function(graph, slot)
    local id = graph.open[slot.ref]
    local found = id and redis.call("HMGET", keys.alarm(graph.ns, id), "status", "uncertain") or {}
    set(slot, found[1] or "Normal", found[2] == "1" and "uncertain:condition" or nil)
  end,
  rule = function(graph, slot)
    local watcher = graph.watchers[slot.ref]
    if not watcher then
      return set(slot, nil, nil)
    elseif not watcher.enabled then
      return set(slot, "off", nil)
    end
    local found = redis.call("HMGET", watcher.state, "active", "truth")
    local active = found[1] == "1"
    set(slot, active and "active" or "idle", active and found[2] == "?" and "uncertain:condition" or nil)
  end,
  command = function(graph, slot)
    local ch, point = string.match(slot.ref, "^command:(%d+):(.*)$")
    set(slot, redis.call("HGET", keys.command_states(graph.ns, ch), point) or "none", nil)
  end,
}

local function tables(graph)
  if graph.zones then
    return
  end
  graph.zones, graph.calendars = {}, {}
  local found = redis.call("HGETALL", keys.rule_zones(graph.ns))
  for i = 1, #found, 2 do
    graph.zones[found[i]] = cjson.decode(found[i + 1])
  end
  local ids = redis.call("SMEMBERS", keys.rule_calendars(graph.ns))
  for i = 1, #ids do
    local text = redis.call("GET", keys.rule_calendar(graph.ns, ids[i]))
    local document = text and cjson.decode(text)
    if document then
      graph.calendars[ids[i]] = { list = calendar.dates(document.dates), through = calendar.day_of(document.through) }
    end
  end
end

--- Whether a window of time is open at an instant, when to look again, and why it is unknown.
function M.look(graph, window, at)
  tables(graph)
  local open, again = calendar.look(window, at, graph.zones, graph.calendars)
  return open, again, open == nil and calendar.unknown(window, at, graph.zones, graph.calendars) or nil
end

-- Look at the clock: returns when to look again.
local function look(graph, slot, at)
  tables(graph)
  local open, again = calendar.look(slot.window, at, graph.zones, graph.calendars)
  slot.value, slot.text, slot.quality = nil, nil, "bad:no_time_table"
  if open ~= nil then
    slot.value, slot.text, slot.quality = open and 1 or 0, open and "1.000000" or "0.000000", nil
  end
  return again
end

local function load(graph, slot, at)
  if slot.state then
    READ[slot.state](graph, slot)
  elseif slot.window then
    look(graph, slot, at)
  else
    aggregates.load(graph, slot, at)
  end
end

--- Read the slots that were made since: points first, then what is made of them.
function M.load_fresh(graph)
  slots.load_fresh(graph)
  if #graph.fresh_specials == 0 or graph.building then
    return
  end
  local fresh, at = graph.fresh_specials, last_now(graph)
  graph.fresh_specials = {}
  for i = 1, #fresh do
    load(graph, fresh[i], at)
  end
end

--- Read every slot again.
function M.reload(graph)
  graph.zones, graph.calendars = nil, nil
  for _, window in pairs(graph.windows) do
    window.loaded = nil
  end
  local at = last_now(graph)
  for _, slot in pairs(graph.specials) do
    load(graph, slot, at)
  end
end

--- A state changed: whoever watches it follows.
function M.changed(ctx, ref, at)
  local slot = ctx.graph.specials[ref]
  if slot and slot.leaves then
    local value, quality = slot.value, slot.quality
    READ[slot.state](ctx.graph, slot)
    if slot.value ~= value or slot.quality ~= quality then
      slot.at = at
      ctx.touched[#ctx.touched + 1] = slot
    end
  end
end

-- ---------------------------------------------------------------- time

local function turn(ctx, slot, at)
  local value, quality = slot.value, slot.quality
  local again = look(ctx.graph, slot, at)
  if again then
    timers.set(ctx.ns, again, "clock", slot.ref)
  end
  if slot.value ~= value or slot.quality ~= quality then
    slot.at = at
    ctx.touched[#ctx.touched + 1] = slot
  end
end

--- Set what a watcher's windows and aggregates need to move with time.
function M.arm(ctx, watcher)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if leaf.window then
      redis.call("SADD", keys.rule_zones_wanted(ctx.ns), leaf.window.zone)
      local again = look(ctx.graph, leaf.slot, ctx.now)
      leaf.slot.at = leaf.slot.at or ctx.now
      if again then
        timers.set(ctx.ns, again, "clock", leaf.slot.ref)
      end
    elseif leaf.aggregate then
      aggregates.arm(ctx, leaf.slot)
    end
  end
end

--- The timer of a window of time.
function M.clock_over(ctx, ref, due)
  local slot = ctx.graph.specials[ref]
  if slot and slot.leaves and #slot.leaves > 0 then
    turn(ctx, slot, due)
  end
end

local function clocks(graph)
  local refs = {}
  for ref, slot in pairs(graph.specials) do
    if slot.window and slot.leaves and #slot.leaves > 0 then
      refs[#refs + 1] = ref
    end
  end
  table.sort(refs)
  return refs
end

--- A table changed: look at every window of time again.
function M.look_again(ctx)
  ctx.graph.zones, ctx.graph.calendars = nil, nil
  local refs = clocks(ctx.graph)
  for i = 1, #refs do
    turn(ctx, ctx.graph.specials[refs[i]], ctx.now)
  end
end

--- The machine's clock was set back: every window of time is looked at by its timer, which is due now.
function M.stepped(ctx, step)
  aggregates.stepped(ctx, step)
  local refs = clocks(ctx.graph)
  for i = 1, #refs do
    timers.set(ctx.ns, ctx.now, "clock", refs[i])
  end
end

-- A time zone that no window of time names any more is not wanted; the table that is there stays as it is.
local function unwant(ctx)
  local used, key = {}, keys.rule_zones_wanted(ctx.ns)
  for _, slot in pairs(ctx.graph.specials) do
    if slot.window and slot.leaves and #slot.leaves > 0 then
      used[slot.window.zone] = true
    end
  end
  local wanted = redis.call("SMEMBERS", key)
  for i = 1, #wanted do
    if not used[wanted[i]] then
      redis.call("SREM", key, wanted[i])
    end
  end
end

--- Forget the slots of a watcher's conditions that nobody watches any more.
function M.sweep(ctx, watcher)
  local graph, clocks_ended = ctx.graph, false
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    local ref = leaf.watch or leaf.source
    local slot = leaf.special and graph.specials[ref]
    if slot and (not slot.leaves or #slot.leaves == 0) then
      graph.specials[ref] = nil
      if slot.window then
        timers.cancel(ctx.ns, "clock", ref)
        clocks_ended = true
      elseif slot.aggregate then
        aggregates.drop(graph, slot)
      end
    end
  end
  if clocks_ended then
    unwant(ctx)
  end
end

return M
