-- Arguments: what a person types, checked before anything is written.
local errors = require("lib.errors")
local json = require("lib.json")
local numbers = require("lib.numbers")
local replay = require("core.replay")

local M = {}

M.MAX_DOCUMENT = 1048576
M.MAX_NESTING = 128

local SERVICES = {
  voltage = true, comsrv = true, modsrv = true, alarmsrv = true, rulesrv = true, hissrv = true, netsrv = true,
}

--- Split KEYS[1] into the namespace's prefix and the bare id.
-- "model_001", "{plant7}:model_001", "modsrv:model:model_001" and "{plant7}:" are all accepted.
-- Any other text with a colon stays whole, so that it is refused as an id.
function M.split(key)
  if not key then
    return "", nil
  end
  local ns, rest = string.match(key, "^(%b{}:)(.*)$")
  if not ns then
    ns, rest = "", key
  end
  if rest == "" then
    return ns, nil
  end
  local service, id = string.match(rest, "^(%l+):%l+:([^:]+)$")
  return ns, SERVICES[service] and id or rest
end

--- True when a text may be an id.
function M.valid_id(text)
  return type(text) == "string" and #text <= 64 and string.find(text, "^[%w_%-]+$") ~= nil
end

local RESERVED = {
  alarm = true, alarms = true, command = true, commands = true, definition = true, definitions = true,
  journal = true, mapping = true, mappings = true, model = true, models = true, queue = true, reverse = true,
  rule = true, rules = true, template = true, templates = true, updates = true, watch = true,
}

--- The id, or INVALID naming it.
function M.id(text, what)
  what = what or "id"
  if type(text) == "number" then
    text = string.format("%.0f", text)
  end
  if not M.valid_id(text) then
    errors.fail("INVALID", what .. " " .. cjson.encode(text or "") .. " must match [A-Za-z0-9_-], 1 to 64 characters")
  end
  if RESERVED[text] then
    errors.fail("INVALID", what .. " " .. text .. " is a reserved word")
  end
  return text
end

--- A channel's id: a number from 1, as text.
function M.channel(text)
  if type(text) == "number" then
    text = string.format("%.0f", text)
  end
  if type(text) ~= "string" or not string.find(text, "^[1-9]%d*$") or #text > 9 then
    errors.fail("INVALID", "channel " .. cjson.encode(text or "") .. " must be a number from 1")
  end
  return text
end

--- A point's number, as text.
function M.point(value)
  if type(value) == "number" then
    value = string.format("%.0f", value)
  end
  if type(value) ~= "string" or not string.find(value, "^[1-9]%d*$") or #value > 9 then
    errors.fail("INVALID", "point " .. cjson.encode(value or "") .. " must be a number from 1")
  end
  return value
end

-- A decoder of our own: Redis' takes NaN, Infinity and hexadecimal, which no JSON has.
local decoder

--- Decode a JSON text strictly; an error says what is wrong with it.
function M.decode(text)
  if not decoder then
    decoder = cjson.new()
    decoder.decode_invalid_numbers(false)
  end
  return decoder.decode(text)
end

-- JSON null becomes absent.
local function strip(value, depth)
  if depth > M.MAX_NESTING then
    errors.fail("LIMIT", "the document is nested deeper than " .. M.MAX_NESTING)
  end
  for name, item in pairs(value) do
    if item == cjson.null then
      value[name] = nil
    elseif type(item) == "table" then
      strip(item, depth + 1)
    elseif item == math.huge or item == -math.huge then
      errors.fail("INVALID", tostring(name) .. " is too large a number")
    end
  end
  return value
end

