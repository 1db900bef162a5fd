-- Rules whose effects come back to them: what a rule sets, raises or switches, another one watches, and so on round.
local conflicts = require("rulesrv.conflicts")
local slots = require("core.slots")

local M = {}

local MAX_STEPS = 20000

-- What a watcher touches when it acts: { { ref, how } }, and the rules it switches on.
local function effects_of(graph, watcher)
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
      for id, other in pairs(graph.watchers) do
        if other.kind == "rule" and (other.name == action.params.rule or (other.group and other.group == action.params.group)) then
          found[#found + 1] = { "on " .. id, "switches rule " .. other.name .. " on", other }
        end
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

local function describe(path)
  local words = {}
  for i = 1, #path do
    words[i] = path[i]
  end
  return table.concat(words, ", ")
end

local function name_of(watcher)
  return (watcher.kind == "rule" and "rule " or "definition ") .. watcher.name
end

--- Why a rule would come back to itself, or nil. A rule that sets what it watches itself, or switches itself, is none:
-- that ends by itself; but its own state or alarm it may not watch.
function M.problem(graph, watcher)
  local id, own = "rule:" .. watcher.name, watched_by(graph, watcher)
  watcher.id = id
  local queue, seen, steps = { { watcher, {} } }, { [id] = true }, 0
  local position = 1
  while position <= #queue and steps < MAX_STEPS do
    local current, path = queue[position][1], queue[position][2]
    position = position + 1
    local effects = effects_of(graph, current)
    for i = 1, #effects do
      local said = { unpack(path) }
      said[#said + 1] = name_of(current) .. " " .. effects[i][2]
      local refs = { effects[i][1] }
      local next_ref = 1
      local passed = {}
      while next_ref <= #refs do
        local ref = refs[next_ref]
        next_ref = next_ref + 1
        steps = steps + 1
        local itself = current == watcher and string.sub(effects[i][2], 1, 5) == "sets "
        if own[ref] and not itself then
          said[#said + 1] = "which " .. name_of(watcher) .. " watches"
          return "the rules come back to each other: " .. describe(said)
        end
        local watchers, more = followers(graph, ref)
        if effects[i][3] and next_ref == 2 then
          watchers[#watchers + 1] = effects[i][3]
        end
        for k = 1, #watchers do
          local other = watchers[k]
          if other.id == id and effects[i][3] and current ~= watcher then
            return "the rules come back to each other: " .. describe(said)
          elseif not seen[other.id] then
            seen[other.id] = true
            queue[#queue + 1] = { other, said }
          end
        end
        for k = 1, #more do
          if not passed[more[k]] then
            passed[more[k]] = true
            refs[#refs + 1] = more[k]
          end
        end
      end
    end
  end
  return nil
end

return M
