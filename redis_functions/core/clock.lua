-- Time is an argument: in a namespace now = max(now given, last now).
local args = require("lib.args")
local errors = require("lib.errors")
local keys = require("lib.keys")
local replay = require("core.replay")
local streams = require("lib.streams")
local timers = require("core.timers")

local M = {}

-- A caller may be this far ahead of Redis, and behind by this much before it counts as a step.
M.TOLERANCE_MS = 2000
-- A namespace is called every 100 ms; without a call for this long nothing ran, or the clock went ahead.
M.GAP_MS = 60000

-- The machine's clock went back: the timers go with it. Returns the step.
local function step_back(ns, server, last)
  local step = server - last
  timers.shift(ns, step)
  streams.event(ns, server, "clock_step", string.format("%.0f ms", step))
  redis.call("HINCRBY", keys.clock(ns), "steps", 1)
  redis.call("HSET", keys.clock(ns), "last", string.format("%.0f", server))
  return step
end

-- In a replay time is what it was.
local function again(ns, replayed)
  local step = replayed.facts.step
  if step then
    timers.shift(ns, step)
  end
  redis.call("HSET", keys.clock(ns), "last", string.format("%.0f", replayed.at))
  return replayed.at, step
end

--- The instant of a call that does not advance the clock: the caller's, the simulation's, or Redis' own.
function M.instant(ns, given)
  if replay.replayed() then
    return args.server_ms()
  elseif given ~= nil then
    return replay.noted(args.now(given))
  end
  local stored = redis.call("HMGET", keys.clock(ns), "last", "simulation")
  return stored[2] == "1" and replay.noted(tonumber(stored[1])) or args.server_ms()
end

--- Advance the namespace's clock. Returns its instant, and the step when the clock was set back.
-- When Redis' own clock went back too, it was a step of the machine's clock: the timers move with
-- it, so that delays keep what was left of them, nothing freezes and nothing fires twice. A clock
-- that went ahead can't be told from a time without calls: what is due fires, once.
function M.advance(ns, given)
  local replayed = replay.replayed()
  if replayed then
    return again(ns, replayed)
  end
  local server = replay.clock_ms()
  local stored = redis.call("HMGET", keys.clock(ns), "last", "simulation")
  local last = tonumber(stored[1] or 0)
  local simulation = stored[2] == "1"
  -- In a simulation time passes only by what callers say.
  local now = given or (simulation and last > 0 and last) or server
  if not simulation and now > server + M.TOLERANCE_MS then
    errors.fail("INVALID", string.format("now_ms is %.0f ms ahead of Redis' clock", now - server))
  end
  local step
  if not simulation and last > server + M.TOLERANCE_MS then
    step = replay.fact("step", function() return step_back(ns, server, last) end)
    last = server
  elseif not simulation and last > 0 and now > last + M.GAP_MS then
    streams.event(ns, now, "clock_gap", string.format("%.0f ms", now - last))
  end
  if now < last then
    replay.instant(last)
    return last, step
  end
  replay.instant(now)
  if now > last then
    redis.call("HSET", keys.clock(ns), "last", string.format("%.0f", now))
  end
  return now, step
end

return M
