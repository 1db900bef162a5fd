-- A rule's document, checked and compiled to a watcher.
local conditions = require("core.conditions")
local numbers = require("lib.numbers")
local params = require("rulesrv.params")

local M = {}

local KNOWN = {
  id = true, name = true, description = true, conditions = true, actions = true, enabled = true, priority = true,
  cooldown_ms = true, on_bad = true, group = true, version = true, author = true, reason = true, hash = true, tags = true,
  requires_approval = true,
  created_at_ms = true, updated_at_ms = true,
}

local FIELDS = {
  name = params.text(256, true), description = params.text(2048), enabled = params.flag,
  cooldown_ms = params.integer(0, 31 * 86400000), priority = params.integer(-1000000, 1000000),
  version = params.integer(0, numbers.EXACT_LIMIT), group = params.id,
}

--- Compile a rule. Returns the watcher and every problem found.
function M.compile(document)
  local root, leaves, problems = conditions.compile(document.conditions)
  for name in pairs(document) do
    if not KNOWN[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  local templates = params.check(document.actions or {}, problems)
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
    last_good = document.on_bad == "last", templates = templates, group = document.group,
  }
  return watcher, problems
end

return M
