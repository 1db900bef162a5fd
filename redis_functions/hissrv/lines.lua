-- InfluxDB line protocol: the contract of its form, and a tool to look at it.
local args = require("lib.args")
local errors = require("lib.errors")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local order = require("lib.order")

local M = {}

M.MEASUREMENT = "telemetry"
M.MAX_POINTS = 1000

-- A line ends at a line feed and a backslash at an end would escape what follows: neither can be
-- written, so control characters become spaces and trailing backslashes go.
local function clean(text)
  return (string.gsub(string.gsub(text, "%c", " "), "\\+$", ""))
end

local function escape_measurement(text)
  return (string.gsub(clean(text), "[, ]", "\\%0"))
end

local function escape(text)
  return (string.gsub(clean(text), "[, =]", "\\%0"))
end

local function parts_of(path, source)
  local service, owner, kind, point = string.match(tostring(source), "^([%w_%-]+):([%w_%-]+):([TSCA]):(%d+)$")
  if service then
    return { service = service, owner = owner, channel = owner, type = kind, point = point }
  end
  owner, point = string.match(tostring(source), "^modsrv:([%w_%-]+):([%w_%-]+)$")
  if owner then
    return { service = "modsrv", owner = owner, model = owner, point = point }
  end
  errors.fail("INVALID", path .. ".source must be a reference, as comsrv:1001:T:1 or modsrv:pv1:active_power")
end

local function tags_of(mapping, parts)
  local tags = { service = parts.service, channel = parts.channel, model = parts.model, type = parts.type, point = parts.point }
  for name, text in pairs(mapping.tags or {}) do
    tags[name] = string.gsub(text, "{(.-)}", function(place)
      return parts[place] or ""
    end)
  end
  local names, text = order.names(tags), {}
  for i = 1, #names do
    local name, value = escape(names[i]), escape(tags[names[i]])
    if name ~= "" and value ~= "" then
      text[#text + 1] = "," .. name .. "=" .. value
    end
  end
  return table.concat(text)
end

local function quality_number(text)
  if text == nil or text == "" or text == "good" then
    return "192i"
  end
  return string.find(text, "^uncertain") and "64i" or "0i"
end

local function line(mapping, path, point)
  local parts = parts_of(path, point.source)
  local at = args.integer(point.at_ms, path .. ".at_ms", 0, 9007199254740991)
  local quality = args.text(point.quality, path .. ".quality", 256)
  local field = (mapping.fields or {})[point.source] or (mapping.fields or {})[parts.point] or "value"
  local fields = ""
  if point.value ~= nil then
    local value = args.number(point.value, path .. ".value")
    local transform = mapping.transform or {}
    local text = type(point.value) == "string" and not mapping.transform and string.find(point.value, "%.%d%d%d%d%d%d$")
      and point.value or numbers.format(value * (transform.scale or 1) + (transform.offset or 0))
    fields = escape(field) .. "=" .. text .. ","
  end
  return escape_measurement(mapping.measurement or M.MEASUREMENT) .. tags_of(mapping, parts) .. " " .. fields
    .. "quality=" .. quality_number(quality) .. " " .. string.format("%.0f", at)
end

--- Write points as InfluxDB line protocol, precision ms.
--
-- `value` is always a float with six decimals and is left out where a point has none; `quality` is
-- an integer: 192 good, 64 uncertain, 0 bad. Tags are sorted by name and escaped.
--
-- KEYS[1]  mapping (optional): its measurement, tags, field names and transform
-- ARGV[1]  {points: [{source, at_ms, value?, quality?}, ...]}
-- Returns  the lines, joined by line feeds
-- Errors   INVALID   a point is wrong
--          NOTFOUND  no such mapping
--          LIMIT     more than 1000 points
-- Example  FCALL convert_to_line_protocol 0 '{"points":[{"source":"comsrv:1001:T:1","at_ms":1700000000000,"value":1.5}]}'
function M.convert(ns, id, argv)
  local mapping = {}
  if id then
    mapping = args.document(redis.call("GET", keys.mapping(ns, id)) or errors.fail("NOTFOUND", "mapping " .. id))
  end
  local document = args.document(argv[1])
  if type(document.points) ~= "table" then
    errors.fail("INVALID", "points must be a list")
  end
  if #document.points > M.MAX_POINTS then
    errors.fail("LIMIT", "at most " .. M.MAX_POINTS .. " points a call, not " .. #document.points)
  end
  local lines = {}
  for i = 1, #document.points do
    if type(document.points[i]) ~= "table" then
      errors.fail("INVALID", "points[" .. (i - 1) .. "] must be an object")
    end
    lines[i] = line(mapping, "points[" .. (i - 1) .. "]", document.points[i])
  end
  return table.concat(lines, "\n")
end

return M
