-- What a model's names mean: template, mapping and offsets become one reference a name.
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local order = require("lib.order")
local compile = require("modsrv.compile")

local M = {}

local DEFAULT_KIND = { data = "T", action = "C" }

--- The expansion of a stored model, or nil.
function M.load(ns, id)
  local text = redis.call("GET", keys.model_expansion(ns, id))
  return text and cjson.decode(text)
end

--- Channel and point ("T:1") of a reference.
function M.parts(ref)
  return string.match(ref, "^comsrv:(%d+):(%u:%d+)$")
end

-- ---------------------------------------------------------------- spans

--- The points that models other than those in `except` occupy, by channel; read as it is asked for.
function M.occupied(ns, except)
  return { ns = ns, except = except, channels = {} }
end

local function insert(sorted, id)
  local low, high = 1, #sorted + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sorted[middle] < id then
      low = middle + 1
    else
      high = middle
    end
  end
  table.insert(sorted, low, id)
end

local function occupied_of(occupied, ch)
  local found = occupied.channels[ch]
  if found then
    return found
  end
  found = { T = {}, S = {}, C = {}, A = {} }
  occupied.channels[ch] = found
  local flat = redis.call("HGETALL", keys.reverse(occupied.ns, ch))
  for i = 1, #flat, 2 do
    local owners = cjson.decode(flat[i + 1])
    for j = 1, #owners do
      if not occupied.except[owners[j][1]] then
        local kind, id = string.match(flat[i], "^(%u):(%d+)$")
        table.insert(found[kind], tonumber(id))
        break
      end
    end
  end
  for _, ids in pairs(found) do
    table.sort(ids)
  end
  return found
end

-- The largest of a sorted list that is at most `high`, or nil.
local function last_until(sorted, high)
  local low, top = 0, #sorted
  while low < top do
    local middle = math.ceil((low + top) / 2)
    if sorted[middle] <= high then
      low = middle
    else
      top = middle - 1
    end
  end
  return sorted[low]
end

local function extents(points)
  local spans = {}
  for _, point in pairs(points) do
    local span = spans[point.kind]
    if not span then
      spans[point.kind] = { low = point.id, high = point.id }
    else
      span.low, span.high = math.min(span.low, point.id), math.max(span.high, point.id)
    end
  end
  return spans
end

-- How far an offset must grow past what is in its way; nil when nothing is.
local function past(found, spans, offset)
  local further
  for kind, span in pairs(spans) do
    local taken = last_until(found[kind], span.high + offset)
    if taken and taken >= span.low + offset then
      further = math.max(further or 0, taken - span.low + 1)
    end
  end
  return further
end

-- `auto`: the span the model has, while it is free; else the first free one of the channel.
local function automatic(occupied, ch, points, present)
  local found, spans = occupied_of(occupied, ch), extents(points)
  if present and not past(found, spans, present) then
    return present
  end
  local offset = 0
  local further = past(found, spans, offset)
  while further do
    offset = further
    further = past(found, spans, offset)
  end
  return offset
end

-- ---------------------------------------------------------------- expansion

local function expand_use(spec, use, template, occupied, before, problems)
  local refs, count = {}, 0
  local declared = template and template[use] or {}
  local offset = spec[use .. "_offset"]
  if offset == "auto" then
    local present = before and before.channel == tonumber(spec.channel) and before[use .. "_offset"] or nil
    offset = automatic(occupied, spec.channel, declared, present)
  end
  local function put(name, ch, kind, id)
    if id < 1 or id > compile.MAX_POINT then
      problems[#problems + 1] = "mapping." .. use .. "_offset puts " .. name .. " at " .. string.format("%.0f", id)
    end
    refs[name] = "comsrv:" .. ch .. ":" .. kind .. ":" .. string.format("%.0f", id)
  end
  for name, point in pairs(offset and declared or {}) do
    put(name, spec.channel, point.kind, point.id + offset)
  end
  for name, point in pairs(spec[use]) do
    local kind = point.kind or (declared[name] and declared[name].kind) or DEFAULT_KIND[use]
    put(name, point.ch or spec.channel, kind, point.id)
  end
  for _ in pairs(refs) do
    count = count + 1
  end
  return refs, count, offset
end

local function claim(occupied, refs)
  for _, ref in pairs(refs) do
    local ch, kind, id = string.match(ref, "^comsrv:(%d+):(%u):(%d+)$")
    local found = occupied.channels[ch]
    if found then
      insert(found[kind], tonumber(id))
    end
  end
end

--- Expand a checked model: { channel, data = { name = ref }, action, data_offset, action_offset, count }.
-- `before` is the expansion it had, so that an `auto` span stays where it is.
function M.expand(spec, template, occupied, before)
  local problems = {}
  local data, points, data_offset = expand_use(spec, "data", template, occupied, before, problems)
  local action, actions, action_offset = expand_use(spec, "action", template, occupied, before, problems)
  for name in pairs(action) do
    if data[name] then
      problems[#problems + 1] = "mapping.action." .. name .. " is a name of data too"
    end
  end
  table.sort(problems)
  errors.fail_all(problems)
  if points + actions > compile.MAX_NAMES then
    errors.fail("LIMIT", "model " .. spec.id .. " has " .. (points + actions) .. " names, at most " .. compile.MAX_NAMES)
  end
  claim(occupied, data)
  claim(occupied, action)
  return {
    channel = spec.channel and tonumber(spec.channel), data = data, action = action, data_offset = data_offset,
    action_offset = action_offset, count = points + actions,
  }
end

local function refs_json(refs)
  local names, parts = order.names(refs), {}
  for i = 1, #names do
    parts[i] = '"' .. names[i] .. '":"' .. refs[names[i]] .. '"'
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- An expansion as JSON, names in order.
function M.encode(id, template, expansion)
  return json.object({
    "model", json.text(id), "template", template and json.text(template) or "null",
    "channel", expansion.channel and json.integer(expansion.channel) or "null",
    "data", refs_json(expansion.data), "action", refs_json(expansion.action),
    "data_offset", expansion.data_offset and json.integer(expansion.data_offset),
    "action_offset", expansion.action_offset and json.integer(expansion.action_offset),
  })
end

-- ---------------------------------------------------------------- reverse index

local function pairs_of(expansion)
  local found = {}
  for _, use in ipairs({ "data", "action" }) do
    for name, ref in pairs(expansion and expansion[use] or {}) do
      found[name .. " " .. ref] = { name, ref }
    end
  end
  return found
end

local function edit(ns, model, pair, add)
  local ch, point = M.parts(pair[2])
  local key = keys.reverse(ns, ch)
  local text = redis.call("HGET", key, point)
  local kept = {}
  for _, owner in ipairs(text and cjson.decode(text) or {}) do
    if owner[1] ~= model or owner[2] ~= pair[1] then
      kept[#kept + 1] = owner
    end
  end
  if add then
    kept[#kept + 1] = { model, pair[1] }
  end
  if #kept == 0 then
    redis.call("HDEL", key, point)
  else
    redis.call("HSET", key, point, cjson.encode(kept))
  end
end

--- Bring the reverse index from one expansion of a model to the next; either may be nil.
function M.index(ns, model, before, after)
  local old, new = pairs_of(before), pairs_of(after)
  for text, pair in pairs(old) do
    if not new[text] then
      edit(ns, model, pair, false)
    end
  end
  for text, pair in pairs(new) do
    if not old[text] then
      edit(ns, model, pair, true)
    end
  end
end

return M
