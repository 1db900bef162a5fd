-- What a rule names and there is not: it is taken all the same, and counts once it is there.
local known = require("core.known")
local limits = require("comsrv.limits")

local M = {}

local function of_condition(graph, leaf, say)
  if not leaf.window then
    say(leaf.path .. ".source", leaf.source, known.missing(graph, leaf.source))
  end
  if type(leaf.value) == "table" and leaf.value.source then
    say(leaf.path .. ".value.source", leaf.value.source, known.missing(graph, leaf.value.source))
  end
end

-- Why an action would be refused whatever the moment; nil where it may do something.
local function of_action(graph, action)
  local params = action.params
  if action.type == "command" then
    local ref = params.target or "comsrv:" .. params.channel .. ":" .. params.type .. ":" .. params.point
    return ref, known.missing(graph, ref)
  elseif action.type == "model_action" then
    local ref = "modsrv:" .. params.model .. ":" .. params.action
    return ref, known.missing(graph, ref) or not limits.target(graph, ref) and "it is nothing that can be commanded"
  elseif params.rule and (action.type == "enable_rule" or action.type == "disable_rule") then
    return "rule:" .. params.rule, known.missing(graph, "rule:" .. params.rule)
  end
end

--- The warnings of a rule, as JSON texts.
function M.of(graph, watcher)
  local found = {}
  local function say(path, ref, problem)
    if problem then
      found[#found + 1] = known.warning(path .. " " .. ref, problem)
    end
  end
  for i = 1, #watcher.leaves do
    of_condition(graph, watcher.leaves[i], say)
  end
  for i, action in ipairs(watcher.document.actions or {}) do
    say("actions[" .. (i - 1) .. "]", of_action(graph, action))
  end
  return found
end

return M
