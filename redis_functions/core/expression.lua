-- Evaluates the programs that libs/expression.py makes: reverse Polish, a list of [operation, argument].
local numbers = require("lib.numbers")
local sources = require("core.sources")

local M = {}

local BINARY = {
  ["+"] = function(a, b) return a + b end,
  ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end,
  ["/"] = function(a, b) return a / b end,
  ["<"] = function(a, b) return a < b and 1 or 0 end,
  ["<="] = function(a, b) return a <= b and 1 or 0 end,
  [">"] = function(a, b) return a > b and 1 or 0 end,
  [">="] = function(a, b) return a >= b and 1 or 0 end,
  ["=="] = function(a, b) return a == b and 1 or 0 end,
  ["!="] = function(a, b) return a ~= b and 1 or 0 end,
}

local function fold(stack, top, count, better)
  local best = stack[top - count + 1]
  for i = top - count + 2, top do
    if better(stack[i], best) then
      best = stack[i]
    end
  end
  return best
end

--- Evaluate a program. `value_of(i)` gives the i-th reference's number, or nil when it is not good.
-- Returns the number, or nil and the reason: "input" or "out_of_range".
function M.evaluate(program, value_of)
  local stack, top = {}, 0
  for i = 1, #program do
    local operation, argument = program[i][1], program[i][2]
    if operation == "num" then
      top = top + 1
      stack[top] = argument
    elseif operation == "ref" then
      local value = value_of(argument)
      if value == nil then
        return nil, "input"
      end
      top = top + 1
      stack[top] = value
    elseif BINARY[operation] then
      top = top - 1
      stack[top] = BINARY[operation](stack[top], stack[top + 1])
    elseif operation == "neg" then
      stack[top] = -stack[top]
    elseif operation == "abs" then
      stack[top] = math.abs(stack[top])
    elseif operation == "if" then
      top = top - 2
      stack[top] = stack[top] ~= 0 and stack[top + 1] or stack[top + 2]
    elseif operation == "min" then
      stack[top - argument + 1] = fold(stack, top, argument, function(a, b) return a < b end)
      top = top - argument + 1
    elseif operation == "max" then
      stack[top - argument + 1] = fold(stack, top, argument, function(a, b) return a > b end)
      top = top - argument + 1
    end
  end
  local result = stack[1]
  if result == nil or not numbers.finite(result) then
    return nil, "out_of_range"
  end
  return result
end

local ARITY = { num = 0, ref = 0, neg = 1, abs = 1, ["if"] = 3 }

--- The reason why a text is no program, or nil. Checked once, when a definition is stored.
function M.problem(program)
  if type(program) ~= "table" or #program == 0 or #program > 1000 then
    return "a program is a list of 1 to 1000 operations"
  end
  local depth = 0
  for i = 1, #program do
    if type(program[i]) ~= "table" then
      return "operation " .. i .. " is unknown: it must be [operation, argument]"
    end
    local operation, argument = program[i][1], program[i][2]
    local takes = ARITY[operation] or (BINARY[operation] and 2)
    if operation == "min" or operation == "max" then
      takes = type(argument) == "number" and argument >= 1 and argument == math.floor(argument) and argument or nil
    elseif operation == "num" and type(argument) ~= "number" then
      return "operation " .. i .. " needs a number"
    elseif operation == "ref" and not sources.is_reference(argument) then
      return "operation " .. i .. ": " .. cjson.encode(argument or "") .. " is no reference"
    end
    if not takes or takes > depth then
      return "operation " .. i .. " is unknown or lacks operands"
    end
    depth = depth - takes + 1
  end
  return depth ~= 1 and "the program leaves " .. depth .. " values" or nil
end

return M
