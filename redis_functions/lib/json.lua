-- JSON out. cjson writes an empty table as {}, so lists are joined from encoded items.
local numbers = require("lib.numbers")

local M = {}

--- A list of texts that are JSON already.
function M.list(encoded)
  return "[" .. table.concat(encoded, ",") .. "]"
end

--- A text as JSON.
function M.text(value)
  return cjson.encode(tostring(value))
end

--- A list of texts, each as JSON.
function M.texts(list)
  local encoded = {}
  for i = 1, #list do
    encoded[i] = M.text(list[i])
  end
  return encoded
end

--- Members of an object: { "name", encoded, "name", encoded, ... }; a nil value ends nothing, use false to leave one out.
function M.object(members)
  local parts = {}
  for i = 1, #members, 2 do
    if members[i + 1] then
      parts[#parts + 1] = '"' .. members[i] .. '":' .. members[i + 1]
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- An integer as JSON, never in exponent form.
function M.integer(value)
  return numbers.whole(value)
end

--- A document's text with its id in front where it names none; else byte for byte as it came.
function M.with_id(text, document, id)
  if document.id ~= nil then
    return text
  end
  local rest = next(document) == nil and "%1" or ",%1"
  return (string.gsub(text, "^%s*{(%s*)", '{"id":' .. cjson.encode(id) .. rest, 1))
end

-- The position after a text that begins at `at`.
local function after_text(text, at)
  while true do
    at = string.find(text, '["\\]', at + 1)
    if string.sub(text, at, at) == '"' then
      return at + 1
    end
    at = at + 1
  end
end

-- The position after a value that begins at `at`; the text is JSON that was decoded before.
local function after_value(text, at)
  local first = string.sub(text, at, at)
  if first == '"' then
    return after_text(text, at)
  elseif first ~= "{" and first ~= "[" then
    return string.find(text, "[,}%s]", at)
  end
  local depth = 0
  repeat
    at = string.find(text, '["%[%]{}]', at)
    local char = string.sub(text, at, at)
    if char == '"' then
      at = after_text(text, at)
    else
      depth = depth + ((char == "{" or char == "[") and 1 or -1)
      at = at + 1
    end
  until depth == 0
  return at
end

-- Walk the members of an object's text: take(name, first, value, last) with the positions of the member, of its
-- value and behind it, until one returns true.
local function walk(text, take)
  local at = string.find(text, "[^%s{]", (string.find(text, "{", 1, true)))
  while string.sub(text, at, at) == '"' do
    local colon = after_text(text, at)
    local value = string.find(text, "[^%s:]", colon)
    local last = after_value(text, value)
    local name = string.sub(text, at + 1, colon - 2)
    if string.find(name, "\\", 1, true) then
      name = cjson.decode('["' .. name .. '"]')[1]
    end
    if take(name, at, value, last) then
      return
    end
    at = string.find(text, "[^%s,]", last)
  end
end

--- An object's text without the members named: as it came where it has none of them.
function M.without(text, names)
  local parts, found = {}, false
  walk(text, function(name, first, _, last)
    if names[name] then
      found = true
    else
      parts[#parts + 1] = string.sub(text, first, last - 1)
    end
  end)
  return found and "{" .. table.concat(parts, ",") .. "}" or text
end

--- The text of a member's value, as it came; nil where there is none.
function M.member(text, wanted)
  local found
  walk(text, function(name, _, value, last)
    found = name == wanted and string.sub(text, value, last - 1) or nil
    return found ~= nil
  end)
  return found
end

--- An object's text with members more behind its own; `members` as of M.object.
function M.with(text, members)
  local head = string.gsub(text, "%s*}%s*$", "")
  return head .. (string.sub(head, -1) == "{" and "" or ",") .. string.sub(M.object(members), 2)
end

return M
