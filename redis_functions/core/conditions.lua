-- Condition trees with three-valued (Kleene) logic: true, false, and nil for unknown.

local M = {}

M.MAX_NESTING = 32
M.MAX_LEAVES = 256

-- Comparisons have a small number, so that the hot path compares numbers.
M.CODES = { [">"] = 1, [">="] = 2, ["<"] = 3, ["<="] = 4, ["=="] = 5, ["!="] = 6 }
M.OPERATORS = { "==", "!=", ">", ">=", "<", "<=", "in", "between", "quality", "no_data" }

local KNOWN_OPERATOR = {
  ["=="] = true, ["!="] = true, [">"] = true, [">="] = true, ["<"] = true, ["<="] = true,
  ["in"] = true, between = true, quality = true, no_data = true,
}
local KNOWN_FIELD = { source = true, operator = true, value = true, for_ms = true, hysteresis = true }
local NO_HYSTERESIS = { ["=="] = true, ["!="] = true, ["in"] = true, quality = true, no_data = true }

--- True when a text is a reference.
function M.is_reference(text)
  if type(text) ~= "string" then
    return false
  end
  local service, owner, _, point = string.match(text, "^([%w_%-]+):([%w_%-]+):([TSCA]):([1-9]%d*)$")
  if service then
    return service ~= "comsrv" or (string.find(owner, "^[1-9]%d*$") ~= nil and #point <= 9)
  end
  return string.find(text, "^modsrv:[%w_%-]+:[%w_%-]+$") ~= nil
end

--- True when a text is the reference of a text point.
function M.is_text_reference(text)
  return type(text) == "string" and string.find(text, "^comsrv:[1-9]%d*:X:[1-9]%d*$") ~= nil
    and #string.match(text, "%d*$") <= 9
end

local function number_list(value, count)
  if type(value) ~= "table" or #value == 0 or (count and #value ~= count) then
    return false
  end
  for i = 1, #value do
    if type(value[i]) ~= "number" then
      return false
    end
  end
  return true
end

local MAX_TEXT = 256
local OF_TEXTS = { ["=="] = true, ["!="] = true, quality = true, no_data = true }

-- Text points are compared with texts, or with each other.
local function check_text_value(leaf, say)
  local value = leaf.value
  if not OF_TEXTS[leaf.operator] then
    say("operator", "of a text must be ==, !=, quality or no_data")
  elseif type(value) == "table" then
    if not M.is_text_reference(value.source) then
      say("value.source", "is no reference of a text")
    end
  elseif type(value) ~= "string" or #value > MAX_TEXT then
    say("value", "must be a text of at most " .. MAX_TEXT .. " bytes")
  end
end

local function check_value(leaf, say)
  local operator, value = leaf.operator, leaf.value
  if M.is_text_reference(leaf.source) and operator ~= "quality" and operator ~= "no_data" then
    return check_text_value(leaf, say)
  end
  if operator == "in" then
    if not number_list(value) then
      say("value", "must be a list of numbers")
    end
  elseif operator == "between" then
    if not number_list(value, 2) or value[1] > value[2] then
      say("value", "must be [low, high]")
    end
  elseif operator == "quality" then
    if type(value) ~= "string" then
      say("value", "must be a quality such as good, bad or bad:stale")
    end
  elseif operator == "no_data" then
    if type(value) ~= "number" or value < 0 then
      say("value", "must be the milliseconds without data")
    end
  elseif type(value) == "table" then
    if not M.is_reference(value.source) then
      say("value.source", "is no reference")
    end
  elseif type(value) == "boolean" then
    leaf.value = value and 1 or 0
  elseif type(value) ~= "number" or value ~= value or value == math.huge or value == -math.huge then
    say("value", "must be a finite number")
  end
end

local function compile_leaf(document, path, out)
  local function say(field, what)
    out.problems[#out.problems + 1] = path .. "." .. field .. " " .. what
  end
  for name in pairs(document) do
    if not KNOWN_FIELD[name] then
      say(tostring(name), "is unknown")
    end
  end
  if not M.is_reference(document.source) and not M.is_text_reference(document.source) then
    say("source", cjson.encode(document.source or "") .. " is no reference (service:owner:T|S|C|A:point, comsrv:channel:X:point)")
  end
  local known = KNOWN_OPERATOR[document.operator] or document.operator == out.operator
  if not known then
    say("operator", "must be one of " .. table.concat(M.OPERATORS, ", "))
  end
  local leaf = {
    source = document.source, operator = document.operator, value = document.value, path = path,
    code = M.CODES[document.operator], hysteresis = document.hysteresis, for_ms = document.for_ms,
  }
  if known then
    check_value(leaf, say)
  end
  if document.operator == "no_data" then
    leaf.for_ms = document.value
  end
  if leaf.for_ms ~= nil and (type(leaf.for_ms) ~= "number" or leaf.for_ms < 0 or leaf.for_ms > 31 * 86400000) then
    say("for_ms", "must be a number of milliseconds, at most 31 days")
  end
  if leaf.hysteresis ~= nil and (type(leaf.hysteresis) ~= "number" or leaf.hysteresis < 0 or NO_HYSTERESIS[leaf.operator]) then
    say("hysteresis", "must be a number from 0, with >, >=, <, <= or between")
  end
  if leaf.for_ms == 0 then
    leaf.for_ms = nil
  end
  out.leaves[#out.leaves + 1] = leaf
  leaf.index = #out.leaves
  if #out.leaves == M.MAX_LEAVES + 1 then
    out.problems[#out.problems + 1] = path .. " is past " .. M.MAX_LEAVES .. " conditions"
  end
  return leaf
end

local function compile(node, path, depth, out)
  if #out.leaves > M.MAX_LEAVES then
    return nil
  end
  if depth > M.MAX_NESTING then
    out.problems[#out.problems + 1] = path .. " is nested deeper than " .. M.MAX_NESTING
    return nil
  end
  if type(node) ~= "table" then
    out.problems[#out.problems + 1] = path .. " must be an object"
    return nil
  end
  local kind = (node.all and "all") or (node.any and "any") or (node["not"] and "not") or nil
  local below = kind and (path .. "." .. kind)
  if #node > 0 then
    kind, node, below = "all", { all = node }, path
  end
  if kind == nil then
    return compile_leaf(node, path, out)
  end
  for name in pairs(node) do
    if name ~= kind then
      out.problems[#out.problems + 1] = path .. "." .. tostring(name) .. " does not belong beside " .. kind
    end
  end
  if kind == "not" then
    return { kind = "not", compile(node["not"], path .. ".not", depth + 1, out) }
  end
  local list = node[kind]
  if type(list) ~= "table" or #list == 0 then
    out.problems[#out.problems + 1] = below .. " must be a list of conditions"
    return nil
  end
  local compiled = { kind = kind }
  for i = 1, #list do
    compiled[i] = compile(list[i], below .. "[" .. (i - 1) .. "]", depth + 1, out)
  end
  return compiled
end

--- Compile a list or a tree. Returns the root, the leaves and the problems (all of them, with paths).
-- `operator` is one more that is taken here (alarm definitions have `deviation`).
function M.compile(tree, operator)
  local out = { leaves = {}, problems = {}, operator = operator }
  if type(tree) ~= "table" or next(tree) == nil then
    return nil, {}, { "conditions must be a list of conditions, or a tree of all, any, not" }
  end
  local root = compile(tree, "conditions", 1, out)
  return root, out.leaves, out.problems
end

local function compare(code, a, b)
  if code == 1 then
    return a > b
  elseif code == 2 then
    return a >= b
  elseif code == 3 then
    return a < b
  elseif code == 4 then
    return a <= b
  elseif code == 5 then
    return a == b
  end
  return a ~= b
end
M.compare = compare

-- Once on, a leaf with hysteresis goes off only past its limit by that much.
local function compare_sticky(leaf, value, limit)
  local margin = leaf.on and leaf.hysteresis or 0
  if leaf.code == 1 or leaf.code == 2 then
    return compare(leaf.code, value, limit - margin)
  end
  return compare(leaf.code, value, limit + margin)
end

local function quality_matches(slot, wanted)
  local quality = slot.quality or (slot.value ~= nil and "good") or "missing"
  return quality == wanted or string.match(quality, "^[^:]+") == wanted
end

--- What a leaf's point says now, before any hold: true, false or nil.
function M.raw(leaf, last_good)
  local slot = leaf.slot
  local operator = leaf.operator
  if operator == "quality" then
    return quality_matches(slot, leaf.value)
  elseif operator == "no_data" then
    return slot.value == nil or (slot.quality ~= nil and string.sub(slot.quality, 1, 3) == "bad")
  end
  local value = slot.value
  if value == nil or (slot.quality and not last_good) then
    return nil
  end
  local limit = leaf.value
  if leaf.other then
    limit = leaf.other.value
    if limit == nil or (leaf.other.quality and not last_good) then
      return nil
    end
  end
  if leaf.code then
    if leaf.hysteresis then
      return compare_sticky(leaf, value, limit)
    end
    return compare(leaf.code, value, limit)
  elseif operator == "between" then
    local margin = leaf.on and leaf.hysteresis or 0
    return value >= limit[1] - margin and value <= limit[2] + margin
  elseif operator == "deviation" then
    local margin = leaf.on and leaf.hysteresis or 0
    return math.abs(value - limit) > leaf.deviation - margin
  end
  for i = 1, #limit do
    if value == limit[i] then
      return true
    end
  end
  return false
end

--- Evaluate a tree; `truth_of(leaf)` gives each leaf's truth. Every leaf is asked, so that each hold runs.
function M.evaluate(node, truth_of)
  if node.kind == nil then
    return truth_of(node)
  end
  if node.kind == "not" then
    local truth = M.evaluate(node[1], truth_of)
    if truth == nil then
      return nil
    end
    return not truth
  end
  local decisive = node.kind == "any"
  local result = not decisive
  local unknown = false
  for i = 1, #node do
    local truth = M.evaluate(node[i], truth_of)
    if truth == nil then
      unknown = true
    elseif truth == decisive then
      result = decisive
    end
  end
  if result ~= decisive and unknown then
    return nil
  end
  return result
end


return M
