-- By what watchers are found: the models they name, the group they are in, what they command, whose shadow they are.
local conflicts = require("rulesrv.conflicts")

local M = {}

local BESIDE = { rule = "rule:", alarm_definition = "alarm:" }

local function name_model(graph, ref, watcher, on)
  local model = type(ref) == "string" and string.match(ref, "^modsrv:([^:]+):")
  if model then
    graph.named[model] = graph.named[model] or {}
    graph.named[model][watcher.id] = on and watcher
  end
end

-- Which watchers name which models: a model that changes finds them without a look at the others.
local function name_models(graph, watcher, on)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    name_model(graph, leaf.source, watcher, on)
    name_model(graph, type(leaf.value) == "table" and leaf.value.source, watcher, on)
  end
end

-- The definitions of a group and of an equipment: they are suppressed together.
local function name_members(graph, watcher, on)
  local kept = watcher.kept or {}
  for _, name in ipairs({ kept.group and "group:" .. kept.group or "", kept.equipment and "equipment:" .. kept.equipment or "" }) do
    if name ~= "" then
      graph.members[name] = graph.members[name] or {}
      graph.members[name][watcher] = on
    end
  end
end

--- Note a watcher in the indexes of its graph (`on` is true), or forget it there (nil).
function M.note(graph, watcher, on)
  name_models(graph, watcher, on)
  if watcher.kind == "shadow" then
    -- It acts on nothing; what the active one does is noted, too.
    graph.shadowed[watcher.beside] = on and watcher
    return
  end
  name_members(graph, watcher, on)
  if watcher.kind == "alarm" and watcher.document.suppresses then
    graph.suppressors[watcher] = on
  end
  if watcher.kind == "rule" then
    conflicts.index(graph, watcher, on)
  end
end

--- Make a compiled watcher the shadow of the one that is active under its id (core/shadows.lua).
function M.shadow(watcher, kind, of)
  watcher.kind, watcher.name, watcher.of_kind, watcher.of = "shadow", kind .. ":" .. of, kind, of
  watcher.beside, watcher.enabled, watcher.also = BESIDE[kind] .. of, true, nil
  -- Just before the active one: what that one commands must not look as if it were in the way.
  watcher.priority = watcher.priority + 0.5
  return watcher
end

return M