--- Decode a JSON object; absent text gives an empty one when `optional`.
function M.document(text, optional)
  if text == nil or text == "" then
    if optional then
      return {}
    end
    errors.fail("INVALID", "a JSON document is missing")
  end
  if #text > M.MAX_DOCUMENT then
    errors.fail("LIMIT", "the document has " .. #text .. " bytes, at most " .. M.MAX_DOCUMENT .. " are taken")
  end
  local ok, document = pcall(M.decode, text)
  if not ok then
    -- The parser puts the line of our source in front; a caller has no use for it.
    errors.fail("INVALID", "the document is no JSON: " .. string.gsub(tostring(document), "^user_[%w_]+:%d+: ", "", 1))
  end
  if type(document) ~= "table" then
    errors.fail("INVALID", "the document must be a JSON object")
  end
  return strip(document, 1)
end

--- Refuse a field that is not in the set `known`, naming it.
function M.only(document, known)
  for name in pairs(document) do
    if not known[name] then
      errors.fail("INVALID", tostring(name) .. " is unknown")
    end
  end
end

--- An object, or INVALID; an empty one when absent.
function M.object(value, what)
  if value == nil then
    return {}
  end
  if type(value) ~= "table" or #value > 0 then
    errors.fail("INVALID", what .. " must be an object")
  end
  return value
end

--- A definition that is stored under an id: its document, with the id in it, and the text to keep.
function M.definition(id, what, text)
  id = M.id(id, what)
  local document = M.document(text)
  if document.id ~= nil and document.id ~= id then
    errors.fail_all({ "id " .. tostring(document.id) .. " is not the key's " .. what .. " " .. id })
  end
  local kept = json.with_id(text, document, id)
  document.id = id
  return document, kept
end

--- A finite number, or INVALID naming the field.
function M.number(value, what)
  local number = numbers.parse(value)
  if not number then
    errors.fail("INVALID", what .. " must be a finite number, not " .. cjson.encode(value == nil and "" or tostring(value)))
  end
  return number
end

--- An integer within bounds; `default` when absent.
function M.integer(value, what, low, high, default)
  if value == nil and default ~= nil then
    return default
  end
  local number = M.number(value, what)
  if number ~= math.floor(number) or number < low or number > high then
    errors.fail("INVALID", string.format("%s must be an integer from %.0f to %.0f", what, low, high))
  end
  return number
end

--- A text of at most `limit` bytes; nil when absent.
function M.text(value, what, limit)
  if value == nil then
    return nil
  end
  if type(value) ~= "string" or #value > (limit or 1024) then
    errors.fail("INVALID", what .. " must be a text of at most " .. (limit or 1024) .. " bytes")
  end
  return value
end

local TYPE_NAMES = { string = "a text", number = "a number", boolean = "true or false", table = "a list or an object" }

--- Note every member of `document` that is there and not of its type; `types` is { name = "string", ... }.
function M.check_types(document, types, path, problems)
  for name, wanted in pairs(types) do
    local value = document[name]
    if value ~= nil and type(value) ~= wanted then
      problems[#problems + 1] = path .. name .. " must be " .. TYPE_NAMES[wanted]
    elseif wanted == "string" and value and #value > 4096 then
      problems[#problems + 1] = path .. name .. " must have at most 4096 bytes"
    end
  end
end

local LIMITS = {
  integer = function(value, low, high)
    return type(value) == "number" and value == math.floor(value) and value >= low and value <= high
  end,
  number = function(value, low, high)
    return type(value) == "number" and value >= low and value <= high
  end,
  text = function(value, low, high)
    return type(value) == "string" and #value >= low and #value <= high
  end,
}
local LIMIT_SAYS = {
  integer = "%s must be an integer from %.0f to %.0f", number = "%s must be a number from %.14g to %.14g",
  text = "%s must be a text of %.0f to %.0f bytes",
}

--- Note every member of `document` that is there and past its limits: { name = { low, high, kind } }, where `kind` is
-- integer (without one), number or text. The services' models have the same (tests/functions/test_limits.py).
function M.check_limits(document, limits, path, problems)
  for name, limit in pairs(limits) do
    local value, kind = document[name], limit[3] or "integer"
    if value ~= nil and not LIMITS[kind](value, limit[1], limit[2]) then
      problems[#problems + 1] = string.format(LIMIT_SAYS[kind], path .. name, limit[1], limit[2])
    end
  end
end

--- One of a set; the message lists the choices in the order given.
function M.choice(value, what, choices)
  for i = 1, #choices do
    if value == choices[i] then
      return value
    end
  end
  errors.fail("INVALID", what .. " must be one of " .. table.concat(choices, ", "))
end

--- Redis' own clock, Unix milliseconds.
M.server_ms = replay.server_ms

--- The caller's instant, or Redis' clock where none is given.
function M.now(value)
  if value == nil or value == "" then
    return M.server_ms()
  end
  return M.integer(value, "now_ms", 0, 9007199254740991)
end

return M
