-- Why a rule is as it is: what each condition says, what is missing, when a hold would end, what its actions would come
-- to. Nothing is written; with simulated values the rest of the site stays as it is.
local branches = require("rulesrv.branch")
local conditions = require("core.conditions")
local effects = require("rulesrv.effects")
local json = require("lib.json")
local known = require("core.known")
local measures = require("core.measures")
local numbers = require("lib.numbers")
local specials = require("core.specials")
local timers = require("core.timers")
local transitions = require("core.transitions")

local M = {}

local function truth_json(truth)
  return truth == nil and "null" or tostring(truth)
end
M.truth_json = truth_json

-- ---------------------------------------------------------------- what a leaf says

-- A slot with a simulated value, as good as can be.
local function given(value)
  return { value = value, text = type(value) == "string" and json.text(value) or numbers.format(value), simulated = true }
end

local function slot_of(look, leaf)
  local value = look.values[leaf.source]
  if leaf.window then
    local open, again, missing = specials.look(look.graph, leaf.window, look.at)
    local slot = open ~= nil and given(open and 1 or 0) or { quality = "bad:no_time_table" }
    slot.again, slot.missing, slot.simulated = again, missing, look.simulated or nil
    return slot
  elseif value ~= nil and not (leaf.aggregate and leaf.aggregate.of == "count") then
    -- An aggregate is taken as if its point had had the value all through its window.
    return given(value)
  end
  return leaf.slot
end

local function say(look, leaf)
  local other = leaf.other
  if other and look.values[leaf.value.source] ~= nil then
    other = given(look.values[leaf.value.source])
  end
  local slot = slot_of(look, leaf)
  local probe = setmetatable({ slot = slot, other = other }, { __index = leaf })
  local raw
  if leaf.measure then
    raw = measures.peek(probe, look.at, slot.simulated)
  else
    raw = conditions.raw(probe, look.last_good)
  end
  local truth = raw
  if leaf.for_ms and raw == true and not look.simulated then
    truth = leaf.held == true
  end
  return { slot = slot, other = other, raw = raw, truth = truth }
end

--- Look at every condition of a rule. `values` are simulated ones by reference, `at` the instant of the look.
function M.look(graph, watcher, values, at)
  local look = {
    graph = graph, watcher = watcher, values = values, at = at or specials.last_now(graph), said = {},
    last_good = watcher.last_good, simulated = at ~= nil or next(values) ~= nil,
  }
  for i = 1, #watcher.leaves do
    look.said[i] = say(look, watcher.leaves[i])
  end
  look.truth = branches.truth(watcher.root, function(leaf)
    return look.said[leaf.index].truth
  end)
  return look
end

-- ---------------------------------------------------------------- what is missing

-- Why a point's value can't be used, and whether that is because there is no such point.
local function why_point(graph, ref, slot)
  if slot.value == nil then
    local gone = known.missing(graph, ref)
    return gone or "it has no value yet", gone ~= nil
  elseif slot.quality then
    return "it is " .. slot.quality
  end
  return nil
end

-- What keeps a condition from being known, or nil; and whether what it asks for does not exist.
local function missing(look, leaf, said)
  local slot = said.slot
  if said.raw ~= nil then
    return nil
  elseif leaf.window then
    return slot.missing
  elseif leaf.state == "rule" and slot.value == nil then
    return known.missing(look.graph, leaf.source), true
  elseif leaf.state then
    return "the condition behind it is unknown"
  elseif slot.quality == "uncertain:window" then
    return string.format("less than %.0f %% of its window was good", 100 * leaf.aggregate.coverage)
  end
  local ref = slot.ref ~= nil and not leaf.aggregate and slot.ref or leaf.source
  local reason, gone = why_point(look.graph, ref, slot)
  if not reason and said.other then
    reason, gone = why_point(look.graph, leaf.value.source, said.other)
    reason = leaf.value.source .. ": " .. (reason or "")
  end
  return reason, gone
end

-- ---------------------------------------------------------------- when it would end

local function hold_of(look, leaf, said)
  local id = look.watcher.id .. "#" .. leaf.index
  if leaf.for_ms and leaf.since and not leaf.held then
    local due = timers.due_at(look.graph.ns, "hold", id)
    return { "since_ms", json.integer(leaf.since), "until_ms", due and json.integer(due) or "null" }
  elseif leaf.for_ms and (leaf.elapsed or 0) > 0 and not leaf.held then
    return { "paused", "true", "left_ms", json.integer(leaf.for_ms - leaf.elapsed) }
  elseif leaf.measure and said.raw then
    local due = timers.due_at(look.graph.ns, "again", id)
    return due and { "until_ms", json.integer(due) } or nil
  elseif leaf.window and said.slot.again then
    return { "until_ms", json.integer(said.slot.again) }
  end
  return nil
