-- Detectors that need more than the value of the moment: how fast it changes, and whether it changes at all.
local slots = require("core.slots")
local timers = require("core.timers")

local M = {}

-- So many turning points of a window are kept exactly; past them one in a 32nd of the window.
local EXACT = 32

-- Evaluate the leaf again at an instant, also where nothing comes.
local function again_at(ctx, leaf, due)
  if leaf.again ~= due then
    leaf.again = due
    slots.cool(leaf)
    timers.set(ctx.ns, due, "again", leaf.watcher.id .. "#" .. leaf.index)
  end
end

-- A stuck value: the same for `value` milliseconds. Its `:ts` says since when, so a change costs nothing here:
-- one timer a point runs, and looks whether it still means the same change.
local function stuck(ctx, leaf, at)
  local slot = leaf.slot
  if slot.value == nil or slot.quality then
    return nil
  end
  local due = math.min(slot.at, math.max(at, ctx.now)) + leaf.value
  if at >= due then
    return true
  end
  if not leaf.again or leaf.again > due or leaf.again <= at then
    again_at(ctx, leaf, due)
  end
  return false
end

-- A list of extremes of a window, each with the instant its value was left: { value, from, left }.
local function leave(list, at)
  local last = list[#list]
  if last and not last[3] then
    last[3] = at
  end
end

local function push(list, value, at, sign, window)
  leave(list, at)
  while #list > 0 and sign * list[#list][1] >= sign * value do
    list[#list] = nil
  end
  local last = list[#list]
  if #list < EXACT or at - last[2] >= window / EXACT then
    list[#list + 1] = { value, at }
  end
end

-- The place of the extreme of a window that starts at an instant: those before it were left by then.
local function first(list, start)
  local place = 1
  while place < #list and list[place][3] and list[place][3] <= start do
    place = place + 1
  end
  return place
end

local function expire(list, start)
  for _ = 2, first(list, start) do
    table.remove(list, 1)
  end
end

local function encode(list)
  local parts = {}
  for i = 1, #list do
    parts[i] = string.format("%.6f,%.0f,%s", list[i][1], list[i][2], list[i][3] and string.format("%.0f", list[i][3]) or "")
  end
  return table.concat(parts, ";")
end

local function decode(text)
  local list = {}
  for value, from, left in string.gmatch(text or "", "(%-?[%d%.]+),(%d+),(%d*)") do
    list[#list + 1] = { tonumber(value), tonumber(from), tonumber(left) }
  end
  return list
end

--- Read what a leaf remembers from its watcher's state.
function M.load(leaf, state, index)
  if leaf.measure == "change" then
    leaf.noted, leaf.changed_at = nil, tonumber(state["changed:" .. index])
    leaf.kept = state["last:" .. index]
    return
  end
  local low, high = string.match(state["window:" .. index] or "", "^([^|]*)|(.*)$")
  leaf.low, leaf.high, leaf.noted, leaf.again = decode(low), decode(high), nil, nil
  leaf.kept = nil
end

-- The value changed by more than `value` within the window.
local function rate(ctx, leaf, at)
  local slot = leaf.slot
  if slot.value == nil or slot.quality then
    return nil
  end
  local window, last = leaf.window_ms, leaf.noted
  -- What came before the clock was set back is of now, not of the future.
  local came = math.min(slot.at, math.max(at, ctx.now))
  if not last then
    -- After a restart: the last sample that is known may be this one.
    local low, high = leaf.low[#leaf.low], leaf.high[#leaf.high]
    last = math.max(low and low[2] or -1, high and high[2] or -1)
  end
  if came > last or (came == last and leaf.noted_value ~= slot.value) then
    push(leaf.low, slot.value, came, 1, window)
    push(leaf.high, slot.value, came, -1, window)
    leaf.noted, leaf.noted_value = came, slot.value
  end
  expire(leaf.low, at - window)
  expire(leaf.high, at - window)
  -- A restart forgets at most a 32nd of the window: writing it at each sample costs more than all the rest.
  if came - (leaf.kept or -window) >= window / EXACT then
    leaf.kept = came
    redis.call("HSET", leaf.watcher.state, "window:" .. leaf.index, encode(leaf.low) .. "|" .. encode(leaf.high))
  end
  local limit = leaf.value - (leaf.on and leaf.hysteresis or 0)
  local low, high = leaf.low[1], leaf.high[1]
  local rises = leaf.direction ~= "falling" and low and slot.value - low[1] > limit
  local falls = leaf.direction ~= "rising" and high and high[1] - slot.value > limit
  if rises or falls then
    -- A glimpse of an older event is compared with the value of now, which nobody has left.
    local left = math.min(rises and low[3] or at, falls and high[3] or at)
    again_at(ctx, leaf, left + window)
    return true
  end
  return false
end

--- The leaf's point was read: a change is told from the last good value, which is that of the point while it is good.
function M.wire(leaf)
  if leaf.measure ~= "change" then
    return
  end
  local slot = leaf.slot
  if slot.value ~= nil and not slot.quality then
    leaf.noted = slot.value
  elseif leaf.kept then
    leaf.noted = cjson.decode(leaf.kept)[1]
  end
end

local function fits(operator, value, before)
  if operator == "rising" then
    return value > before
  end
  return operator == "changed" or value < before
end

-- The value is another one (higher, lower) than the last good one: for the moment, or for `within_ms`.
local function change(ctx, leaf, at)
  local slot = leaf.slot
  local field = "last:" .. leaf.index
  if slot.value == nil or slot.quality then
    if leaf.noted ~= nil and not leaf.kept then
      leaf.kept = cjson.encode({ leaf.noted })
      redis.call("HSET", leaf.watcher.state, field, leaf.kept)
    end
    return nil
  elseif leaf.kept then
    leaf.kept = nil
    redis.call("HDEL", leaf.watcher.state, field)
  end
  local before = leaf.noted
  leaf.noted = slot.value
  local now = before ~= nil and before ~= slot.value and fits(leaf.operator, slot.value, before)
  if not leaf.within_ms then
    leaf.watcher.pulsed = leaf.watcher.pulsed or now
    return now
  end
  if now then
    leaf.changed_at = at
    redis.call("HSET", leaf.watcher.state, "changed:" .. leaf.index, string.format("%.0f", at))
    again_at(ctx, leaf, at + leaf.within_ms)
  end
  return leaf.changed_at ~= nil and at < leaf.changed_at + leaf.within_ms
end

local MEASURES = { rate = rate, stuck = stuck, change = change }

local function shift(leaf, step)
  leaf.again = leaf.again and leaf.again + step
  if leaf.measure == "change" and leaf.changed_at then
    leaf.changed_at = leaf.changed_at + step
    redis.call("HSET", leaf.watcher.state, "changed:" .. leaf.index, string.format("%.0f", leaf.changed_at))
  elseif leaf.measure == "rate" then
    for _, list in ipairs({ leaf.low, leaf.high }) do
      for i = 1, #list do
        list[i][2], list[i][3] = list[i][2] + step, list[i][3] and list[i][3] + step
      end
    end
    leaf.noted, leaf.kept = leaf.noted and leaf.noted + step, nil
  end
end

--- The machine's clock was set back: what leaves remember moves with it, as the timers do.
function M.stepped(ctx, step)
  local moved = {}
  for _, watcher in pairs(ctx.graph.watchers) do
    for i = 1, #watcher.leaves do
      local leaf = watcher.leaves[i]
      if leaf.measure and leaf.slot then
        shift(leaf, step)
      end
      local slot = leaf.measure and leaf.slot or leaf.restarts and leaf.other
      if slot and slot.at and not moved[slot] then
        slot.at, moved[slot] = slot.at + step, true
      end
    end
  end
end

--- What a leaf that measures says, without any effect; `at` is nil where only the present state counts. A simulated
-- value is one that comes now.
function M.peek(leaf, at, simulated)
  local slot = leaf.slot
  if slot.value == nil or slot.quality then
    return nil
  elseif leaf.measure == "stuck" then
    return at ~= nil and slot.at ~= nil and at >= slot.at + leaf.value
  elseif leaf.measure == "change" then
    if simulated and leaf.noted ~= nil and leaf.noted ~= slot.value then
      return fits(leaf.operator, slot.value, leaf.noted)
    end
    return leaf.within_ms ~= nil and leaf.changed_at ~= nil and (at == nil or at < leaf.changed_at + leaf.within_ms)
  end
  local limit = leaf.value - (leaf.on and leaf.hysteresis or 0)
  local lows, highs, start = leaf.low or {}, leaf.high or {}, at and at - leaf.window_ms or -math.huge
  local low, high = lows[first(lows, start)], highs[first(highs, start)]
  return (leaf.direction ~= "falling" and low ~= nil and slot.value - low[1] > limit)
    or (leaf.direction ~= "rising" and high ~= nil and high[1] - slot.value > limit)
end

--- What a leaf that measures says at an instant: true, false or nil.
function M.raw(ctx, leaf, at)
  return MEASURES[leaf.measure](ctx, leaf, at)
end

return M
