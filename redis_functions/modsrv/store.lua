-- How models take effect: keys, reverse index, present values, and what watches their points.
local calculations = require("core.calculations")
local derived = require("core.derived")
local expansions = require("modsrv.expansion")
local graphs = require("core.graph")
local keys = require("lib.keys")
local transitions = require("core.transitions")

local M = {}

local CHUNK = 1000
-- Changes of a model's points that are remembered, for queries over the past.
local MAX_SOURCES = 200

local function hset(key, flat)
  for start = 1, #flat, CHUNK do
    redis.call("HSET", key, unpack(flat, start, math.min(start + CHUNK - 1, #flat)))
  end
end

-- The points' present values under the model's names; names that left go.
local function copy_values(ctx, id, expansion)
  local ns, names = ctx.ns, ctx.graph.models[id]
  local values, instants, quality, actions = {}, {}, {}, {}
  for name in pairs(expansion.data) do
    local slot = names[name]
    if slot.text then
      values[#values + 1], values[#values + 2] = name, slot.text
    end
    if slot.at then
      instants[#instants + 1], instants[#instants + 2] = name, string.format("%.0f", slot.at)
    end
    if slot.quality then
      quality[#quality + 1], quality[#quality + 2] = name, slot.quality
    end
  end
  for name in pairs(expansion.action) do
    if names[name].text then
      actions[#actions + 1], actions[#actions + 2] = name, names[name].text
    end
  end
  M.forget_values(ns, id)
  hset(keys.model_values(ns, id), values)
  hset(keys.model_values_at(ns, id), instants)
  hset(keys.model_values_quality(ns, id), quality)
  hset(keys.model_actions(ns, id), actions)
end

--- Take a model's values away.
function M.forget_values(ns, id)
  redis.call(
    "DEL", keys.model_values(ns, id), keys.model_values_at(ns, id), keys.model_values_quality(ns, id),
    keys.model_actions(ns, id)
  )
end

--- Give a model its expansion, in the keys and in the compiled image. M.follow comes after.
-- False where it has that expansion already, as when only a description changed: nothing is to follow.
function M.put(ctx, id, template, before, expansion)
  local key, text = keys.model_expansion(ctx.ns, id), expansions.encode(id, template, expansion)
  local was = redis.call("GET", key)
  if was == text then
    return false
  end
  if was then
    local sources = keys.model_sources(ctx.ns, id)
    redis.call("RPUSH", sources, '{"until_ms":' .. string.format("%.0f", ctx.now) .. ',"points":' .. was .. "}")
    redis.call("LTRIM", sources, -MAX_SOURCES, -1)
  end
  redis.call("SET", key, text)
  expansions.index(ctx.ns, id, before, expansion)
  derived.put_model(ctx.graph, id, expansion)
  copy_values(ctx, id, expansion)
  return true
end

--- Let what names the points of `models` ({ [id] = true }) follow: conditions, then calculated points.
-- Nothing is published as a change of these models: no value changed, only its name.
function M.follow(ctx, models)
  local watchers, channels = derived.rewire(ctx.graph, models)
  graphs.changed(ctx.graph)
  for i = 1, #watchers do
    transitions.evaluate(ctx, watchers[i], ctx.now)
  end
  for i = 1, #channels do
    calculations.recalculate(ctx, channels[i])
  end
end

return M