end

-- ---------------------------------------------------------------- as JSON

local function leaf_members(look, leaf, said)
  local slot = said.slot
  local members = { "path", json.text(leaf.path) }
  local function add(name, text)
    if text then
      local last = #members
      members[last + 1], members[last + 2] = name, text
    end
  end
  if leaf.window then
    add("time", cjson.encode(leaf.said))
  else
    add("source", json.text(leaf.source))
    add("operator", json.text(leaf.operator))
    add("value", leaf.value ~= nil and cjson.encode(leaf.value))
    add("aggregate", leaf.aggregate and json.text(leaf.aggregate.of))
    add("window_ms", leaf.window_ms and json.integer(leaf.window_ms))
  end
  add("actual", slot.text or "null")
  add("quality", json.text(conditions.quality_of(slot)))
  add("at_ms", slot.at and json.integer(slot.at))
  if said.other then
    add("other", said.other.text or "null")
  end
  add("result", truth_json(said.truth))
  add("for_ms", leaf.for_ms and json.integer(leaf.for_ms))
  local reason, gone = missing(look, leaf, said)
  add("missing", reason and json.text(reason))
  add("exists", gone and "false")
  local hold = not look.simulated and hold_of(look, leaf, said)
  if hold then
    add("hold", json.object(hold))
  end
  return members
end

local function tree(look, node)
  if node.kind == nil then
    return json.object(leaf_members(look, node, look.said[node.index]))
  end
  local below = {}
  for i = 1, #node do
    below[i] = tree(look, node[i])
  end
  local truth = branches.truth(node, function(leaf)
    return look.said[leaf.index].truth
  end)
  return json.object({
    "path", json.text(node.path), "kind", json.text(node.kind), "result", truth_json(truth), "conditions", json.list(below),
  })
end

local function decided_by(look)
  local found = branches.decided(look.watcher.root, function(leaf)
    return look.said[leaf.index].truth
  end)
  for i = 1, #found do
    found[i] = json.text(found[i])
  end
  return json.list(found)
end

--- What rule_evaluate answers.
function M.evaluation(look)
  local watcher, parts = look.watcher, {}
  for i = 1, #watcher.leaves do
    parts[i] = json.object(leaf_members(look, watcher.leaves[i], look.said[i]))
  end
  return json.object({
    "rule", json.text(watcher.name), "result", truth_json(look.truth), "active", watcher.active and "true" or "false",
    "enabled", watcher.enabled and "true" or "false", "seq", look.graph.image or "0", "decided_by", decided_by(look),
    "conditions", json.list(parts),
  })
end

local function why(look, cooldown, running)
  local watcher = look.watcher
  if not watcher.enabled then
    return "it is switched off"
  elseif watcher.active then
    return "it has fired, and is armed again when its conditions end"
      .. (look.truth == nil and "; for now they are unknown" or "")
  elseif look.truth == true then
    return cooldown and "its conditions hold; it fires when its cooldown ends" or "its conditions hold"
  elseif look.truth == nil then
    return "it can't decide: what decides is unknown"
  end
  return running and "a hold must end first" or "its conditions do not hold"
end

local function rehearsals(look)
  local watcher, parts = look.watcher, {}
  local slot = look.said[1].slot
  local _, good = transitions.inputs(watcher)
  local ctx = { ns = look.graph.ns, graph = look.graph, now = look.at }
  for i in ipairs(watcher.document.actions or {}) do
    parts[i] = effects.rehearse(ctx, watcher, i, { at = look.at, text = slot.text, quality = slot.quality, good = good })
  end
  return json.list(parts)
end

--- What rule_explain answers.
function M.explanation(look)
  local watcher, running = look.watcher, false
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    running = running or (leaf.for_ms and leaf.since and not leaf.held and look.said[i].raw == true) or false
  end
  local cooldown = watcher.cooldown_ms and timers.due_at(look.graph.ns, "cooldown", watcher.id)
  local version = watcher.document.version
  return json.object({
    "rule", json.text(watcher.name), "name", json.text(watcher.document.name),
    "enabled", watcher.enabled and "true" or "false", "active", watcher.active and "true" or "false",
    "result", truth_json(look.truth), "why", json.text(why(look, cooldown, running)), "decided_by", decided_by(look),
    "at_ms", json.integer(look.at), "seq", look.graph.image or "0", "version", version and json.integer(version) or false,
    "priority", json.integer(watcher.priority), "count", json.integer(watcher.count or 0),
    "fired_at_ms", watcher.fired_ms and watcher.fired_ms > 0 and json.integer(watcher.fired_ms) or "null",
    "cooldown_until_ms", cooldown and json.integer(cooldown) or "null",
    "conditions", tree(look, watcher.root), "actions", rehearsals(look),
  })
end

return M
