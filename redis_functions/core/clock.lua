-- Time is an argument: in a namespace now = max(now given, last now).
local args = require("lib.args")
local errors = require("lib.errors")
local keys = require("lib.keys")
local streams = require("lib.streams")
local timers = require("core.timers")

local M = {}

-- A caller may be this far ahead of Redis, and behind by this much before it counts as a step.
M.TOLERANCE_MS = 2000

--- Advance the namespace's clock and return its instant.
-- When Redis' own clock went back too, it was a step of the machine's clock: the timers move with
-- it, so that delays keep what was left of them, nothing freezes and nothing fires twice.
function M.advance(ns, given)
  local server = args.server_ms()
  local stored = redis.call("HMGET", keys.clock(ns), "last", "simulation")
  local last = tonumber(stored[1] or 0)
  local simulation = stored[2] == "1"
  -- In a simulation time passes only by what callers say.
  local now = given or (simulation and last > 0 and last) or server
  if not simulation and now > server + M.TOLERANCE_MS then
    errors.fail("INVALID", string.format("now_ms is %.0f ms ahead of Redis' clock", now - server))
  end
  if not simulation and last > server + M.TOLERANCE_MS then
    timers.shift(ns, server - last)
    streams.event(ns, server, "clock_step", string.format("%.0f ms", server - last))
    redis.call("HINCRBY", keys.clock(ns), "steps", 1)
    last = server
    redis.call("HSET", keys.clock(ns), "last", string.format("%.0f", last))
  end
  if now < last then
    return last
  end
  if now > last then
    redis.call("HSET", keys.clock(ns), "last", string.format("%.0f", now))
  end
  return now
end

return M
