-- Rules that command one point: while the conditions of both hold, the one of the higher priority decides.
local slots = require("core.slots")

local M = {}

-- The names of the point an action commands: its own, and those that models give it.
local function names_of(graph, target)
  local slot = slots.resolve(graph, target)
  slots.load_fresh(graph)
  local names = { slot.ref }
  for i = 1, slot.targets and #slot.targets or 0 do
    names[#names + 1] = "modsrv:" .. slot.targets[i].model .. ":" .. slot.targets[i].name
  end
  return names
end

--- The reference an action commands, or nil.
function M.target(action)
  local params = action.params
  if action.type == "model_action" then
    return "modsrv:" .. params.model .. ":" .. params.action
  elseif action.type ~= "command" then
    return nil
  end
  return params.target or string.format("comsrv:%s:%s:%s", params.channel, params.type, params.point)
end

--- Note, or forget, which points a rule commands.
function M.index(graph, watcher, on)
  for _, action in ipairs(watcher.document.actions or {}) do
    local target = M.target(action)
    if target then
      watcher.commands = true
      graph.commanders[target] = graph.commanders[target] or {}
      graph.commanders[target][watcher] = on
    end
  end
end

-- The active rule, other than `watcher`, that decides over a point.
local function first(graph, watcher, target)
  local best
  local names = names_of(graph, target)
  for i = 1, #names do
    for other in pairs(graph.commanders[names[i]] or {}) do
      if other ~= watcher and other.id ~= watcher.beside and other.active and other.enabled
        and (not best or other.priority > best.priority or (other.priority == best.priority and other.name < best.name)) then
        best = other
      end
    end
  end
  return best
end

--- Who else commands the point now: a rule of a higher priority, or one of a lower that is overridden.
function M.of(ctx, watcher, target)
  if type(target) == "table" then
    target = M.target({ type = "command", params = target })
  end
  local other = first(ctx.graph, watcher, target)
  if other and other.priority > watcher.priority then
    return other
  end
  return nil, other and other.priority < watcher.priority and other or nil
end

--- A rule's condition ended: the rules of lower priority that command its points now, each with its actions.
function M.heirs(ctx, watcher)
  local heirs, order = {}, {}
  for _, action in ipairs(watcher.document.actions or {}) do
    local target = M.target(action)
    local heir = target and first(ctx.graph, watcher, target)
    if heir and heir.priority < watcher.priority then
      local same = {}
      for _, name in ipairs(names_of(ctx.graph, target)) do
        same[name] = true
      end
      for i, its in ipairs(heir.document.actions) do
        local point = M.target(its)
        if point and same[point] then
          if not heirs[heir] then
            heirs[heir] = {}
            order[#order + 1] = heir
          end
          table.insert(heirs[heir], i)
        end
      end
    end
  end
  return order, heirs
end

return M
