-- Lua's collector, a little at the end of each call instead of much in a few.
--
-- By itself it works as fast as memory is taken, and what it sweeps costs it many times what it marks: with thousands of
-- definitions loaded, five calls in 150 took 2 to 4 ms more than the others. Here a call pays for the memory that was
-- taken, while the collector sweeps no more than a fifth of a millisecond; the rest is paid by the calls after it.
local M = {}

-- Units of the collector's work a step: so many bytes to mark, a tenth as many chains of texts or 40 other things to
-- sweep.
local STEP = 400
-- Steps a kilobyte taken: while all is marked about as much is taken as there is.
local STEPS = 2
-- What a call works at least where it owes as much, in steps that mark.
local ROOM = 200
-- A step that sweeps takes as long as so many that mark.
local SWEEPING = 16
-- Steps at once, and after how many of those that gave memory back it is taken to sweep.
local BURST = 16
local SIGNS = 3
-- For a kilobyte there is it sweeps for no more steps than this.
local SWEEP = 0.25
-- From so many times what the last cycle left, a call works longer.
local FULL = 3

local debt, signs, sweep = 0, 0, 0
local left, before

--- A call begins.
function M.begin()
  if not left then
    collectgarbage("setstepmul", STEP / 10)
    left = collectgarbage("count")
    before = left
  end
  -- The server makes it catch up at every 50th call, and with that it goes by itself again.
  collectgarbage("stop")
end

-- Some steps; `count` is what there was before. Returns what there is now.
local function work(count)
  local over = false
  for _ = 1, BURST do
    over = over or collectgarbage("step", 0)
  end
  local now = collectgarbage("count")
  debt = debt - BURST
  if over then
    debt, signs, sweep, left = 0, 0, 0, now
  elseif sweep > 0 then
    sweep = sweep - BURST
  elseif now < count then
    signs = signs + 1
    if signs == SIGNS then
      signs, sweep = 0, SWEEP * now
    end
  end
  return now
end

--- A call ends: pay for what was taken since the last one ended: by the call, by its arguments, by other libraries.
function M.finish()
  local count = collectgarbage("count")
  local owed = STEPS * math.max(0, count - before)
  local room = math.max(ROOM, owed) * math.max(1, count / (FULL * left))
  debt = debt + owed
  while debt > 0 and room > 0 do
    room = room - BURST * (sweep > 0 and SWEEPING or 1)
    count = work(count)
  end
  before = count
  collectgarbage("stop")
end

return M
