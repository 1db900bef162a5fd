-- A rule's document, checked and compiled to a watcher.
local args = require("lib.args")
local conditions = require("core.conditions")
local numbers = require("lib.numbers")

local M = {}

local KNOWN = {
  id = true, name = true, description = true, conditions = true, actions = true, enabled = true, priority = true,
  cooldown_ms = true, on_bad = true, version = true, author = true, reason = true, hash = true, tags = true,
  created_at_ms = true, updated_at_ms = true,
}
local LEVELS = { Critical = true, Major = true, Minor = true, Warning = true, Info = true }
local MAX_ACTIONS = 16


-- A params' field: its check gives what is wrong, or nil.
local function text(limit, needed)
  return function(value)
    if value == nil and not needed then
      return nil
    end
    if type(value) ~= "string" or (needed and value == "") or #value > limit then
      return "must be a text of at most " .. limit .. " bytes" .. (needed and ", and not empty" or "")
    end
  end
end

local function flag(value)
  return value ~= nil and type(value) ~= "boolean" and "must be true or false" or nil
end

local function integer(low, high)
  return function(value)
    if value ~= nil and (type(value) ~= "number" or value ~= math.floor(value) or value < low or value > high) then
      return string.format("must be an integer from %.0f to %.0f", low, high)
    end
  end
end

local function number_text(value)
  local found = type(value) == "number" and string.format("%.14g", value) or value
  if value ~= nil and not (type(found) == "string" and #found <= 9 and string.find(found, "^[1-9]%d*$")) then
    return "must be a number from 1"
  end
end

-- A rule acts for protection or for a schedule where it says so; never as an operator.
local AUTHORITIES = { protection = true, rule = true, schedule = true }

local PARAMS = {
  create_alarm = {
    title = text(256, true), description = text(2048), source = text(256), ack_required = flag,
    level = function(value)
      return value ~= nil and not LEVELS[value] and "must be Critical, Major, Minor, Warning or Info" or nil
    end,
  },
  command = {
    channel = number_text, point = number_text, verify = flag,
    priority = integer(0, 100), ttl_ms = integer(1, 600000), lease_ms = integer(0, 86400000),
    fallback = function(value)
      return value ~= nil and type(value) ~= "number" and "must be a number" or nil
    end,
    authority = function(value)
      return value ~= nil and not AUTHORITIES[value] and "must be protection, rule or schedule" or nil
    end,
    type = function(value)
      return value ~= nil and value ~= "A" and value ~= "C" and "must be A or C" or nil
    end,
    target = function(value)
      return value ~= nil and not conditions.is_reference(value) and "is no reference" or nil
    end,
    value = function(value)
      return (type(value) ~= "number" or math.abs(value) > numbers.EXACT_LIMIT) and "must be a number" or nil
    end,
  },
  publish = {
    topic = function(value)
      return not args.valid_id(value) and "must match [A-Za-z0-9_-], 1 to 64 characters" or nil
    end,
    message = text(1024),
    payload = function(value)
      return not pcall(cjson.encode, value) and "is a list with too many holes" or nil
    end,
  },
}

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
  if kind == "command" and params.target == nil and (params.channel == nil or params.type == nil or params.point == nil) then
    say("params.target", "is missing (or give params.channel, type and point)")
  end
end

local function check_actions(actions, problems)
  if type(actions) ~= "table" or (next(actions) ~= nil and #actions == 0) then
    problems[#problems + 1] = "actions must be a list"
    return
  end
  if #actions > MAX_ACTIONS then
    problems[#problems + 1] = "actions has " .. #actions .. " items, at most " .. MAX_ACTIONS .. " are taken"
    return
  end
  for i = 1, #actions do
    local action = actions[i]
    local function say(field, what)
      problems[#problems + 1] = "actions[" .. (i - 1) .. "]." .. field .. " " .. what
    end
    if type(action) ~= "table" or not PARAMS[action.type] then
      say("type", "must be create_alarm, command or publish")
    elseif type(action.params) ~= "table" then
      say("params", "is missing")
    else
      for name in pairs(action) do
        if name ~= "type" and name ~= "params" then
          say(tostring(name), "is unknown")
        end
      end
      check_params(action.type, action.params, say)
    end
  end
end

local FIELDS = {
  name = text(256, true), description = text(2048), enabled = flag, cooldown_ms = integer(0, 31 * 86400000),
  priority = integer(-1000000, 1000000), version = integer(0, numbers.EXACT_LIMIT),
}

--- Compile a rule. Returns the watcher and every problem found.
function M.compile(document)
  local root, leaves, problems = conditions.compile(document.conditions)
  for name in pairs(document) do
    if not KNOWN[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  check_actions(document.actions or {}, problems)
  for name, check in pairs(FIELDS) do
    local problem = check(document[name])
    if problem then
      problems[#problems + 1] = name .. " " .. problem
    end
  end
  if document.on_bad ~= nil and document.on_bad ~= "last" and document.on_bad ~= "hold" then
    problems[#problems + 1] = "on_bad must be hold (the default) or last"
  end
  table.sort(problems)
  local cooldown = type(document.cooldown_ms) == "number" and document.cooldown_ms or 0
  local watcher = {
    kind = "rule", name = document.id, root = root, leaves = leaves, document = document,
    enabled = document.enabled ~= false, priority = document.priority or 0,
    cooldown_ms = cooldown > 0 and cooldown or nil,
    last_good = document.on_bad == "last",
  }
  return watcher, problems
end

return M
