-- Condition trees with three-valued (Kleene) logic: true, false, and nil for unknown.

local leaves = require("core.leaves")

local M = {}

M.MAX_NESTING = 32

local function compile(node, path, depth, out)
  if #out.leaves > leaves.MAX then
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
    return leaves.compile(node, path, out)
  end
  for name in pairs(node) do
    if name ~= kind then
      out.problems[#out.problems + 1] = path .. "." .. tostring(name) .. " does not belong beside " .. kind
    end
  end
  if kind == "not" then
    return { kind = "not", path = path, compile(node["not"], path .. ".not", depth + 1, out) }
  end
  local list = node[kind]
  if type(list) ~= "table" or #list == 0 then
    out.problems[#out.problems + 1] = below .. " must be a list of conditions"
    return nil
  end
  local compiled = { kind = kind, path = path }
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

local function quality_of(slot)
  return slot.quality or (slot.value ~= nil and "good") or "missing"
end
M.quality_of = quality_of

local function quality_matches(slot, wanted)
  local quality = quality_of(slot)
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
  if leaf.words then
    return (leaf.words[value] == true) ~= leaf.negated
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

return M
