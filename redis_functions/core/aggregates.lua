-- Means, extremes and counts over a window of time that moves with it, in bounded memory.
--
-- A window has 60 slices, each aligned to the epoch: it covers the 59 before the present one, and that as far as it
-- is gone. A value holds until the next one; while the point is not good, time does not count. An aggregate is
-- unknown while the point is not good, and while less than `coverage` of the window was.
-- What is kept in `rulesrv:window:{id}` is enough to go on after a restart as if there had been none.
local conditions = require("core.conditions")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local timers = require("core.timers")

local M = {}

local compare = conditions.compare

M.SLICES = 60
local SHORTEST = 100
-- So many windows are moved on by one timer; the rest follows by the next at the same instant.
local CHUNK = 100

local function slice_ms(window_ms)
  return math.max(SHORTEST, math.ceil(window_ms / M.SLICES))
end

local function slice_of(window, n)
  local place = n % M.SLICES
  local slice = window.ring[place]
  if not slice or slice.n ~= n then
    slice = { n = n, integral = 0, good = 0, count = 0 }
    window.ring[place] = slice
  end
  window.unsaved[place] = true
  return slice
end

local function see(slice, value)
  slice.low = slice.low and math.min(slice.low, value) or value
  slice.high = slice.high and math.max(slice.high, value) or value
end

-- Let time pass: what the value was since the last look.
local function advance(window, at)
  local length = window.slice
  if window.good and at > window.last then
    local from = math.max(window.last, (math.floor(at / length) - M.SLICES + 1) * length)
    while from < at do
      local n = math.floor(from / length)
      local stop = math.min(at, (n + 1) * length)
      local slice = slice_of(window, n)
      slice.integral, slice.good = slice.integral + window.value * (stop - from), slice.good + stop - from
      see(slice, window.value)
      from = stop
    end
  end
  window.last = math.max(window.last, at)
end

-- What is counted: a change of the value, or that it came to fit `when`. A value that was never good counts nothing.
local function counts(window, value)
  local before = window.value
  if before == nil then
    return false
  elseif not window.when then
    return before ~= value
  end
  return compare(window.when.code, value, window.when.value) and not compare(window.when.code, before, window.when.value)
end

-- Take what the point says now.
local function note(window, at)
  local input = window.input
  at = math.max(at, window.last)
  advance(window, at)
  local good = input.value ~= nil and not input.quality
  if good then
    local slice = slice_of(window, math.floor(at / window.slice))
    see(slice, input.value)
    if counts(window, input.value) then
      slice.count = slice.count + 1
    end
    window.value = input.value
  end
  window.good = good
end

local function text_of(number)
  return number and string.format("%.17g", number) or ""
end

local function save(ns, window)
  local flat = { "now", string.format("%.0f", window.last) .. "|" .. text_of(window.value) .. "|" .. (window.good and "1" or "0") }
  for place = 0, M.SLICES - 1 do
    if window.unsaved[place] then
      local slice = window.ring[place]
      flat[#flat + 1] = tostring(place)
      flat[#flat + 1] = table.concat({
        string.format("%.0f", slice.n), text_of(slice.integral), string.format("%.0f", slice.good), text_of(slice.low),
        text_of(slice.high), string.format("%.0f", slice.count),
      }, "|")
    end
  end
  window.unsaved = {}
  redis.call("HSET", keys.rule_window(ns, window.id), unpack(flat))
end

-- The sums of the slices that count at an instant.
local function sum(window, at)
  local last = math.floor(at / window.slice)
  local total = { good = 0, integral = 0, count = 0, from = (last - M.SLICES + 1) * window.slice, low = window.value, high = window.value }
  for n = last - M.SLICES + 1, last do
    local slice = window.ring[n % M.SLICES]
    if slice and slice.n == n then
      total.good, total.integral = total.good + slice.good, total.integral + slice.integral
      total.count = total.count + slice.count
      if slice.low then
        total.low, total.high = math.min(total.low, slice.low), math.max(total.high, slice.high)
      end
    end
  end
  return total
end

local function value_of(window, aggregate, at)
  local input = window.input
  if not window.good then
    return nil, input.quality or "missing"
  end
  local total = sum(window, at)
  if total.good < aggregate.coverage * (at - total.from) then
    return nil, "uncertain:window"
  elseif aggregate.of == "mean" then
    return total.good > 0 and total.integral / total.good or window.value
  elseif aggregate.of == "min" then
    return total.low
  end
  return aggregate.of == "max" and total.high or total.count
end

