-- Watchers (rules, alarm definitions) and the points they watch: put in, taken out, read as they were left.
local indexes = require("core.indexes")
local keys = require("lib.keys")
local measures = require("core.measures")
local slots = require("core.slots")
local specials = require("core.specials")
local writes = require("core.writes")

local M = {}

local function state_key(ns, watcher)
  if watcher.kind == "rule" then
    return keys.rule_state(ns, watcher.name)
  elseif watcher.kind == "suppress" then
    return keys.suppression_state(ns, watcher.name)
  elseif watcher.kind == "shadow" then
    return keys.shadow_state(ns, watcher.of_kind, watcher.of)
  end
  return keys.definition_state(ns, watcher.name)
end
M.state_key = state_key

-- A sticky one (a definition whose deadband is all it remembers) says also while it is unknown on which side it was.
local TRUTH = { ["1"] = true, ["0"] = false }
local ON = { ["1"] = true, ["+"] = true }
-- Neither true nor false, and not active: as one that was never looked at.
local UNSEEN = { ["?0"] = true, ["-0"] = true }

--- What a watcher's condition says and whether it is active, as they are kept.
function M.texts(watcher)
  local truth = watcher.truth
  if truth == nil then
    truth = (not watcher.sticky and "?") or (watcher.only.on and "+" or "-")
  else
    truth = truth and "1" or "0"
  end
  return truth, watcher.active and "1" or "0"
end

--- Keep what a watcher's condition says and whether it is active. Those of all definitions are one hash, so that a
-- storm writes one command a call.
function M.keep(ns, watcher)
  local truth, active = M.texts(watcher)
  if watcher.kind == "alarm" then
    local text = truth .. active
    writes.field(keys.conditions(ns), watcher.name, not UNSEEN[text] and text)
  else
    redis.call("HSET", watcher.state, "truth", truth, "active", active)
  end
end

--- Forget what M.keep and others kept of a watcher.
function M.forget(ns, watcher)
  redis.call("DEL", state_key(ns, watcher))
  if watcher.kind == "alarm" then
    writes.field(keys.conditions(ns), watcher.name, false)
  end
end

-- How a definition's condition was left; what this call has changed of it may not be written yet.
local function condition_of(ns, name)
  writes.flush()
  local truth, active = string.match(redis.call("HGET", keys.conditions(ns), name) or "", "^(.)(.)$")
  return truth, active
end

--- A watcher's truth changed: what its points keep of it for speed is made again.
function M.cool(watcher)
  if watcher.bare and not watcher.sticky then
    return slots.say(watcher.only, watcher.truth)
  end
  for i = 1, #watcher.leaves do
    slots.cool(watcher.leaves[i])
  end
end

--- Read how a watcher was left.
function M.load(ns, watcher)
  local found = redis.call("HGETALL", state_key(ns, watcher))
  local state = {}
  for i = 1, #found, 2 do
    state[found[i]] = found[i + 1]
  end
  if watcher.kind == "alarm" then
    state.truth, state.active = condition_of(ns, watcher.name)
  end
  watcher.truth = TRUTH[state.truth or "?"]
  watcher.unseen = true
  M.cool(watcher)
  watcher.active = state.active == "1"
  watcher.fired_ms = tonumber(state.fired_ms)
  watcher.count = tonumber(state.count or 0)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    local on, held, since, elapsed = string.match(state["leaf:" .. i] or "", "^(%d)|(%d)|(%d*)|(%d*)$")
    leaf.on, leaf.held = on == "1", held == "1"
    leaf.since, leaf.elapsed = tonumber(since), tonumber(elapsed) or 0
    -- "?" is of a time when it was none.
    if watcher.sticky and state.truth ~= "?" then
      leaf.on = ON[state.truth] or false
    end
    if leaf.measure then
      measures.load(leaf, state, i)
    end
  end
end

--- The points of a watcher are read: what its leaves compare with next time.
function M.wire(watcher)
  if watcher.measured then
    for i = 1, #watcher.leaves do
      measures.wire(watcher.leaves[i])
    end
  end
end

