-- What follows from changed points, in one pass: calculated points, models, conditions, rules and alarms.
local aggregates = require("core.aggregates")
local calculations = require("core.calculations")
local conditions = require("core.conditions")
local deferred = require("core.deferred")
local publish = require("core.publish")
local slots = require("core.slots")
local streams = require("lib.streams")
local switching = require("rulesrv.switching")
local transitions = require("core.transitions")

local M = {}

-- What acts may touch what others watch. Past transitions.DEPTH nothing acts any more; this ends what goes on still.
local MAX_ROUNDS = 64

local compare = conditions.compare

-- The leaves of a slot side by side, three numbers each: how it is looked at, limit, and what it said last; and behind
-- all of them their watchers. With thousands of rules their tables lie all over the memory, and looking into each costs
-- more than comparing. A watcher's tree is not walked while each of its leaves says the same as before:
--   1 to 6   a comparison; its deadband is in the limit, and a hold that runs counts as true
--   QUIET    something that a good value never changes: quality, no data, a stuck value whose timer runs
--   BETWEEN  the limit is the leaf itself
--   COLD     what turned since: its memory or its watcher changed
--   0        all else
local QUIET, COLD, BETWEEN = slots.QUIET, slots.COLD, slots.BETWEEN
local UNKNOWN, said = slots.UNKNOWN, slots.said
local TRUTH = { [0] = false, [1] = true }
-- What no comparison says: the tree is walked.
local NEVER = 3

local function limit_of(leaf)
  if leaf.simple == BETWEEN then
    return leaf
  elseif not (leaf.hysteresis and leaf.on) then
    return leaf.value
  elseif leaf.code <= 2 then
    return leaf.value - leaf.hysteresis
  end
  return leaf.value + leaf.hysteresis
end

local function held(leaf)
  if leaf.since or leaf.held then
    return 1
  end
  return leaf.elapsed == 0 and 0 or NEVER
end

local function heat_leaf(leaf)
  local watcher = leaf.watcher
  local truth = watcher.truth
  if not watcher.only then
    if watcher.unseen then
      return 0, 0, UNKNOWN
    end
    truth = leaf.truth
  end
  if leaf.simple == QUIET then
    local idle = truth == false and held(leaf) == 0 and (leaf.measure == nil or leaf.again ~= nil)
    return QUIET, 0, idle and 0 or NEVER
  elseif not leaf.simple then
    return 0, 0, said(truth)
  elseif leaf.for_ms then
    return leaf.simple, limit_of(leaf), truth == nil and UNKNOWN or held(leaf)
  end
  return leaf.simple, limit_of(leaf), said(truth)
end

local function heat(slot)
  local hot, count = {}, #slot.leaves
  for i = 1, count do
    local k, leaf = 3 * i, slot.leaves[i]
    hot[k - 2], hot[k - 1], hot[k] = heat_leaf(leaf)
    if leaf.slot == slot then
      leaf.place = i
    end
  end
  for i = 1, count do
    hot[3 * count + i] = slot.leaves[i].watcher
  end
  slot.hot = hot
  return hot
end

-- What a leaf says now, as a number; nil where its watcher's tree must be walked.
local function say_of(code, value, known, limit)
  if code == 0 then
    return nil
  elseif code == QUIET then
    return known and 0 or nil
  elseif not known then
    return UNKNOWN
  elseif code == BETWEEN then
    local margin = limit.on and limit.hysteresis or 0
    return value >= limit.value[1] - margin and value <= limit.value[2] + margin and 1 or 0
  end
  return compare(code, value, limit) and 1 or 0
end

-- The watchers that may turn: their ranks, and by rank { watcher }; of a bare one { watcher, truth, slot }, and that it
-- says so is kept already.
local function gather_dirty(ctx)
  local ranks, found, n = {}, {}, 0
  local touched = ctx.touched
  for i = 1, #touched do
    local slot = touched[i]
    local hot = slot.hot or (slot.leaves and heat(slot))
    if hot then
      local value = slot.value
      local known = value ~= nil and not slot.quality
      local count = #hot / 4
      for j = 1, count do
        local k = 3 * j
        local code = hot[k - 2]
        local say
        -- The commonest operators are written out: this is the innermost loop.
        if known and code == 1 then
          say = value > hot[k - 1] and 1 or 0
        elseif known and code == 3 then
          say = value < hot[k - 1] and 1 or 0
        else
          if code == COLD then
            code, hot[k - 1], hot[k] = heat_leaf(slot.leaves[j])
            hot[k - 2] = code
          end
          say = say_of(code, value, known, hot[k - 1])
        end
        if say ~= hot[k] then
          local watcher = hot[3 * count + j]
          local rank = watcher.rank
          if not found[rank] then
            n = n + 1
            ranks[n] = rank
            if watcher.bare then
              hot[k] = say
              if watcher.sticky and say ~= UNKNOWN then
                watcher.only.on = TRUTH[say]
                hot[k - 1] = limit_of(watcher.only)
              end
              found[rank] = { watcher, TRUTH[say], slot }
            else
              found[rank] = { watcher }
            end
          end
        end
      end
    end
    if slot.targets then
      publish.gather(ctx, slot)
    end
  end
  return ranks, found
end

local function settle_once(ctx, at)
  calculations.run(ctx, at)
  if ctx.graph.windowed then
    aggregates.run(ctx, at)
  end
  local ranks, found = gather_dirty(ctx)
  ctx.touched = {}
  calculations.store(ctx, at)
  publish.models(ctx, at)
  -- Texts are compared without a call of Lua a pair.
  table.sort(ranks)
  transitions.follow_all(ctx, ranks, found, at)
  if ctx.switches then
    -- What waits of a rule that is switched off is found in the list.
    deferred.flush(ctx)
    switching.run(ctx)
  end
end

--- Let everything follow from the slots in ctx.touched, at one instant; and what that touches, round by round.
function M.settle(ctx, at)
  local first = ctx.depth or 0
  settle_once(ctx, at)
  while #ctx.touched > 0 or ctx.switches do
    ctx.depth = (ctx.depth or 0) + 1
    if ctx.depth - first > MAX_ROUNDS then
      ctx.touched, ctx.switches = {}, nil
      streams.event(ctx.ns, at, "cascade", "rules that touch each other were stopped after " .. MAX_ROUNDS .. " rounds")
      break
    end
    settle_once(ctx, at)
  end
  ctx.depth = nil
  deferred.flush(ctx)
end

local function evaluate_leaves(ctx, slot, at)
  local ranks, found = {}, {}
  for i = 1, #slot.leaves do
    local watcher = slot.leaves[i].watcher
    if not found[watcher.rank] then
      found[watcher.rank] = watcher
      ranks[#ranks + 1] = watcher.rank
    end
  end
  table.sort(ranks)
  for i = 1, #ranks do
    transitions.follow(ctx, found[ranks[i]], at)
  end
end

--- Let the rules see an event that is older than the image, and then the image again.
function M.glimpse(ctx, slot, text, quality, at)
  if not slot or not slot.leaves then
    return
  end
  local image = { value = slot.value, text = slot.text, quality = slot.quality, at = slot.at }
  slot.value, slot.text, slot.quality, slot.at = tonumber(text), text, quality, at
  evaluate_leaves(ctx, slot, at)
  slot.value, slot.text, slot.quality, slot.at = image.value, image.text, image.quality, image.at
  evaluate_leaves(ctx, slot, image.at)
  if #ctx.touched > 0 or ctx.switches then
    M.settle(ctx, image.at or at)
  end
  deferred.flush(ctx)
end

return M
