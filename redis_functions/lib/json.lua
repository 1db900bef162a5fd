-- JSON out. cjson writes an empty table as {}, so lists are joined from encoded items.
local M = {}

--- A list of texts that are JSON already.
function M.list(encoded)
  return "[" .. table.concat(encoded, ",") .. "]"
end

--- A text as JSON.
function M.text(value)
  return cjson.encode(tostring(value))
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
  return string.format("%.0f", value)
end

--- A document's text with its id in front where it names none; else byte for byte as it came.
function M.with_id(text, document, id)
  if document.id ~= nil then
    return text
  end
  local rest = next(document) == nil and "%1" or ",%1"
  return (string.gsub(text, "^%s*{(%s*)", '{"id":' .. cjson.encode(id) .. rest, 1))
end

return M