--- Find what a leaf looks at, without watching it.
function M.look_up(graph, leaf)
  leaf.slot = leaf.special and specials.slot(graph, leaf) or slots.resolve(graph, leaf.source)
  if type(leaf.value) == "table" and leaf.value.source then
    leaf.other = slots.resolve(graph, leaf.value.source)
  end
end

local function detach(leaf, slot)
  slot.hot = nil
  local leaves = slot.leaves or {}
  for i = #leaves, 1, -1 do
    if leaves[i] == leaf then
      table.remove(leaves, i)
    end
  end
end

local function attach(graph, leaf)
  M.look_up(graph, leaf)
  leaf.slot.leaves = leaf.slot.leaves or {}
  leaf.slot.hot = nil
  table.insert(leaf.slot.leaves, leaf)
  if leaf.special then
    specials.attached(graph, leaf)
  end
  if type(leaf.value) == "table" and leaf.value.source then
    leaf.other.leaves = leaf.other.leaves or {}
    leaf.other.hot = nil
    table.insert(leaf.other.leaves, leaf)
  end
end

-- How the hot path looks at a leaf (core/engine.lua); nil where the tree is walked.
local function way_of(leaf)
  if leaf.code then
    return type(leaf.value) == "number" and leaf.code or nil
  elseif leaf.operator == "between" then
    return slots.BETWEEN
  elseif leaf.measure == "stuck" or leaf.operator == "no_data" then
    return slots.QUIET
  end
  return leaf.operator == "quality" and string.find(leaf.value, "^bad") and slots.QUIET or nil
end

-- What a watcher is on the hot path (core/engine.lua).
local function shape(watcher)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    leaf.watcher = watcher
    leaf.simple = not watcher.last_good and way_of(leaf) or nil
    leaf.timer = watcher.id .. "#" .. i
  end
  -- One leaf needs no tree walk.
  local only, kind = #watcher.leaves == 1 and watcher.leaves[1], watcher.kind
  only = only and (watcher.root == only or (watcher.root.kind ~= "not" and watcher.root[1] == only)) and only or nil
  watcher.only = only
  -- Of one that compares, and remembers nothing but the side of its deadband, the hot path knows what it says.
  local compares = only and only.simple and only.simple ~= slots.QUIET and not only.for_ms
  watcher.sticky = compares and only.hysteresis and kind == "alarm"
  watcher.bare = compares and (watcher.sticky or not only.hysteresis)
  -- There is nothing to tell of its transitions but its point.
  watcher.plain = kind ~= "rule" and kind ~= "shadow" and not (watcher.template and watcher.template.points)
end

--- Put a compiled watcher in, in place of the one of that kind and name.
function M.put(graph, watcher)
  M.drop(graph, watcher.kind, watcher.name)
  watcher.id = watcher.kind .. ":" .. watcher.name
  watcher.state = state_key(graph.ns, watcher)
  -- The higher priority first, and by id; a text that sorts so (priorities go to 2,000,000).
  watcher.rank = string.format("%012.4f", 3000000 - watcher.priority) .. watcher.id
  graph.watchers[watcher.id] = watcher
  indexes.note(graph, watcher, true)
  shape(watcher)
  M.load(graph.ns, watcher)
  if not watcher.enabled then
    return
  end
  for i = 1, #watcher.leaves do
    attach(graph, watcher.leaves[i])
    watcher.measured = watcher.measured or watcher.leaves[i].measure == "change"
  end
  specials.load_fresh(graph)
  if not graph.building then
    M.wire(watcher)
  end
end

--- Take a watcher out.
function M.drop(graph, kind, name)
  local watcher = graph.watchers[kind .. ":" .. name]
  if not watcher then
    return nil
  end
  graph.watchers[watcher.id] = nil
  indexes.note(graph, watcher, nil)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if leaf.slot then
      detach(leaf, leaf.slot)
    end
    if leaf.other then
      detach(leaf, leaf.other)
    end
  end
  return watcher
end

--- Look up anew what a watcher watches: a model's point is another one now. The slots of one that is off were only
-- looked up for a reader.
function M.rewire(graph, watcher)
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    if watcher.enabled then
      detach(leaf, leaf.slot)
      if leaf.other then
        detach(leaf, leaf.other)
      end
      attach(graph, leaf)
    else
      leaf.slot, leaf.other = nil, nil
    end
  end
end

return M
