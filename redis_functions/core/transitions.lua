-- Watchers (rules, alarm definitions) that turn: their state, and what they do.
local alarms = require("alarmsrv.alarms")
local branches = require("rulesrv.branch")
local conditions = require("core.conditions")
local deferred = require("core.deferred")
local holds = require("core.holds")
local json = require("lib.json")
local numbers = require("lib.numbers")
local marks = require("alarmsrv.marks")
local specials = require("core.specials")
local actions = require("rulesrv.actions")
local shadow_log = require("core.shadow_log")
local slots = require("core.slots")
local templates = require("alarmsrv.templates")
local timers = require("core.timers")
local wiring = require("core.wiring")

local M = {}

local truth_of = holds.truth

-- So many rules may follow from each other in one call; the next one's actions are withheld.
M.DEPTH = 8

-- ---------------------------------------------------------------- transitions

local MAX_INPUTS = 32

-- A quality is words and underscores: it needs no escaping.
local function input_of(ref, leaf, slot, at)
  return '{"ref":"' .. ref .. '",' .. (leaf and leaf.aggregate and '"aggregate":"' .. leaf.aggregate.of .. '",' or "")
    .. '"value":' .. (slot.text or "null") .. ',"quality":"'
    .. conditions.quality_of(slot)
    .. '","at_ms":' .. (at and numbers.whole(at) or "null") .. "}"
end

