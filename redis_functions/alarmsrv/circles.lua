-- Definitions that suppress each other: both would stand, each hidden by the other, and nobody would be told.
local marks = require("alarmsrv.marks")

local M = {}

-- So many definitions that suppress others are asked for their channel, and so many steps made from one to another.
local MAX_DEFINITIONS = 1000
local MAX_STEPS = 5000

-- Of those that suppress others, which are of a channel or of a unit.
local function by_place(walk)
  local found, count = {}, 0
  for watcher in pairs(walk.graph.suppressors) do
    count = count + 1
    if count > MAX_DEFINITIONS then
      break
    end
    for _, name in ipairs(marks.names(walk.graph, watcher)) do
      found[name] = found[name] or {}
      found[name][watcher] = true
    end
  end
  return found
end

-- Those that suppress others and have a name, in order; each comes once in a walk.
local function of_name(walk, name)
  local graph, found = walk.graph, {}
  local list
  if string.find(name, "^alarm:") then
    list = graph.watchers[name] and { [graph.watchers[name]] = true }
  elseif string.find(name, "^comsrv:") then
    walk.places = walk.places or by_place(walk)
    list = walk.places[name]
  else
    list = graph.members[name]
  end
  for watcher in pairs(list or {}) do
    walk.steps = walk.steps + 1
    if walk.steps > MAX_STEPS then
      break
    elseif graph.suppressors[watcher] and watcher.enabled and not walk.seen[watcher.name] then
      walk.seen[watcher.name] = true
      found[#found + 1] = watcher
    end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

local function hop(step)
  local own = "alarm:" .. step.watcher.name
  return (step.before.before and hop(step.before) .. ", " or "") .. "alarm:" .. step.before.watcher.name .. " suppresses "
    .. step.name .. (step.name ~= own and " with " .. own or "")
end

-- The way from a definition over one of the names it suppresses back to itself, or nil.
local function way(walk, watcher, name)
  walk.seen, walk.asked = { [watcher.name] = true }, {}
  local queue, position = {}, 1
  local function go(before, wanted)
    if walk.asked[wanted] then
      return
    end
    walk.asked[wanted] = true
    for _, to in ipairs(of_name(walk, wanted)) do
      queue[#queue + 1] = { watcher = to, name = wanted, before = before }
    end
  end
  go({ watcher = watcher }, name)
  while queue[position] do
    local step = queue[position]
    position = position + 1
    for _, wanted in ipairs(step.watcher.document.suppresses) do
      if walk.own[wanted] then
        return hop({ watcher = watcher, name = wanted, before = step })
      end
      go(step, wanted)
    end
  end
  return nil
end

--- How a definition would close a circle: a problem for each of the names it suppresses. That it is of a group it
-- suppresses itself is none: its own alarm it leaves alone. The search is bounded.
function M.problems(graph, watcher)
  local list, problems = watcher.document.suppresses or {}, {}
  if not watcher.enabled or #list == 0 or next(graph.suppressors) == nil then
    return problems
  end
  local walk = { graph = graph, own = {}, steps = 0 }
  for _, name in ipairs(marks.names(graph, watcher)) do
    walk.own[name] = true
  end
  for i = 1, #list do
    local found = way(walk, watcher, list[i])
    if found then
      problems[#problems + 1] = "suppresses[" .. (i - 1) .. "]: alarms would hide each other: " .. found
    end
  end
  return problems
end

return M
