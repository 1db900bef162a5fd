-- What a rule's actions may say, checked with the path to each field.
local args = require("lib.args")
local expression = require("core.expression")
local numbers = require("lib.numbers")
local sources = require("core.sources")
local templates = require("alarmsrv.templates")

local M = {}

local LEVELS = { Critical = true, Major = true, Minor = true, Warning = true, Info = true }
M.MAX_ACTIONS = 16

-- A field's check gives what is wrong, or nil.
function M.text(limit, needed)
  return function(value)
    if value == nil and not needed then
      return nil
    end
    if type(value) ~= "string" or (needed and value == "") or #value > limit then
      return "must be a text of at most " .. limit .. " bytes" .. (needed and ", and not empty" or "")
    end
  end
end

function M.flag(value)
  return value ~= nil and type(value) ~= "boolean" and "must be true or false" or nil
end

function M.integer(low, high)
  return function(value)
    if value ~= nil and (type(value) ~= "number" or value ~= math.floor(value) or value < low or value > high) then
      return string.format("must be an integer from %.0f to %.0f", low, high)
    end
  end
end

function M.id(value)
  return value ~= nil and not args.valid_id(value) and "must match [A-Za-z0-9_-], 1 to 64 characters" or nil
end

local function needed(check)
  return function(value)
    return value == nil and "is missing" or check(value)
  end
end

local function number_text(value)
  local found = type(value) == "number" and string.format("%.14g", value) or value
  if value ~= nil and not (type(found) == "string" and #found <= 9 and string.find(found, "^[1-9]%d*$")) then
    return "must be a number from 1"
  end
end

local function level(value)
  return value ~= nil and not LEVELS[value] and "must be Critical, Major, Minor, Warning or Info" or nil
end

local function value_number(value)
  return value ~= nil and (type(value) ~= "number" or math.abs(value) > numbers.EXACT_LIMIT) and "must be a number" or nil
end

local function tags(value)
  if value == nil then
    return nil
  end
  for i = 1, type(value) == "table" and #value <= 16 and math.max(#value, 1) or 1 do
    if type(value) ~= "table" or #value > 16 or (next(value) and (type(value[i]) ~= "string" or value[i] == "" or #value[i] > 64)) then
      return "must be a list of at most 16 texts of 1 to 64 bytes"
    end
  end
end

-- A rule acts for protection or for a schedule where it says so; never as an operator.
local AUTHORITIES = { protection = true, rule = true, schedule = true }
local text, flag, integer = M.text, M.flag, M.integer

-- What every command may say, whatever it names its point by.
local function commanding(fields)
  fields.value, fields.expression, fields.verify = value_number, text(4096), flag
  fields.program = function(value)
    return value ~= nil and expression.problem(value) or nil
  end
  fields.priority, fields.ttl_ms, fields.lease_ms = integer(0, 100), integer(1, 600000), integer(0, 86400000)
  fields.fallback = value_number
  fields.authority = function(value)
    return value ~= nil and not AUTHORITIES[value] and "must be protection, rule or schedule" or nil
  end
  return fields
end

local switch = { rule = M.id, group = M.id }

local PARAMS = {
  create_alarm = {
    title = text(256, true), description = text(2048), source = text(256), ack_required = flag, level = level,
  },
  resolve_alarm = {
    alarm = needed(function(value)
      return sources.state_kind(value) ~= "alarm" and "must be alarm:{definition} or rule:{rule}#{action}" or nil
    end),
  },
  command = commanding({
    channel = number_text, point = number_text,
    type = function(value)
      return value ~= nil and value ~= "A" and value ~= "C" and "must be A or C" or nil
    end,
    target = function(value)
      if value ~= nil and not sources.is_reference(value) then
        return "is no reference"
      end
      return value ~= nil and string.find(value, "^%w+:%d+:[TS]:") and "is a value that is read; commands go to A and C" or nil
    end,
  }),
  model_action = commanding({ model = needed(M.id), action = needed(M.id) }),
  publish = {
    topic = function(value)
      return not args.valid_id(value) and "must match [A-Za-z0-9_-], 1 to 64 characters" or nil
    end,
    message = text(1024),
    payload = function(value)
      return not pcall(cjson.encode, value) and "is a list with too many holes" or nil
    end,
  },
  notify = { message = text(1024, true), level = level, tags = tags },
  enable_rule = switch, disable_rule = switch,
}
M.TYPES = "create_alarm, resolve_alarm, command, model_action, publish, notify, enable_rule or disable_rule"

-- Texts that may show values.
local TEMPLATES = { create_alarm = { "title", "description" }, publish = { "message" }, notify = { "message" } }

local function check_command(kind, params, say)
  if kind == "command" then
    local parts = params.channel ~= nil and params.type ~= nil and params.point ~= nil
    if params.target == nil and not parts then
      say("params.target", "is missing (or give params.channel, type and point)")
    end
  end
  if params.expression == nil and params.program == nil then
    if params.value == nil then
      say("params.value", "must be a number (or give params.expression)")
    end
  elseif params.value ~= nil then
    say("params.value", "does not go beside an expression")
  elseif params.program == nil then
    say("params.program", "is missing: an expression is made to a program by the service")
  end
end

local function check_params(kind, params, say)
  local fields = PARAMS[kind]
  for name in pairs(params) do
    if not fields[name] then
      say("params." .. tostring(name), "is unknown")
    end
  end
  for name, check in pairs(fields) do
    local problem = check(params[name])
    if problem then
      say("params." .. name, problem)
    end
  end
  if kind == "command" or kind == "model_action" then
    check_command(kind, params, say)
  elseif fields == switch and (params.rule == nil) == (params.group == nil) then
    say("params.rule", "or params.group must be there, one of them")
  end
end

-- The parts of an action's texts: { title = {...}, ... }, or nil where they are plain.
local function compile_texts(action, path, problems)
  local found
  for _, name in ipairs(TEMPLATES[action.type] or {}) do
    local parts = templates.compile(action.params[name], path .. ".params." .. name, problems)
    if parts then
      found = found or {}
      found[name] = parts
    end
  end
  return found
end

--- Check a rule's actions; returns their templates by position.
function M.check(actions, problems)
  local compiled = {}
  if type(actions) ~= "table" or (next(actions) ~= nil and #actions == 0) then
    problems[#problems + 1] = "actions must be a list"
    return compiled
  end
  if #actions > M.MAX_ACTIONS then
    problems[#problems + 1] = "actions has " .. #actions .. " items, at most " .. M.MAX_ACTIONS .. " are taken"
    return compiled
  end
  for i = 1, #actions do
    local action, path = actions[i], "actions[" .. (i - 1) .. "]"
    local function say(field, what)
      problems[#problems + 1] = path .. "." .. field .. " " .. what
    end
    if type(action) ~= "table" or not PARAMS[action.type] then
      say("type", "must be " .. M.TYPES)
    elseif type(action.params) ~= "table" then
      say("params", "is missing")
    else
      for name in pairs(action) do
        if name ~= "type" and name ~= "params" then
          say(tostring(name), "is unknown")
        end
      end
      check_params(action.type, action.params, say)
      compiled[i] = compile_texts(action, path, problems)
    end
  end
  return compiled
end

return M
