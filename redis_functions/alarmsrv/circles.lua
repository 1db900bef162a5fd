-- Definitions that suppress each other: both would stand, each hidden by the other, and nobody would be told.
local marks = require("alarmsrv.marks")

local M = {}

-- So many definitions that suppress others are looked at, and so many steps made from one to another.
local MAX_DEFINITIONS = 5000
local MAX_STEPS = 20000

-- Of those that suppress others, which have a name; in order.
local function by_name(graph, but)
  local found, count = {}, 0
  for watcher in pairs(graph.suppressors) do
    if watcher.enabled and watcher.name ~= but and count < MAX_DEFINITIONS then
      count = count + 1
      for _, name in ipairs(marks.names(graph, watcher)) do
        found[name] = found[name] or {}
        table.insert(found[name], watcher)
      end
    end
  end
  for _, watchers in pairs(found) do
    table.sort(watchers, function(a, b) return a.name < b.name end)
  end
  return found
end

local function hop(path, from, name, to)
  local own = "alarm:" .. to.name
  return (path and path .. ", " or "") .. "alarm:" .. from.name .. " suppresses " .. name .. (name ~= own and " with " .. own or "")
end

-- The way from a definition over one of the names it suppresses back to itself, or nil.
local function way(walk, watcher, name)
  local seen, queue, position = {}, {}, 1
  local function go(from, wanted, path)
    for _, to in ipairs(walk.by_name[wanted] or {}) do
      walk.steps = walk.steps + 1
      if walk.steps > MAX_STEPS then
        return
      elseif not seen[to] then
        seen[to] = true
        queue[#queue + 1] = { to, hop(path, from, wanted, to) }
      end
    end
  end
  go(watcher, name)
  while queue[position] do
    local from, path = queue[position][1], queue[position][2]
    position = position + 1
    for _, wanted in ipairs(from.document.suppresses) do
      if walk.own[wanted] then
        return hop(path, from, wanted, watcher)
      end
      go(from, wanted, path)
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
  local walk = { by_name = by_name(graph, watcher.name), own = {}, steps = 0 }
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
