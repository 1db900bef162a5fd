-- A rule's document, checked and compiled to a watcher.
local args = require("lib.args")
local conditions = require("core.conditions")

local M = {}

local KNOWN = {
  id = true, name = true, description = true, conditions = true, actions = true, enabled = true, priority = true,
  cooldown_ms = true, on_bad = true, version = true, author = true, reason = true, hash = true, tags = true,
  created_at_ms = true, updated_at_ms = true,
}
local LEVELS = { Critical = true, Major = true, Minor = true, Warning = true, Info = true }
local MAX_ACTIONS = 16

local TYPES = { description = "string", enabled = "boolean", version = "number" }
local ALARM_TYPES = { description = "string", source = "string", ack_required = "boolean" }

local function check_alarm(params, say, path, problems)
  args.check_types(params, ALARM_TYPES, path, problems)
  if not LEVELS[params.level or "Warning"] then
    say("params.level", "must be Critical, Major, Minor, Warning or Info")
  end
  if type(params.title) ~= "string" or params.title == "" then
    say("params.title", "is missing")
  end
end

local function check_command(params, say)
  if params.target ~= nil then
    if not conditions.is_reference(params.target) then
      say("params.target", "is no reference")
    end
  else
    if not string.find(tostring(params.channel or ""), "^[1-9]%d*$") then
      say("params.channel", "must be a channel's number (or give params.target)")
    end
    if params.type ~= "A" and params.type ~= "C" then
      say("params.type", "must be A or C")
    end
    if not string.find(tostring(params.point or ""), "^[1-9]%d*$") then
      say("params.point", "must be a point's number")
    end
  end
  if type(params.value) ~= "number" then
    say("params.value", "must be a number")
  end
end

local function check_publish(params, say)
  if not args.valid_id(params.topic) then
    say("params.topic", "must match [A-Za-z0-9_-], 1 to 64 characters")
  end
end

local CHECKS = { create_alarm = check_alarm, command = check_command, publish = check_publish }

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
    if type(action) ~= "table" or not CHECKS[action.type] then
      say("type", "must be create_alarm, command or publish")
    elseif type(action.params) ~= "table" then
      say("params", "is missing")
    else
      CHECKS[action.type](action.params, say, "actions[" .. (i - 1) .. "].params.", problems)
    end
  end
end

--- Compile a rule. Returns the watcher and every problem found.
function M.compile(document)
  local root, leaves, problems = conditions.compile(document.conditions)
  for name in pairs(document) do
    if not KNOWN[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  if type(document.name) ~= "string" or #document.name > 256 then
    problems[#problems + 1] = "name must be a text"
  end
  args.check_types(document, TYPES, "", problems)
  check_actions(document.actions or {}, problems)
  if document.cooldown_ms ~= nil and (type(document.cooldown_ms) ~= "number" or document.cooldown_ms < 0) then
    problems[#problems + 1] = "cooldown_ms must be a number from 0"
  end
  if document.priority ~= nil and type(document.priority) ~= "number" then
    problems[#problems + 1] = "priority must be a number"
  end
  if document.on_bad ~= nil and document.on_bad ~= "last" and document.on_bad ~= "hold" then
    problems[#problems + 1] = "on_bad must be hold (the default) or last"
  end
  local watcher = {
    kind = "rule", name = document.id, root = root, leaves = leaves, document = document,
    enabled = document.enabled ~= false, priority = document.priority or 0,
    cooldown_ms = (document.cooldown_ms or 0) > 0 and document.cooldown_ms or nil,
    last_good = document.on_bad == "last",
  }
  return watcher, problems
end

return M
