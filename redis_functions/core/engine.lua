-- What follows from changed points, in one pass: calculated points, conditions, rules and alarms.
local alarms = require("alarmsrv.alarms")
local conditions = require("core.conditions")
local expression = require("core.expression")
local graphs = require("core.graph")
local history = require("core.history")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local publish = require("core.publish")
local actions = require("rulesrv.actions")
local timers = require("core.timers")

local M = {}

-- Past this many transitions a call only changes states; journal and actions drain by tick.
M.TRANSITIONS = 20
-- A circle of calculated points would never settle.
local MAX_CALCULATIONS = 2000

-- ---------------------------------------------------------------- calculated points

local function calculate(calc)
  return expression.evaluate(calc.program, function(i)
    local input = calc.inputs[i]
    if input.quality then
      return nil
    end
    return input.value
  end)
end

local function note_calculated(ctx, calc)
  local section = ctx.calculated[calc.ch]
  if not section then
    section = { T = { ids = {}, values = {}, quality = {} }, S = { ids = {}, values = {}, quality = {} } }
    ctx.calculated[calc.ch] = section
  end
  local slot = calc.slot
  local kind = section[slot.kind]
  if slot.quality then
    kind.quality[slot.id] = slot.quality
  else
    kind.ids[#kind.ids + 1] = slot.id
    kind.values[#kind.values + 1] = slot.text
  end
end

local function run_calculations(ctx, at)
  local position, done = 1, 0
  while position <= #ctx.touched do
    local calcs = ctx.touched[position].calcs
    position = position + 1
    for i = 1, calcs and #calcs or 0 do
      local calc = calcs[i]
      local value, reason = calculate(calc)
      local text = value and numbers.format(value)
      local quality = not value and ("bad:" .. reason) or nil
      local slot = calc.slot
      done = done + 1
      if done <= MAX_CALCULATIONS and (quality ~= slot.quality or (text and text ~= slot.text)) then
        slot.quality = quality
        if text then
          slot.value, slot.text = tonumber(text), text
        end
        slot.at = at
        note_calculated(ctx, calc)
        ctx.touched[#ctx.touched + 1] = slot
      end
    end
  end
end

--- Calculate all of a channel's points again: its definition or its lease is new.
function M.recalculate(ctx, ch)
  for _, calc in pairs(ctx.graph.calcs["comsrv:" .. ch] or {}) do
    -- One without an input is reached as its own.
    ctx.touched[#ctx.touched + 1] = calc.inputs[1] or { calcs = { calc } }
  end
end

local function store_section(ctx, ch, kind, section, at)
  local at_text = string.format("%.0f", at)
  local base = "comsrv:" .. ch .. ":" .. kind
  local values, instants = {}, {}
  for i = 1, #section.ids do
    values[2 * i - 1], values[2 * i] = section.ids[i], section.values[i]
    instants[2 * i - 1], instants[2 * i] = section.ids[i], at_text
  end
  if #values > 0 then
    redis.call("HSET", ctx.ns .. base, unpack(values))
    redis.call("HSET", ctx.ns .. base .. ":ts", unpack(instants))
    redis.call("HDEL", ctx.ns .. base .. ":q", unpack(section.ids))
  end
  for id, quality in pairs(section.quality) do
    redis.call("HSET", ctx.ns .. base .. ":q", id, quality)
    redis.call("HSET", ctx.ns .. base .. ":ts", id, at_text)
  end
end

local function section_json(kind, section)
  return '{"type":"' .. kind .. '","ids":' .. (#section.ids > 0 and cjson.encode(section.ids) or "[]")
    .. ',"values":' .. (#section.values > 0 and cjson.encode(section.values) or "[]")
    .. ',"quality":' .. cjson.encode(section.quality) .. "}"
end

--- Write, publish and queue sections that were made here (calculated points, staleness).
function M.store_sections(ctx, ch, sections, at)
  local parts, samples = {}, 0
  for _, kind in ipairs({ "T", "S", "C", "A" }) do
    local section = sections[kind]
    if section and (#section.ids > 0 or next(section.quality)) then
      store_section(ctx, ch, kind, section, at)
      publish.channel(ctx, ch, kind, at, publish.members(section.ids, section.values, section.quality))
      if kind == "T" or kind == "S" then
        samples = samples + #section.ids
        for _ in pairs(section.quality) do
          samples = samples + 1
        end
        parts[#parts + 1] = section_json(kind, section)
      end
    end
  end
  if samples > 0 then
    history.append(
      ctx, ch,
      '{"channel":' .. ch .. ',"origin":"event","at_ms":' .. string.format("%.0f", at) .. ',"sections":['
        .. table.concat(parts, ",") .. "]}",
      samples
    )
  end
end

-- ---------------------------------------------------------------- leaves with memory

local function leaf_field(leaf)
  return (leaf.on and "1" or "0") .. "|" .. (leaf.held and "1" or "0") .. "|"
    .. (leaf.since and string.format("%.0f", leaf.since) or "") .. "|"
    .. (leaf.elapsed and string.format("%.0f", leaf.elapsed) or "")
end

local function keep_leaf(ctx, leaf)
  redis.call("HSET", graphs.state_key(ctx.ns, leaf.watcher), "leaf:" .. leaf.index, leaf_field(leaf))
end

local function hold(ctx, leaf, raw, at)
  local timer = leaf.watcher.id .. "#" .. leaf.index
  if raw == true then
    if leaf.held or leaf.since then
      return leaf.held
    end
    -- Also a hold that is over by now ends by its timer, so that it fires at its due instant and
    -- in order with everything else that is due.
    leaf.since = math.min(at, ctx.now)
    timers.set(ctx.ns, leaf.since - leaf.elapsed + leaf.for_ms, "hold", timer)
    keep_leaf(ctx, leaf)
    return false
  end
  if leaf.since or leaf.held or leaf.elapsed ~= 0 then
    if raw == nil then
      -- Unknown pauses: what has been held counts on when the point is good again.
      if leaf.held or not leaf.since then
        return nil
      end
      -- The timer knows what is left, also where the clock was set back meanwhile.
      local due = timers.due_at(ctx.ns, "hold", timer) or at
      leaf.elapsed = math.max(leaf.elapsed, leaf.for_ms - math.max(0, due - at))
    else
      leaf.held, leaf.elapsed = false, 0
    end
    leaf.since = nil
    timers.cancel(ctx.ns, "hold", timer)
    keep_leaf(ctx, leaf)
  end
  return raw
end

local function truth_of(ctx, leaf, at)
  local raw = conditions.raw(leaf, leaf.watcher.last_good)
  if leaf.hysteresis and raw ~= nil and raw ~= (leaf.on or false) then
    leaf.on = raw
    keep_leaf(ctx, leaf)
  end
  if leaf.for_ms then
    return hold(ctx, leaf, raw, at)
  end
  return raw
end

-- ---------------------------------------------------------------- transitions

local MAX_INPUTS = 16

--- What a watcher saw: [{ref, value, quality, at_ms}], as JSON, and whether all of it is good.
function M.inputs(watcher)
  local parts, good = {}, true
  for i = 1, #watcher.leaves do
    local slot = watcher.leaves[i].slot
    if slot.value == nil or slot.quality then
      good = false
    end
    if i <= MAX_INPUTS then
      -- A quality is words and underscores: it needs no escaping.
      parts[i] = '{"ref":"' .. watcher.leaves[i].source .. '","value":' .. (slot.text or "null") .. ',"quality":"'
        .. (slot.quality or (slot.value ~= nil and "good") or "missing")
        .. '","at_ms":' .. (slot.at and string.format("%.0f", slot.at) or "null") .. "}"
    end
  end
  return "[" .. table.concat(parts, ",") .. "]", good
end

-- `item` is the transition as it was when it happened: { on, at, inputs, good, text, quality }.
local function act(ctx, watcher, item)
  if watcher.kind == "rule" then
    if item.on then
      actions.fire(ctx, watcher, item)
    else
      actions.clear(ctx, watcher, item)
    end
  elseif item.on then
    alarms.raise_definition(ctx, watcher, item)
  else
    alarms.condition_ended(ctx, watcher.id, item.at)
  end
end

local function truth_text(truth)
  return truth == nil and "?" or (truth and "1" or "0")
end

local function transition(ctx, watcher, on, at)
  watcher.active = on
  local inputs, good = M.inputs(watcher)
  if on then
    watcher.fired_ms = at
    watcher.count = (watcher.count or 0) + 1
    if watcher.cooldown_ms then
      timers.set(ctx.ns, at + watcher.cooldown_ms, "cooldown", watcher.id)
    end
  end
  redis.call(
    "HSET", graphs.state_key(ctx.ns, watcher), "truth", truth_text(watcher.truth), "active", on and "1" or "0",
    "since_ms", string.format("%.0f", at), "fired_ms", string.format("%.0f", watcher.fired_ms or 0), "count", watcher.count or 0
  )
  local slot = watcher.leaves[1].slot
  local item = {
    watcher = watcher.id, on = on, at = at, inputs = inputs, good = good, text = slot.text, quality = slot.quality,
  }
  if ctx.behind == nil then
    ctx.behind = redis.call("EXISTS", keys.deferred(ctx.ns)) == 1
  end
  ctx.transitions = ctx.transitions + 1
  if ctx.transitions > M.TRANSITIONS or ctx.behind then
    -- Order is kept: once something waits, all that follows waits behind it.
    ctx.behind = true
    ctx.waiting = ctx.waiting or {}
    ctx.waiting[#ctx.waiting + 1] = cjson.encode(item)
    return
  end
  act(ctx, watcher, item)
end

local function set_truth(ctx, watcher, truth, at)
  local before = watcher.truth
  watcher.truth = truth
  graphs.cool(watcher)
  if watcher.active and (truth == nil) ~= (before == nil) then
    actions.mark_uncertain(ctx, watcher, truth == nil)
  end
  if truth == true then
    if watcher.active then
      timers.cancel(ctx.ns, "off", watcher.id)
    elseif not (watcher.cooldown_ms and timers.due_at(ctx.ns, "cooldown", watcher.id)) then
      return transition(ctx, watcher, true, at)
    end
  elseif truth == false and watcher.active then
    if watcher.off_ms then
      timers.set(ctx.ns, at + watcher.off_ms, "off", watcher.id)
    else
      return transition(ctx, watcher, false, at)
    end
  elseif truth == nil and watcher.off_ms then
    timers.cancel(ctx.ns, "off", watcher.id)
  end
  redis.call("HSET", graphs.state_key(ctx.ns, watcher), "truth", truth_text(truth))
end

-- Transitions past the budget go to the list in one command a thousand.
local function push_waiting(ctx)
  local waiting = ctx.waiting
  if not waiting then
    return
  end
  ctx.waiting = nil
  for start = 1, #waiting, 1000 do
    redis.call("RPUSH", keys.deferred(ctx.ns), unpack(waiting, start, math.min(start + 999, #waiting)))
  end
end

local function evaluate(ctx, watcher, at)
  local truth = conditions.evaluate(watcher.root, function(leaf)
    return truth_of(ctx, leaf, at)
  end)
  if truth ~= watcher.truth then
    set_truth(ctx, watcher, truth, at)
  end
end

--- Evaluate one watcher at an instant.
function M.evaluate(ctx, watcher, at)
  evaluate(ctx, watcher, at)
  push_waiting(ctx)
end

local function by_priority(a, b)
  if a.priority ~= b.priority then
    return a.priority > b.priority
  end
  return a.id < b.id
end

local compare = conditions.compare

local UNKNOWN = 2

-- The plain comparisons of a slot side by side, three numbers a leaf: operator (0 where the tree
-- must be walked), limit, last truth. With thousands of rules their tables lie all over the memory,
-- and looking into each costs more than comparing.
local function heat(slot)
  local hot = {}
  for i = 1, #slot.leaves do
    local leaf, k = slot.leaves[i], 3 * i
    local truth = leaf.watcher.truth
    hot[k - 2] = leaf.simple or 0
    hot[k - 1] = leaf.simple and leaf.value or 0
    hot[k] = (truth == nil and UNKNOWN) or (truth and 1 or 0)
  end
  slot.hot = hot
  return hot
end

local function is_stale(code, value, known, limit, truth)
  if code == 0 then
    return true
  elseif not known then
    return truth ~= UNKNOWN
  end
  return (compare(code, value, limit) and 1 or 0) ~= truth
end

local function gather_dirty(ctx)
  local dirty, seen = {}, {}
  local touched = ctx.touched
  for i = 1, #touched do
    local slot = touched[i]
    local leaves = slot.leaves
    if leaves then
      local hot = slot.hot or heat(slot)
      local value = slot.value
      local known = value ~= nil and not slot.quality
      for j = 1, #leaves do
        local k = 3 * j
        local code = hot[k - 2]
        local stale
        -- The commonest operators are written out: this is the innermost loop.
        if known and code == 1 then
          stale = (value > hot[k - 1] and 1 or 0) ~= hot[k]
        elseif known and code == 3 then
          stale = (value < hot[k - 1] and 1 or 0) ~= hot[k]
        else
          stale = is_stale(code, value, known, hot[k - 1], hot[k])
        end
        if stale then
          local watcher = leaves[j].watcher
          if not seen[watcher] then
            seen[watcher] = true
            dirty[#dirty + 1] = watcher
          end
        end
      end
    end
    if slot.targets then
      publish.gather(ctx, slot)
    end
  end
  return dirty
end

--- Let everything follow from the slots in ctx.touched, at one instant.
function M.settle(ctx, at)
  run_calculations(ctx, at)
  local dirty = gather_dirty(ctx)
  ctx.touched = {}
  for ch, sections in pairs(ctx.calculated) do
    M.store_sections(ctx, ch, sections, at)
  end
  ctx.calculated = {}
  publish.models(ctx, at)
  if #dirty > 1 then
    table.sort(dirty, by_priority)
  end
  for i = 1, #dirty do
    evaluate(ctx, dirty[i], at)
  end
  push_waiting(ctx)
end

local function evaluate_leaves(ctx, slot, at)
  local seen, watchers = {}, {}
  for i = 1, #slot.leaves do
    local watcher = slot.leaves[i].watcher
    if not seen[watcher] then
      seen[watcher] = true
      watchers[#watchers + 1] = watcher
    end
  end
  table.sort(watchers, by_priority)
  for i = 1, #watchers do
    evaluate(ctx, watchers[i], at)
  end
end

--- Let the rules see an event that is older than the image, and then the image again.
function M.glimpse(ctx, slot, text, quality, at)
  if not slot or not slot.leaves then
    return
  end
  local image = { value = slot.value, text = slot.text, quality = slot.quality, at = slot.at }
  slot.value, slot.text, slot.quality, slot.at = tonumber(text), text, quality, at
  evaluate_leaves(ctx, slot, at)
  slot.value, slot.text, slot.quality, slot.at = image.value, image.text, image.quality, image.at
  evaluate_leaves(ctx, slot, image.at)
  push_waiting(ctx)
end

-- ---------------------------------------------------------------- timers of watchers

--- A hold is over: the leaf counts as true from its due instant.
function M.hold_over(ctx, id, due)
  local watcher_id, index = string.match(id, "^(.*)#(%d+)$")
  local watcher = ctx.graph.watchers[watcher_id]
  local leaf = watcher and watcher.leaves[tonumber(index)]
  if leaf and leaf.since and watcher.enabled then
    leaf.held = true
    keep_leaf(ctx, leaf)
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

--- Carry out what waits, in order, at most a call's budget. Returns how many.
function M.drain(ctx)
  local done = 0
  while done < M.TRANSITIONS do
    local text = redis.call("LPOP", keys.deferred(ctx.ns))
    if not text then
      break
    end
    local item = cjson.decode(text)
    local watcher = ctx.graph.watchers[item.watcher]
    if watcher then
      -- A command that waited needs its inputs good still.
      local _, good = M.inputs(watcher)
      item.good = item.good and good
      act(ctx, watcher, item)
    end
    done = done + 1
  end
  return done
end

return M
