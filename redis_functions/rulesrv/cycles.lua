-- Rules whose effects come back to them: what a rule sets, raises or switches, another one watches, and so on round.
local conflicts = require("rulesrv.conflicts")
local slots = require("core.slots")

local M = {}

local MAX_STEPS = 20000

-- The rules that an action switches; `candidate` stands for itself, it is not stored yet.
local function switched(graph, params, candidate)
  if params.rule then
    return { params.rule == candidate.name and candidate or graph.watchers["rule:" .. params.rule] }
  end
  local found = { candidate.group == params.group and candidate or nil }
  for id, other in pairs(graph.watchers) do
    if other.kind == "rule" and other.group == params.group and id ~= candidate.id then
      found[#found + 1] = other
    end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

-- What a watcher touches when it acts: { { ref, how } }, and the rules it switches on.
local function effects_of(graph, watcher, candidate)
  local found = { { watcher.id, "turns" } }
  if watcher.kind ~= "rule" then
    return found
  end
  for i, action in ipairs(watcher.document.actions or {}) do
    local target = conflicts.target(action)
    if target then
      local ref = slots.resolve(graph, target).ref
      local ch, point = string.match(ref, "^comsrv:(%d+):([AC]:%d+)$")
      found[#found + 1] = { ref, "sets " .. ref }
      found[#found + 1] = ch and { "command:" .. ch .. ":" .. point, "sets " .. ref } or nil
    elseif action.type == "create_alarm" then
      found[#found + 1] = { watcher.id .. "#" .. i, "raises an alarm" }
    elseif action.type == "resolve_alarm" then
      found[#found + 1] = { action.params.alarm, "resolves " .. action.params.alarm }
    elseif action.type == "enable_rule" then
      for _, other in ipairs(switched(graph, action.params, candidate)) do
        found[#found + 1] = { "on rule:" .. other.name, "switches rule " .. other.name .. " on", other }
      end
    end
  end
  return found
end

-- Everything that looks at a reference: watchers, and the points that are calculated from it.
local function followers(graph, ref)
  local slot = graph.specials[ref]
  if not slot then
    local owner, kind, id = string.match(ref, "^(%w+:[%w_%-]+):([TSCAX]):(%d+)$")
    slot = owner and graph.owners[owner] and graph.owners[owner][kind][id]
  end
  local watchers, refs = {}, {}
  for i = 1, slot and slot.leaves and #slot.leaves or 0 do
    watchers[#watchers + 1] = slot.leaves[i].watcher
  end
  for i = 1, slot and slot.calcs and #slot.calcs or 0 do
    refs[#refs + 1] = slot.calcs[i].slot.ref
  end
  for i = 1, slot and slot.windows and #slot.windows or 0 do
    for _, derived in ipairs(slot.windows[i].slots) do
      refs[#refs + 1] = derived.ref
    end
  end
  return watchers, refs
end

local function watched_by(graph, watcher)
  local refs = {}
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if leaf.watch then
      refs[leaf.watch] = true
    end
    refs[leaf.special and not leaf.aggregate and leaf.source or slots.resolve(graph, leaf.source).ref] = true
    if type(leaf.value) == "table" and leaf.value.source then
      refs[slots.resolve(graph, leaf.value.source).ref] = true
    end
  end
  return refs
end

local function name_of(watcher)
  return (watcher.kind == "rule" and "rule " or "definition ") .. watcher.name
end

local function with(path, word)
  local longer = { unpack(path) }
  longer[#longer + 1] = word
  return longer
end

local function found(path)
  return "the rules come back to each other: " .. table.concat(path, ", ")
end

-- Follow one effect of `current` through what is calculated from it. Returns the way round where it comes back.
local function follow(walk, current, effect, path)
  local itself = current == walk.watcher and string.sub(effect[2], 1, 5) == "sets "
  local refs, passed, next_ref = { effect[1] }, {}, 1
  local reached = { effect[3] }
  while next_ref <= #refs do
    local ref = refs[next_ref]
    next_ref, walk.steps = next_ref + 1, walk.steps + 1
    if walk.own[ref] and not itself then
      return found(with(path, "which " .. name_of(walk.watcher) .. " watches"))
    end
    local watchers, more = followers(walk.graph, ref)
    for k = 1, #watchers do
      reached[#reached + 1] = watchers[k]
    end
    for k = 1, #more do
      if not passed[more[k]] then
        passed[more[k]] = true
        refs[#refs + 1] = more[k]
      end
    end
  end
  for k = 1, #reached do
    local other = reached[k]
    if other.id == walk.watcher.id and effect[3] and current ~= walk.watcher then
      return found(path)
    elseif not walk.seen[other.id] then
      walk.seen[other.id] = true
      walk.queue[#walk.queue + 1] = { other, path }
    end
  end
  return nil
end

--- Why a rule would come back to itself, or nil. A rule that sets what it watches itself, or switches itself, is none:
-- that ends by itself; but its own state or alarm it may not watch. The search is bounded: what it does not find ends
-- at run time (core/transitions.lua, DEPTH).
function M.problem(graph, watcher)
  watcher.id = "rule:" .. watcher.name
  local walk = {
    graph = graph, watcher = watcher, own = watched_by(graph, watcher), queue = { { watcher, {} } },
    seen = { [watcher.id] = true }, steps = 0,
  }
  local position = 1
  while position <= #walk.queue and walk.steps < MAX_STEPS do
    local current, path = walk.queue[position][1], walk.queue[position][2]
    position = position + 1
    local effects = effects_of(graph, current, watcher)
    for i = 1, #effects do
      local problem = follow(walk, current, effects[i], with(path, name_of(current) .. " " .. effects[i][2]))
      if problem then
        return problem
      end
    end
  end
  return nil
end

return M
