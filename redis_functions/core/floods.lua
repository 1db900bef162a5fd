-- Floods of alarms, as they happen: more than ten within ten minutes begin one, fewer than five end it (ANSI/ISA-18.2
-- and IEC 62682). The system alarm `flood` stands as long; the journal knows the newest alarms that asked for somebody.
local journal = require("alarmsrv.journal")
local keys = require("lib.keys")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")

local M = {}

local ENDS_BELOW = 5

-- When there will be fewer than five, as it looks now; nil where there are already.
local function over_at(newest, now)
  local fifth = newest[#newest - ENDS_BELOW + 1]
  -- An instant from the future is of before the clock was set back.
  return fifth and fifth <= now and fifth + journal.FLOOD_MS or nil
end

--- Where a flood began in this call or goes on, say so, once.
function M.look(ctx)
  local began = ctx.flood
  ctx.flood = nil
  if began and not ctx.graph.open[journal.FLOOD] then
    system_alarms.report(ctx, "flood", "", { active = true }, began)
    -- A site may want no such alarm.
    if redis.call("HEXISTS", keys.system_conditions(ctx.ns), "flood|") == 1 then
      timers.set(ctx.ns, over_at(journal.newest(ctx), began) or began, "flood", "")
    end
  end
end

--- The timer of a flood: it is over, or goes on with the alarms that came since.
function M.over(ctx, id, due)
  local at = over_at(journal.newest(ctx), due)
  if at and at > due then
    timers.set(ctx.ns, at, "flood", id)
  else
    system_alarms.report(ctx, "flood", "", { active = false }, due)
  end
end

return M
