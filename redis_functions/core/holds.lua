-- What a condition remembers: its side of a deadband, and since when it holds.
local conditions = require("core.conditions")
local measures = require("core.measures")
local slots = require("core.slots")
local timers = require("core.timers")

local M = {}

local function leaf_field(leaf)
  return (leaf.on and "1" or "0") .. "|" .. (leaf.held and "1" or "0") .. "|"
    .. (leaf.since and string.format("%.0f", leaf.since) or "") .. "|"
    .. (leaf.elapsed and string.format("%.0f", leaf.elapsed) or "")
end

--- Keep what a leaf remembers.
function M.keep(leaf)
  slots.cool(leaf)
  if leaf.watcher.sticky then
    -- Its condition says the same, and is kept (core/wiring.lua).
    return
  end
  redis.call("HSET", leaf.watcher.state, "leaf:" .. leaf.index, leaf_field(leaf))
end

-- What a leaf is compared with is a new one since its hold began. An instant from the future is of before the clock
-- was set back.
local function is_new(ctx, leaf)
  local came = leaf.other.at
  return came ~= nil and came > leaf.since and came <= ctx.now
end

-- An alarm that stands goes on standing: what comes back within its off-delay waits for nothing, unless it is about a
-- new command.
local function resumes(ctx, leaf)
  local watcher = leaf.watcher
  if not (watcher.active and watcher.off_ms) then
    return false
  end
  local due = leaf.restarts and timers.due_at(ctx.ns, "off", watcher.id)
  local came = due and leaf.other.at
  return not (came and came > due - watcher.off_ms and came <= ctx.now)
end

local function hold(ctx, leaf, raw, at)
  local timer = leaf.timer
  if raw == true then
    if leaf.held then
      return true
    elseif not leaf.since and resumes(ctx, leaf) then
      leaf.held, leaf.elapsed = true, 0
      M.keep(leaf)
      return true
    elseif leaf.since then
      if not (leaf.restarts and is_new(ctx, leaf)) then
        return false
      end
      leaf.elapsed = 0
    end
    -- Also a hold that is over by now ends by its timer, so that it fires at its due instant and
    -- in order with everything else that is due.
    leaf.since = math.min(at, ctx.now)
    timers.set(ctx.ns, leaf.since - leaf.elapsed + leaf.for_ms, "hold", timer)
    M.keep(leaf)
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
    M.keep(leaf)
  end
  return raw
end

--- What a leaf says now; what it remembers, it remembers from here on.
function M.truth(ctx, leaf, at)
  local raw
  if leaf.measure then
    raw = measures.raw(ctx, leaf, at)
  else
    raw = conditions.raw(leaf, leaf.watcher.last_good)
  end
  if leaf.hysteresis and raw ~= nil and raw ~= (leaf.on or false) then
    leaf.on = raw
    M.keep(leaf)
  end
  if leaf.for_ms then
    return hold(ctx, leaf, raw, at)
  end
  return raw
end

--- The machine's clock was set back: a hold that runs began as much earlier as its timer ends.
function M.stepped(ctx, step)
  for _, watcher in pairs(ctx.graph.watchers) do
    for i = 1, watcher.enabled and #watcher.leaves or 0 do
      local leaf = watcher.leaves[i]
      if leaf.since and not leaf.held then
        leaf.since = leaf.since + step
        M.keep(leaf)
      end
    end
  end
end

return M
