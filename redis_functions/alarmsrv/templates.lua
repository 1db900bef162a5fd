-- Messages with values: "{value} {unit} at {source}, ambient {point:comsrv:1001:T:2:1}".
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local sources = require("core.sources")

local M = {}

M.MAX_FIELDS = 16
M.MAX_TITLE = 256
-- In the place of decimals: six digits, and none for nothing.
M.SHORT = "short"

local FIELDS = {
  value = true, unit = true, quality = true, limit = true, deadband = true, source = true, id = true, name = true,
  level = true, priority = true, area = true, equipment = true, group = true,
}
local NAMES = "value, unit, quality, limit, deadband, source, id, name, level, priority, area, equipment, group, point:<reference>"

local function is_reference(text)
  return sources.is_reference(text) or sources.is_text_reference(text)
end

local function field_of(text)
  local decimals
  if string.sub(text, 1, 6) == "point:" then
    local ref = string.sub(text, 7)
    if not is_reference(ref) then
      ref, decimals = string.match(ref, "^(.*):([0-6])$")
    end
    if not is_reference(ref) then
      if is_reference(string.match(text, "^point:(.*):[^:]*$")) then
        return nil, "{" .. text .. "} is unknown; decimals are 0 to 6"
      end
      return nil, "{" .. text .. "} names no reference (service:owner:T|S|C|A:point, modsrv:model:point)"
    end
    return { point = ref, decimals = tonumber(decimals) }
  end
  local name = text
  if not FIELDS[name] then
    name, decimals = string.match(text, "^(%l+):([0-6])$")
  end
  if not FIELDS[name] then
    local before = string.match(text, "^(%l+):[^:]*$")
    if FIELDS[before] then
      return nil, "{" .. text .. "} is unknown; decimals are 0 to 6, as {" .. before .. ":1}"
    end
    return nil, "{" .. text .. "} is unknown; there are " .. NAMES
  end
  return { field = name, decimals = tonumber(decimals) }
end

--- Compile a message to its parts: texts and fields. Nil where it is plain text; problems are added.
-- A brace that is meant is written twice.
function M.compile(message, path, problems)
  if type(message) ~= "string" or not string.find(message, "[{}]") then
    return nil
  end
  local parts, fields, position = {}, 0, 1
  while position <= #message do
    local open = string.find(message, "[{}]", position)
    parts[#parts + 1] = string.sub(message, position, (open or #message + 1) - 1)
    if not open then
      break
    end
    local brace = string.sub(message, open, open)
    local close = brace == "{" and string.find(message, "}", open, true)
    if string.sub(message, open + 1, open + 1) == brace then
      parts[#parts + 1] = brace
      position = open + 2
    elseif not close then
      problems[#problems + 1] = path .. ": a " .. brace .. " at byte " .. open .. " stands alone; write it twice"
      return nil
    else
      local field, problem = field_of(string.sub(message, open + 1, close - 1))
      if problem then
        problems[#problems + 1] = path .. ": " .. problem
        field = ""
      else
        parts.points = parts.points or field.point ~= nil
      end
      fields = fields + 1
      parts[#parts + 1] = field
      position = close + 1
    end
  end
  if fields > M.MAX_FIELDS then
    problems[#problems + 1] = path .. ": at most " .. M.MAX_FIELDS .. " fields are taken, not " .. fields
  end
  return parts
end

-- A number as people write it: 81.500000 is 81.5.
local function shown(text, decimals)
  if text == nil or text == false then
    return "?"
  end
  text = tostring(text)
  if string.sub(text, 1, 1) == '"' then
    -- A text point's value is JSON.
    return cjson.decode(text)
  end
  local number = tonumber(text)
  if not number then
    return text
  elseif decimals == M.SHORT and math.abs(number) < 100000 then
    return string.format("%.6g", number)
  elseif decimals and decimals ~= M.SHORT then
    return string.format("%." .. decimals .. "f", number)
  end
  return numbers.plain(number)
end

--- The parts of a title where a definition of a limit says none: "Hi comsrv:1001:T:2: 60.5 kW (limit 50)".
function M.of_limit(document)
  return {
    document.detector .. " " .. document.source .. ": ", { field = "value", decimals = M.SHORT },
    { field = "unit", before = " " }, " (limit ", { field = "limit", decimals = M.SHORT }, ")",
  }
end

local function point_value(ctx, ref)
  local ch, kind, id = string.match(ref, "^comsrv:(%d+):(%u):(%d+)$")
  if ch then
    return redis.call("HGET", keys.values(ctx.ns, ch, kind == "X" and "text" or kind), id)
  end
  local model, name = string.match(ref, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  if model then
    return redis.call("HGET", keys.model_values(ctx.ns, model), name)
      or redis.call("HGET", keys.model_actions(ctx.ns, model), name)
  end
  local owner, letter, point = string.match(ref, "^(.*):(%u):(%d+)$")
  return redis.call("HGET", ctx.ns .. owner .. ":" .. letter, point)
end

-- What the channel's table says; else what the model's template does.
local function unit_of(ctx, watcher, source)
  local slot = watcher.leaves[1].slot
  local ch = slot and slot.owner and string.match(slot.owner, "^comsrv:(%d+)$")
  local facts = ch and redis.call("HGET", keys.points(ctx.ns, ch), slot.kind .. ":" .. slot.id)
  local unit = facts and string.match(facts, "^[^|]*|(.+)$")
  if unit then
    return unit
  end
  local model, name = string.match(source, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  local text = model and redis.call("GET", keys.model(ctx.ns, model))
  local template = text and cjson.decode(text).template
  text = type(template) == "string" and redis.call("GET", keys.template(ctx.ns, template))
  local document = text and cjson.decode(text) or {}
  local point = (document.data_points or {})[name] or (document.actions or {})[name]
  return type(point) == "table" and type(point.unit) == "string" and point.unit or ""
end

-- At most so many bytes, and no half of a character at the end.
local function bounded(text, limit)
  if #text <= limit then
    return text
  end
  local cut = string.sub(text, 1, limit)
  return (string.gsub(cut, "[\192-\255]?[\128-\191]*$", "", 1))
end

--- Fill in the parts of a message. `said` holds what the fields name (source, limit, level, ...), `seen` is
-- { text, quality } of the transition.
function M.fill(ctx, watcher, parts, said, seen, bytes)
  local words = {}
  for i = 1, #parts do
    local part = parts[i]
    if type(part) == "string" then
      words[i] = part
    elseif part.point then
      words[i] = shown(point_value(ctx, part.point), part.decimals)
    elseif part.field == "value" then
      words[i] = shown(seen.text, part.decimals)
    elseif part.field == "quality" then
      words[i] = seen.quality or (seen.text and "good" or "missing")
    elseif part.field == "unit" then
      local unit = unit_of(ctx, watcher, said.source)
      words[i] = unit ~= "" and (part.before or "") .. unit or ""
    elseif part.field == "priority" and watcher.kept then
      words[i] = watcher.kept.priority
    elseif part.field == "deadband" and watcher.kept then
      -- One in percent is compiled to what it comes to.
      words[i] = shown(watcher.leaves[1].hysteresis or 0, part.decimals)
    else
      local value = said[part.field]
      words[i] = value ~= nil and shown(value, part.decimals) or ""
    end
  end
  return bounded(table.concat(words), bytes)
end

--- The title of a definition's alarm.
function M.render(ctx, watcher, seen)
  if not watcher.template then
    return watcher.title
  end
  return M.fill(ctx, watcher, watcher.template, watcher.document, seen, M.MAX_TITLE)
end

return M
