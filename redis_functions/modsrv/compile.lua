-- Templates and models as documents: checked whole, every problem named with its path.
local args = require("lib.args")

local M = {}

M.MAX_NAMES = 2000
M.MAX_POINT = 999999999

local TEMPLATE = {
  id = true, name = true, class = true, description = true, data_points = true, actions = true, version = true,
  author = true, reason = true, hash = true, requires_approval = true, created_at_ms = true, updated_at_ms = true,
}
local MODEL = {
  id = true, name = true, template = true, description = true, mapping = true, metadata = true, version = true,
  author = true, reason = true, hash = true, requires_approval = true, created_at_ms = true, updated_at_ms = true,
}
local MAPPING = { channel = true, data = true, action = true, data_offset = true, action_offset = true }
local POINT = { base_id = true, kind = true, unit = true, description = true, value_map = true }
local KINDS = { data = { T = true, S = true, C = true, A = true }, action = { C = true, A = true } }
local KIND_NAMES = { data = "T, S, C or A", action = "C or A" }

local function whole(value, low, high)
  return type(value) == "number" and value == math.floor(value) and value >= low and value <= high
end

local function check_members(document, known, path, problems)
  for name in pairs(document) do
    if not known[name] then
      problems[#problems + 1] = path .. tostring(name) .. " is unknown"
    end
  end
end

local function check_name(name, path, problems)
  if not args.valid_id(name) then
    problems[#problems + 1] = path .. " " .. cjson.encode(tostring(name)) .. " must match [A-Za-z0-9_-], 1 to 64 characters"
    return false
  end
  return true
end

-- The members of an object in the order of their names, so that problems come in one order.
local function each(object, path, problems, take)
  if object == nil then
    return
  end
  if type(object) ~= "table" then
    problems[#problems + 1] = path .. " must be an object"
    return
  end
  local names = {}
  for name in pairs(object) do
    names[#names + 1] = name
  end
  if #names > M.MAX_NAMES then
    problems[#problems + 1] = path .. " has " .. #names .. " names, at most " .. M.MAX_NAMES .. " are taken"
    return
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for i = 1, #names do
    if check_name(names[i], path, problems) then
      take(names[i], object[names[i]])
    end
  end
end

local TEXTS = { name = { 1, 256, "text" }, description = { 0, 1024, "text" } }
local POINT_TEXTS = { unit = { 0, 32, "text" }, description = { 0, 1024, "text" } }

local function check_texts(document, problems)
  if document.name == nil then
    problems[#problems + 1] = "name is missing"
  end
  args.check_limits(document, TEXTS, "", problems)
end

local function check_points(document, member, use, problems)
  local points = {}
  each(document[member], member, problems, function(name, point)
    local path = member .. "." .. name
    if type(point) ~= "table" then
      problems[#problems + 1] = path .. " must be an object with base_id"
      return
    end
    check_members(point, POINT, path .. ".", problems)
    args.check_limits(point, POINT_TEXTS, path .. ".", problems)
    if not whole(point.base_id, 1, M.MAX_POINT) then
      problems[#problems + 1] = path .. ".base_id must be a number from 1"
    end
    if point.kind ~= nil and not KINDS[use][point.kind] then
      problems[#problems + 1] = path .. ".kind must be " .. KIND_NAMES[use]
    end
    points[name] = { id = point.base_id, kind = point.kind or (use == "data" and "T" or "C") }
  end)
  return points
end

--- Check a template. Returns { data = { name = { id, kind } }, action = ... } and every problem.
function M.template(document)
  local problems = {}
  check_members(document, TEMPLATE, "", problems)
  check_texts(document, problems)
  if document.class ~= nil and not args.valid_id(document.class) then
    problems[#problems + 1] = "class must match [A-Za-z0-9_-], 1 to 64 characters"
  end
  local template = {
    data = check_points(document, "data_points", "data", problems),
    action = check_points(document, "actions", "action", problems),
  }
  for name in pairs(template.action) do
    if template.data[name] then
      problems[#problems + 1] = "actions." .. name .. " is a name of data_points too"
    end
  end
  return template, problems
end

-- 12, "12", "S:3" or "comsrv:1002:T:5"; returns { ch, kind, id }, where ch and kind may be left open.
local function parse_point(value)
  if type(value) == "number" then
    return whole(value, 1, M.MAX_POINT) and { id = value } or nil
  end
  if type(value) ~= "string" then
    return nil
  end
  local ch, kind, id = string.match(value, "^comsrv:([1-9]%d*):([TSCA]):([1-9]%d*)$")
  if not ch then
    kind, id = string.match(value, "^([TSCA]):([1-9]%d*)$")
  end
  if not id then
    id = string.match(value, "^([1-9]%d*)$")
  end
  if not id or #id > 9 or (ch and #ch > 9) then
    return nil
  end
  return { ch = ch, kind = kind, id = tonumber(id) }
end

local function check_use(mapping, use, problems)
  local points = {}
  each(mapping[use], "mapping." .. use, problems, function(name, value)
    local path = "mapping." .. use .. "." .. name
    local point = parse_point(value)
    if not point then
      problems[#problems + 1] = path .. ' must be a point: 12, "S:3" or "comsrv:1002:T:5"'
    elseif point.kind and not KINDS[use][point.kind] then
      problems[#problems + 1] = path .. " must be of kind " .. KIND_NAMES[use]
    elseif not point.ch and mapping.channel == nil then
      problems[#problems + 1] = path .. " names no channel, and there is no mapping.channel"
    else
      points[name] = point
    end
  end)
  return points
end

local function check_offset(mapping, use, template, problems)
  local offset = mapping[use .. "_offset"]
  if offset == nil then
    return nil
  end
  local path = "mapping." .. use .. "_offset"
  if offset ~= "auto" and not whole(offset, -M.MAX_POINT, M.MAX_POINT) then
    problems[#problems + 1] = path .. ' must be an integer or "auto"'
  elseif template == nil then
    problems[#problems + 1] = path .. " needs a template"
  elseif mapping.channel == nil then
    problems[#problems + 1] = path .. " needs mapping.channel"
  end
  return offset
end

--- Check a model. Returns { id, template, channel, data, action, data_offset, action_offset } and every problem.
function M.model(document)
  local problems = {}
  check_members(document, MODEL, "", problems)
  check_texts(document, problems)
  if document.template ~= nil and not args.valid_id(document.template) then
    problems[#problems + 1] = "template must be a template's id"
  end
  if document.metadata ~= nil and type(document.metadata) ~= "table" then
    problems[#problems + 1] = "metadata must be an object"
  end
  local mapping = document.mapping
  if mapping == nil then
    mapping = {}
  elseif type(mapping) ~= "table" then
    problems[#problems + 1] = "mapping must be an object"
    mapping = {}
  end
  check_members(mapping, MAPPING, "mapping.", problems)
  local channel = mapping.channel
  if channel ~= nil then
    channel = whole(channel, 1, M.MAX_POINT) and string.format("%.0f", channel) or tostring(channel)
    if not string.find(channel, "^[1-9]%d*$") or #channel > 9 then
      problems[#problems + 1] = "mapping.channel must be a channel's number"
    end
  end
  local spec = {
    id = document.id, template = document.template, channel = channel,
    data = check_use(mapping, "data", problems), action = check_use(mapping, "action", problems),
    data_offset = check_offset(mapping, "data", document.template, problems),
    action_offset = check_offset(mapping, "action", document.template, problems),
  }
  return spec, problems
end

return M
