-- Numbers are written with six decimals; "-0.000000", NaN and infinity never appear.
local M = {}

M.EXACT_LIMIT = 9007199254740992

--- True for a number that may be stored.
function M.finite(number)
  return number == number and number <= M.EXACT_LIMIT and number >= -M.EXACT_LIMIT
end

--- Write a finite number with six decimals.
function M.format(number)
  local text = string.format("%.6f", number)
  if text == "-0.000000" then
    return "0.000000"
  end
  return text
end

--- Write a number as people do: 81.500000 is 81.5. Takes a number or its text.
function M.plain(number)
  local text = string.format("%.6f", number)
  return (string.gsub(string.gsub(text, "0+$", ""), "%.$", ""))
end

-- The instants of a call are one or two, and a storm writes each of them hundreds of times.
local last, last_text

--- Write a whole number, never in exponent form.
function M.whole(number)
  if number ~= last then
    last, last_text = number, string.format("%.0f", number)
  end
  return last_text
end

--- Parse a decimal number strictly: no hexadecimal, no "nan", no "inf". Returns nil otherwise.
function M.parse(text)
  if type(text) == "number" then
    return M.finite(text) and text or nil
  end
  if type(text) ~= "string" then
    return nil
  end
  if not (string.find(text, "^%-?%d+%.?%d*$") or string.find(text, "^%-?%d+%.?%d*[eE][+-]?%d+$")) then
    return nil
  end
  local number = tonumber(text)
  return M.finite(number) and number or nil
end

return M
