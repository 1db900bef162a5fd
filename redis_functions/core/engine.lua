-- What follows from changed points, in one pass: calculated points, models, conditions, rules and alarms.
local calculations = require("core.calculations")
local conditions = require("core.conditions")
local deferred = require("core.deferred")
local publish = require("core.publish")
local transitions = require("core.transitions")

local M = {}

local function by_priority(a, b)
  if a.priority ~= b.priority then
    return a.priority > b.priority
  end
  return a.id < b.id
end

local compare = conditions.compare
local evaluate = transitions.follow

local UNKNOWN = 2

-- The plain comparisons of a slot side by side, three numbers a leaf: operator (0 where the tree
-- must be walked), limit, last truth. With thousands of rules their tables lie all over the memory,
-- and looking into each costs more than comparing.
local function heat(slot)
  local hot = {}
  for i = 1, #slot.leaves do
    local leaf, k = slot.leaves[i], 3 * i
    local truth = leaf.watcher.truth
    hot[k - 2] = leaf.simple or 0
    hot[k - 1] = leaf.simple and leaf.value or 0
    hot[k] = (truth == nil and UNKNOWN) or (truth and 1 or 0)
  end
  slot.hot = hot
  return hot
end

local function is_stale(code, value, known, limit, truth)
  if code == 0 then
    return true
  elseif not known then
    return truth ~= UNKNOWN
  end
  return (compare(code, value, limit) and 1 or 0) ~= truth
end

local function gather_dirty(ctx)
  local dirty, seen = {}, {}
  local touched = ctx.touched
  for i = 1, #touched do
    local slot = touched[i]
    local leaves = slot.leaves
    if leaves then
      local hot = slot.hot or heat(slot)
      local value = slot.value
      local known = value ~= nil and not slot.quality
      for j = 1, #leaves do
        local k = 3 * j
        local code = hot[k - 2]
        local stale
        -- The commonest operators are written out: this is the innermost loop.
        if known and code == 1 then
          stale = (value > hot[k - 1] and 1 or 0) ~= hot[k]
        elseif known and code == 3 then
          stale = (value < hot[k - 1] and 1 or 0) ~= hot[k]
        else
          stale = is_stale(code, value, known, hot[k - 1], hot[k])
        end
        if stale then
          local watcher = leaves[j].watcher
          if not seen[watcher] then
            seen[watcher] = true
            dirty[#dirty + 1] = watcher
          end
        end
      end
    end
    if slot.targets then
      publish.gather(ctx, slot)
    end
  end
  return dirty
end

--- Let everything follow from the slots in ctx.touched, at one instant.
function M.settle(ctx, at)
  calculations.run(ctx, at)
  local dirty = gather_dirty(ctx)
  ctx.touched = {}
  calculations.store(ctx, at)
  publish.models(ctx, at)
  if #dirty > 1 then
    table.sort(dirty, by_priority)
  end
  for i = 1, #dirty do
    evaluate(ctx, dirty[i], at)
  end
  deferred.flush(ctx)
end

local function evaluate_leaves(ctx, slot, at)
  local seen, watchers = {}, {}
  for i = 1, #slot.leaves do
    local watcher = slot.leaves[i].watcher
    if not seen[watcher] then
      seen[watcher] = true
      watchers[#watchers + 1] = watcher
    end
  end
  table.sort(watchers, by_priority)
  for i = 1, #watchers do
    evaluate(ctx, watchers[i], at)
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
  deferred.flush(ctx)
end

return M