--- What a watcher saw: [{ref, value, quality, at_ms}], as JSON, and whether all of it is good.
-- What is no point (a state, a window of time, an aggregate) is as it is at this moment.
function M.inputs(watcher, at)
  local parts, good = {}, true
  for i = 1, #watcher.leaves do
    local slot = watcher.leaves[i].slot
    local leaf = watcher.leaves[i]
    local other = leaf.other
    if slot.value == nil or slot.quality or (other and (other.value == nil or other.quality)) then
      good = false
    end
    if #parts < MAX_INPUTS then
      parts[#parts + 1] = input_of(leaf.source, leaf, slot, leaf.special and at or slot.at)
    end
    if other and #parts < MAX_INPUTS then
      parts[#parts + 1] = input_of(leaf.value.source, nil, other, other.at)
    end
  end
  return "[" .. table.concat(parts, ",") .. "]", good
end

-- `item` is the transition as it was when it happened: { on, at, text, quality }, of a rule with
-- { inputs, good }, of a definition whose message reads other points with { title }.
local function act(ctx, watcher, item)
  if watcher.kind == "rule" then
    if item.on then
      actions.fire(ctx, watcher, item)
    else
      actions.clear(ctx, watcher, item, M.seen_by)
    end
  elseif watcher.kind == "suppress" then
    if item.on then
      marks.hold(ctx, "suppressed", "alarm:" .. watcher.name, "condition", "condition", item.at)
    else
      marks.release(ctx, "suppressed", "alarm:" .. watcher.name, "condition", "condition", item.at)
    end
  elseif item.on then
    alarms.raise_definition(ctx, watcher, item)
  else
    alarms.condition_ended(ctx, watcher.id, item.at, item)
  end
end

local function keep_state(ctx, watcher, at)
  if watcher.kind ~= "rule" then
    return wiring.keep(ctx.ns, watcher)
  end
  local truth, active = wiring.texts(watcher)
  redis.call(
    "HSET", watcher.state, "truth", truth, "active", active, "since_ms", numbers.whole(at),
    "fired_ms", watcher.fired_ms and numbers.whole(watcher.fired_ms) or "0", "count", watcher.count or 0
  )
  specials.changed(ctx, watcher.id, at)
end

local function quoted(list)
  for i = 1, #list do
    list[i] = '"' .. list[i] .. '"'
  end
  return list
end

--- The moment as a rule sees it.
function M.seen_by(watcher, at)
  local slot = watcher.leaves[1].slot
  local inputs, good = M.inputs(watcher, at)
  return {
    at = at, text = slot.text, quality = slot.quality, inputs = inputs, good = good,
    branch = json.list(quoted(branches.paths(watcher, M.peek))),
  }
end

local function item_of(ctx, watcher, on, at)
  local slot = watcher.leaves[1].slot
  local item = { watcher = watcher.id, on = on, at = at, text = slot.text, quality = slot.quality }
  if watcher.kind == "rule" or watcher.kind == "shadow" then
    item.inputs, item.good = M.inputs(watcher, at)
    item.branch = json.list(quoted(branches.paths(watcher, M.peek)))
    if (ctx.depth or 0) >= M.DEPTH then
      item.stopped = "withheld: it follows from " .. M.DEPTH .. " rules one after the other"
    end
    item.depth = ctx.depth
  elseif on and watcher.template and watcher.template.points then
    item.title = templates.render(ctx, watcher, item)
  end
  return item
end

-- `slot` is the point of the only leaf, for one that is plain.
local function transition(ctx, watcher, on, at, slot)
  watcher.active = on
  if on and watcher.kind ~= "alarm" then
    watcher.fired_ms = at
    watcher.count = (watcher.count or 0) + 1
    if watcher.cooldown_ms then
      timers.set(ctx.ns, at + watcher.cooldown_ms, "cooldown", watcher.id)
    end
  end
  keep_state(ctx, watcher, at)
  local shadowed = ctx.graph.shadowed[watcher.id]
  local admitted
  if watcher.plain and not shadowed then
    admitted = deferred.admit(ctx)
    if not admitted then
      slot = slot or watcher.leaves[1].slot
      return deferred.wait_turned(ctx, watcher.id, on, at, slot.text, slot.quality)
    end
  end
  local item = item_of(ctx, watcher, on, at)
  if watcher.kind == "shadow" then
    return shadow_log.note(ctx, watcher, item)
  elseif shadowed then
    shadow_log.note(ctx, watcher, {
      on = on, at = at, inputs = item.inputs or (M.inputs(watcher, at)), text = item.text, quality = item.quality, good = item.good,
    })
  end
  if admitted or deferred.admit(ctx) then
    act(ctx, watcher, item)
  else
    deferred.wait(ctx, item)
  end
end

-- While a condition is unknown, what it raised is marked so.
local function mark_uncertain(ctx, watcher, uncertain, at)
  if deferred.admit(ctx) then
    actions.mark_uncertain(ctx, watcher, uncertain, at)
  else
    deferred.wait(ctx, { watcher = watcher.id, uncertain = uncertain, at = at })
  end
end

-- The truth of a watcher is another than `before`.
local function turned(ctx, watcher, before, at, slot)
  local truth = watcher.truth
  if watcher.active and (truth == nil) ~= (before == nil) and watcher.kind ~= "shadow" then
    mark_uncertain(ctx, watcher, truth == nil, at)
  end
  if truth == true then
    if watcher.active then
      timers.cancel(ctx.ns, "off", watcher.id)
    elseif not (watcher.cooldown_ms and timers.due_at(ctx.ns, "cooldown", watcher.id)) then
      return transition(ctx, watcher, true, at, slot)
    end
  elseif truth == false and watcher.active then
    if watcher.off_ms then
      timers.set(ctx.ns, at + watcher.off_ms, "off", watcher.id)
    else
      return transition(ctx, watcher, false, at, slot)
    end
  elseif truth == nil and watcher.off_ms then
    timers.cancel(ctx.ns, "off", watcher.id)
  end
  wiring.keep(ctx.ns, watcher)
  if watcher.active and watcher.kind == "rule" then
    specials.changed(ctx, watcher.id, at)
  end
end

-- The truth of a tree. Every leaf is asked, so that each hold runs.
local function walk(ctx, node, at)
  local kind = node.kind
  if kind == nil then
    local truth = truth_of(ctx, node, at)
    if truth ~= node.truth then
      node.truth = truth
      slots.cool(node)
    end
    return truth
  elseif kind == "not" then
    local truth = walk(ctx, node[1], at)
    if truth == nil then
      return nil
    end
    return not truth
  end
  local decisive, decided, unknown = kind == "any", false, false
  for i = 1, #node do
    local truth = walk(ctx, node[i], at)
    if truth == nil then
      unknown = true
    elseif truth == decisive then
      decided = true
    end
  end
  if decided then
    return decisive
  elseif unknown then
    return nil
  end
  return not decisive
end

--- Evaluate one watcher at an instant; deferred.flush follows.
function M.follow(ctx, watcher, at)
  local truth
  if watcher.only then
    truth = truth_of(ctx, watcher.only, at)
  else
    if watcher.unseen then
      wiring.cool(watcher)
    end
    truth = walk(ctx, watcher.root, at)
  end
  watcher.unseen = nil
  local before = watcher.truth
  if truth ~= before then
    watcher.truth = truth
    wiring.cool(watcher)
    turned(ctx, watcher, before, at)
  end
  if watcher.pulsed then
    -- A change is there for a moment only.
    watcher.pulsed = nil
    M.follow(ctx, watcher, at)
  end
end

--- Evaluate one watcher at an instant.
function M.evaluate(ctx, watcher, at)
  M.follow(ctx, watcher, at)
  deferred.flush(ctx)
end

-- ---------------------------------------------------------------- timers of watchers

--- A hold is over: the leaf counts as true from its due instant.
function M.hold_over(ctx, id, due)
  local watcher_id, index = string.match(id, "^(.*)#(%d+)$")
  local watcher = ctx.graph.watchers[watcher_id]
  local leaf = watcher and watcher.leaves[tonumber(index)]
  if leaf and leaf.since and watcher.enabled then
    leaf.held = true
    holds.keep(leaf)
    M.evaluate(ctx, watcher, due)
  end
end

--- What a leaf measures may be another by now.
function M.again(ctx, id, due)
  local watcher_id, index = string.match(id, "^(.*)#(%d+)$")
  local watcher = ctx.graph.watchers[watcher_id]
  local leaf = watcher and watcher.leaves[tonumber(index)]
  if leaf and leaf.measure and watcher.enabled then
    leaf.again = nil
    slots.cool(leaf)
    M.evaluate(ctx, watcher, due)
  end
end

--- An off-delay is over: the condition stayed false.
function M.off_over(ctx, id, due)
  local watcher = ctx.graph.watchers[id]
  if watcher and watcher.active and watcher.truth == false then
    transition(ctx, watcher, false, due)
  end
end

--- A cooldown is over: a condition that holds fires now.
function M.cooldown_over(ctx, id, due)
  local watcher = ctx.graph.watchers[id]
  if watcher and not watcher.active and watcher.truth == true then
    transition(ctx, watcher, true, due)
  end
end

-- What waited, as it was when it happened.
local function carry_out(ctx, item)
  if item.refresh then
    return marks.refresh_origin(ctx, item.refresh, item.kind, item.at, item.user, item.comment)
  end
  local watcher = ctx.graph.watchers[item.watcher]
  if not watcher then
    return
  elseif item.uncertain ~= nil then
    return actions.mark_uncertain(ctx, watcher, item.uncertain, item.at)
  end
  act(ctx, watcher, item)
end

--- Let the watchers follow that engine.settle found, in the order of their ranks. Where more may turn than may act in a
-- call, looking at them takes the time that their alarms would: those wait until all were looked at, and then for a tick
-- if they are too many still. Rules come before alarms, and act.
-- `found` has by rank { watcher }, or of a bare one { watcher, truth, slot }.
function M.follow_all(ctx, ranks, found, at)
  local storm = #ranks > deferred.TRANSITIONS
  for i = 1, #ranks do
    local one = found[ranks[i]]
    local watcher, truth, slot = one[1], one[2], one[3]
    if storm and not ctx.held_back then
      ctx.held_back = watcher.kind == "alarm"
    end
    if slot then
      local before = watcher.truth
      watcher.truth = truth
      turned(ctx, watcher, before, at, slot)
    else
      M.follow(ctx, watcher, at)
    end
  end
  local items = ctx.held_back and deferred.held_back(ctx)
  for i = 1, items and #items or 0 do
    if deferred.admit(ctx) then
      carry_out(ctx, items[i])
    else
      deferred.wait(ctx, items[i])
    end
  end
end

-- A command that waited needs its inputs good still.
local function look_again(ctx, item)
  local watcher = item.watcher and ctx.graph.watchers[item.watcher]
  if watcher and watcher.kind == "rule" and item.uncertain == nil then
    local _, good = M.inputs(watcher)
    item.good = item.good and good
  end
end

--- Carry out what waits, in order: what the timers of this call left of its budget. Returns how many.
function M.drain(ctx)
  local items, deepest = deferred.take(ctx.ns, math.min(deferred.A_TICK, deferred.TRANSITIONS - ctx.transitions)), 0
  -- What follows from what is carried out waits behind the rest.
  ctx.behind = true
  for i = 1, #items do
    local done, problem = pcall(function()
      look_again(ctx, items[i])
      carry_out(ctx, items[i])
    end)
    if not done then
      deferred.put_back(ctx.ns, items, i + 1)
      error(problem, 0)
    end
    deepest = math.max(deepest, items[i].depth or 0)
  end
  ctx.depth = deepest + 1
  return #items
end

return M
