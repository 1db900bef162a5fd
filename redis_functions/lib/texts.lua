-- Values that are texts: of text points, and of commands to them.
local errors = require("lib.errors")

local M = {}

M.MAX = 256

--- True when a text is UTF-8: bytes that are none would make what is published no JSON.
function M.is_utf8(text)
  if not string.find(text, "[\128-\255]") then
    return true
  end
  local rest = string.gsub(text, "[\194-\223][\128-\191]", "?")
  rest = string.gsub(rest, "[\224-\239][\128-\191][\128-\191]", "?")
  rest = string.gsub(rest, "[\240-\244][\128-\191][\128-\191][\128-\191]", "?")
  return not string.find(rest, "[\128-\255]")
end

--- A text value of at most `limit` bytes (256), or INVALID naming the field.
function M.check(value, what, limit)
  limit = limit or M.MAX
  if type(value) ~= "string" or #value > limit or not M.is_utf8(value) then
    errors.fail("INVALID", what .. " must be a text of at most " .. limit .. " bytes of UTF-8")
  end
  return value
end

return M
