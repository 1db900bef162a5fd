-- What changed, written to the models and published, once a call.
local keys = require("lib.keys")

local M = {}

local function quality_json(quality)
  return cjson.encode(quality or "good")
end

--- The members "points" and "quality" of an update, from ids, value texts and a quality map.
function M.members(ids, values, quality)
  local points, marks = {}, {}
  for i = 1, #ids do
    points[i] = '"' .. ids[i] .. '":' .. values[i]
  end
  for id, text in pairs(quality) do
    marks[#marks + 1] = '"' .. id .. '":' .. quality_json(text)
  end
  return '"points":{' .. table.concat(points, ",") .. '},"quality":{' .. table.concat(marks, ",") .. "}"
end

--- Publish the changes of one type of one channel. `members` is the opaque text that came in.
function M.channel(ctx, ch, kind, at, members)
  redis.call(
    "PUBLISH", keys.updates(ctx.ns, ch),
    '{"channel":' .. ch .. ',"type":"' .. kind .. '","at_ms":' .. string.format("%.0f", at)
      .. ',"seq":' .. ctx.image .. "," .. members .. "}"
  )
end

-- What a call gathers for one model. Whether some of its points are marked is asked once.
local function gathered(ctx, model)
  local found = ctx.models[model]
  if not found then
    found = { values = {}, at = {}, points = {}, good = {}, bad = {}, marks = {}, actions = {}, gone = {}, count = 0 }
    found.marked = redis.call("EXISTS", keys.model_values_quality(ctx.ns, model)) == 1
    ctx.models[model] = found
    ctx.model_list[#ctx.model_list + 1] = model
  end
  return found
end

local function gather_action(found, target, slot)
  if slot.text then
    local actions = found.actions
    actions[#actions + 1] = target.name
    actions[#actions + 1] = slot.text
  end
end

local function gather_quality(found, target, slot)
  if slot.quality then
    found.bad[#found.bad + 1] = target.name
    found.bad[#found.bad + 1] = slot.quality
    found.marks[#found.marks + 1] = target.json .. quality_json(slot.quality)
  elseif not slot.text then
    found.gone[#found.gone + 1] = target.name
  elseif found.marked then
    found.good[#found.good + 1] = target.name
  end
end

--- Gather a changed slot for the models that map it.
function M.gather(ctx, slot)
  -- A call has one or two instants, so their texts are kept.
  if ctx.instant ~= slot.at then
    ctx.instant, ctx.instant_text = slot.at, slot.at and string.format("%.0f", slot.at)
  end
  local targets, text, at_text = slot.targets, slot.text, ctx.instant_text
  for i = 1, #targets do
    local target = targets[i]
    local found = gathered(ctx, target.model)
    if target.action then
      gather_action(found, target, slot)
    else
      if text then
        local name, n = target.name, found.count + 2
        local values, at, points = found.values, found.at, found.points
        found.count = n
        values[n - 1], values[n] = name, text
        at[n - 1], at[n] = name, at_text
        points[n - 1], points[n] = n == 2 and target.json or target.json_next, text
      end
      if found.marked or slot.quality or not text then
        gather_quality(found, target, slot)
      end
    end
  end
end

--- Write what was gathered to the models' hashes and publish it, a message a model.
function M.models(ctx, at)
  for i = 1, #ctx.model_list do
    local model = ctx.model_list[i]
    local found = ctx.models[model]
    local quality_key = keys.model_values_quality(ctx.ns, model)
    if found.count > 0 then
      redis.call("HSET", keys.model_values(ctx.ns, model), unpack(found.values))
      redis.call("HSET", keys.model_values_at(ctx.ns, model), unpack(found.at))
    end
    if #found.gone > 0 then
      redis.call("HDEL", keys.model_values(ctx.ns, model), unpack(found.gone))
      redis.call("HDEL", keys.model_values_at(ctx.ns, model), unpack(found.gone))
      redis.call("HDEL", quality_key, unpack(found.gone))
    end
    if #found.good > 0 then
      redis.call("HDEL", quality_key, unpack(found.good))
    end
    if #found.bad > 0 then
      redis.call("HSET", quality_key, unpack(found.bad))
    end
    if #found.actions > 0 then
      redis.call("HSET", keys.model_actions(ctx.ns, model), unpack(found.actions))
    end
    if found.count > 0 or #found.marks > 0 then
      redis.call(
        "PUBLISH", keys.model_updates(ctx.ns, model),
        '{"model":"' .. model .. '","at_ms":' .. string.format("%.0f", at) .. ',"seq":' .. ctx.image
          .. ',"points":{' .. table.concat(found.points) .. '},"quality":{' .. table.concat(found.marks, ",") .. "}}"
      )
    end
  end
  ctx.models, ctx.model_list = {}, {}
end

return M
