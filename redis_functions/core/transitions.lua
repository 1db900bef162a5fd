-- Watchers (rules, alarm definitions) that turn: the memory of their leaves, their state, and what they do.
local alarms = require("alarmsrv.alarms")
local conditions = require("core.conditions")
local graphs = require("core.graph")
local keys = require("lib.keys")
local actions = require("rulesrv.actions")
local timers = require("core.timers")

local M = {}

-- Past this many transitions a call only changes states; journal and actions drain by tick.
M.TRANSITIONS = 20

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

--- Transitions past the budget go to the list in one command a thousand.
function M.push_waiting(ctx)
  local waiting = ctx.waiting
  if not waiting then
    return
  end
  ctx.waiting = nil
  for start = 1, #waiting, 1000 do
    redis.call("RPUSH", keys.deferred(ctx.ns), unpack(waiting, start, math.min(start + 999, #waiting)))
  end
end

--- Evaluate one watcher at an instant; M.push_waiting follows.
function M.follow(ctx, watcher, at)
  local truth = conditions.evaluate(watcher.root, function(leaf)
    return truth_of(ctx, leaf, at)
  end)
  if truth ~= watcher.truth then
    set_truth(ctx, watcher, truth, at)
  end
end

--- Evaluate one watcher at an instant.
function M.evaluate(ctx, watcher, at)
  M.follow(ctx, watcher, at)
  M.push_waiting(ctx)
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
