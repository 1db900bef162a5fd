-- Detectors that need more than the value of the moment: how fast it changes, and whether it changes at all.
local timers = require("core.timers")

local M = {}

-- So many turning points of a window are kept exactly; past them one in a 32nd of the window.
local EXACT = 32

-- Evaluate the leaf again at an instant, also where nothing comes.
local function again_at(ctx, leaf, due)
  if leaf.again ~= due then
    leaf.again, leaf.slot.hot = due, nil
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

local function expire(list, start)
  while #list > 1 and list[1][3] and list[1][3] <= start do
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

--- Read what a leaf remembers from its state; `text` is nil where there is none.
function M.load(leaf, text)
  local low, high = string.match(text or "", "^([^|]*)|(.*)$")
  leaf.low, leaf.high, leaf.noted, leaf.again = decode(low), decode(high), nil, nil
  leaf.kept = nil
end

-- The value changed by more than `value` within the window.
local function rate(ctx, leaf, at)
  local slot = leaf.slot
  if slot.value == nil or slot.quality then
    return nil
  end
  local window = leaf.window_ms
  local last = leaf.noted
  if not last then
    -- After a restart: the last sample that is known may be this one.
    local low, high = leaf.low[#leaf.low], leaf.high[#leaf.high]
    last = math.max(low and low[2] or -1, high and high[2] or -1)
  end
  if slot.at > last or leaf.noted_value ~= slot.value then
    if slot.at > last then
      push(leaf.low, slot.value, slot.at, 1, window)
      push(leaf.high, slot.value, slot.at, -1, window)
    end
    leaf.noted, leaf.noted_value = slot.at, slot.value
  end
  expire(leaf.low, at - window)
  expire(leaf.high, at - window)
  -- A restart forgets at most a 32nd of the window: writing it at each sample costs more than all the rest.
  if slot.at - (leaf.kept or -window) >= window / EXACT then
    leaf.kept = slot.at
    redis.call("HSET", leaf.watcher.state, "window:" .. leaf.index, encode(leaf.low) .. "|" .. encode(leaf.high))
  end
  local limit = leaf.value - (leaf.on and leaf.hysteresis or 0)
  local low, high = leaf.low[1], leaf.high[1]
  local rises = leaf.direction ~= "falling" and low and slot.value - low[1] > limit
  local falls = leaf.direction ~= "rising" and high and high[1] - slot.value > limit
  if rises or falls then
    local left = (rises and falls) and math.min(low[3], high[3]) or (rises and low[3] or high[3])
    again_at(ctx, leaf, left + window)
    return true
  end
  return false
end

local MEASURES = { rate = rate, stuck = stuck }

--- What a leaf that measures says at an instant: true, false or nil.
function M.raw(ctx, leaf, at)
  return MEASURES[leaf.measure](ctx, leaf, at)
end

return M