-- Put the aggregates at an instant into their slots; those that changed go to `touched`, where it is given.
local function show(window, at, touched)
  for i = 1, #window.slots do
    local slot = window.slots[i]
    local value, quality = value_of(window, slot.aggregate, at)
    local text = value and numbers.format(value)
    if text ~= slot.text or quality ~= slot.quality then
      slot.value, slot.text, slot.quality, slot.at = text and tonumber(text), text, quality, at
      if touched and slot.leaves then
        touched[#touched + 1] = slot
      end
    end
  end
end

local function load(graph, window, at)
  local input = window.input
  window.ring, window.unsaved, window.value = {}, {}, nil
  local found = redis.call("HGETALL", keys.rule_window(graph.ns, window.id))
  for i = 1, #found, 2 do
    local last, value, good = string.match(found[i + 1], "^(%d+)|([^|]*)|(%d)$")
    if found[i] == "now" then
      window.last, window.value, window.good = tonumber(last), tonumber(value), good == "1"
    else
      local n, integral, time, low, high, count = string.match(found[i + 1], "^(%d+)|([^|]*)|(%d+)|([^|]*)|([^|]*)|(%d+)$")
      window.ring[tonumber(found[i])] = {
        n = tonumber(n), integral = tonumber(integral), good = tonumber(time), low = tonumber(low), high = tonumber(high),
        count = tonumber(count),
      }
    end
  end
  local good = input.value ~= nil and not input.quality
  if #found == 0 then
    window.last, window.good, window.value = at, good, good and input.value or nil
  end
  -- As it was when its timer last fired, at the end of a slice.
  local due = timers.due_at(graph.ns, "slices", string.format("%.0f", window.slice))
  if due and due - window.slice > window.last then
    advance(window, due - window.slice)
  end
  if good ~= window.good or (good and input.value ~= window.value) then
    note(window, at)
  end
  window.loaded = true
end

--- The window of a slot, made where it is new.
function M.window(graph, slot, input)
  local aggregate = slot.aggregate
  local window = graph.windows[aggregate.window]
  if not window then
    window = {
      id = aggregate.window, slice = slice_ms(aggregate.window_ms), when = aggregate.when, slots = {}, ring = {}, unsaved = {},
    }
    graph.windows[aggregate.window] = window
  end
  window.input = input
  for i = 1, #window.slots do
    if window.slots[i] == slot then
      return window
    end
  end
  window.slots[#window.slots + 1] = slot
  table.sort(window.slots, function(a, b) return a.ref < b.ref end)
  return window
end

--- Let a window be moved on by its point. Without this it is only looked at.
function M.follow(window)
  local list = window.input.windows or {}
  window.input.windows = list
  for i = 1, #list do
    if list[i] == window then
      return
    end
  end
  list[#list + 1] = window
  table.sort(list, function(a, b) return a.id < b.id end)
end

--- A slot nobody looks at any more: its window goes with the last of them.
function M.drop(graph, slot)
  local window = graph.windows[slot.aggregate.window]
  for i = window and #window.slots or 0, 1, -1 do
    if window.slots[i] == slot then
      table.remove(window.slots, i)
    end
  end
  if window and #window.slots == 0 then
    local list = window.input.windows or {}
    for i = #list, 1, -1 do
      if list[i] == window then
        table.remove(list, i)
      end
    end
    window.input.windows = #list > 0 and list or nil
    graph.windows[window.id] = nil
    redis.call("DEL", keys.rule_window(graph.ns, window.id))
  end
end

--- Read a slot as its window was kept.
function M.load(graph, slot, at)
  local window = graph.windows[slot.aggregate.window]
  if not window.loaded then
    load(graph, window, at)
  end
  show(window, window.last, nil)
end

--- Let windows follow from points that changed; what comes of them is touched too.
function M.run(ctx, at)
  local touched = ctx.touched
  for i = 1, #touched do
    local windows = touched[i].windows
    for k = 1, windows and #windows or 0 do
      note(windows[k], at)
      save(ctx.ns, windows[k])
      show(windows[k], windows[k].last, touched)
    end
  end
end

local function next_end(slice, at)
  return (math.floor(at / slice) + 1) * slice
end

--- Set the timer of a slot's slices, unless it runs; what the window begins with is kept.
function M.arm(ctx, slot)
  local window = ctx.graph.windows[slot.aggregate.window]
  if redis.call("EXISTS", keys.rule_window(ctx.ns, window.id)) == 0 then
    note(window, ctx.now)
    save(ctx.ns, window)
  end
  local id = string.format("%.0f", window.slice)
  if not timers.due_at(ctx.ns, "slices", id) then
    timers.set(ctx.ns, next_end(window.slice, ctx.now), "slices", id)
  end
end

--- The machine's clock was set back: windows move with it, to the slice, as the timers do.
function M.stepped(ctx, step)
  for _, window in pairs(ctx.graph.windows) do
    local slices, by = window.ring, math.floor(step / window.slice)
    window.ring, window.last = {}, window.last + step
    for _, slice in pairs(slices) do
      slice.n = slice.n + by
      window.ring[slice.n % M.SLICES], window.unsaved[slice.n % M.SLICES] = slice, true
    end
    if window.input.windows then
      redis.call("DEL", keys.rule_window(ctx.ns, window.id))
      save(ctx.ns, window)
      timers.set(ctx.ns, next_end(window.slice, ctx.now), "slices", string.format("%.0f", window.slice))
    end
  end
end

--- A slice is over: every window of that length moves on.
function M.slices_over(ctx, id, due)
  local length, after = string.match(id, "^(%d+)|?(.*)$")
  local slice, found = tonumber(length), {}
  for name, window in pairs(ctx.graph.windows) do
    if window.slice == slice and window.input.windows and name > after then
      found[#found + 1] = name
    end
  end
  table.sort(found)
  for i = 1, math.min(#found, CHUNK) do
    local window = ctx.graph.windows[found[i]]
    advance(window, due)
    show(window, due, ctx.touched)
  end
  if #found > CHUNK then
    timers.set(ctx.ns, due, "slices", length .. "|" .. found[CHUNK])
  elseif #found > 0 or after ~= "" then
    -- After a time without calls the slices that nobody looked at are passed over.
    local behind = ctx.now - due > M.SLICES * slice
    timers.set(ctx.ns, behind and math.floor(ctx.now / slice) * slice or due + slice, "slices", length)
  end
end

return M
