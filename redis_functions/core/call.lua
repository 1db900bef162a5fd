-- The frame of every call that changes state: the clock, the timers that are due, the image number.
local aggregates = require("core.aggregates")
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local clock = require("core.clock")
local deferred = require("core.deferred")
local engine = require("core.engine")
local escalation = require("alarmsrv.escalation")
local floods = require("core.floods")
local graphs = require("core.graph")
local holds = require("core.holds")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local measures = require("core.measures")
local points = require("comsrv.overrides")
local proposals = require("core.proposals")
local records = require("comsrv.records")
local replay = require("core.replay")
local specials = require("core.specials")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")
local transitions = require("core.transitions")

local M = {}

-- A timer's kind -> who handles it: handler(ctx, id, due).
local HANDLERS = {
  hold = transitions.hold_over,
  off = transitions.off_over,
  cooldown = transitions.cooldown_over,
  lease = leases.lapse,
  stale = leases.mark_on,
  command = records.expire,
  release = records.release,
  again = transitions.again,
  clock = specials.clock_over,
  slices = aggregates.slices_over,
  shelve = alarms.shelve_over,
  realarm = alarms.realarm_over,
  escalate = escalation.over,
  flood = floods.over,
  substitute = points.substitution_over,
  tag = points.tag_over,
  alarm = system_alarms.delay_over,
  silent = system_alarms.silent,
  forgotten = system_alarms.forgotten,
  proposal = proposals.expire,
}

local function context(ns, now, graph)
  return {
    ns = ns, now = now, graph = graph, transitions = 0, touched = {}, calculated = {}, models = {}, model_list = {},
    confirm = leases.put, accept = M.accept,
  }
end

--- Take the next image number: from here on the call has an effect.
function M.accept(ctx)
  local image = redis.call("INCR", keys.image(ctx.ns))
  ctx.image = image
  replay.accepted()
  ctx.graph.image = string.format("%.0f", image)
  ctx.accepted = true
end

--- Let everything follow from what the call changed, and return its reply.
function M.finish(ctx, reply)
  if #ctx.touched > 0 or ctx.switches then
    engine.settle(ctx, ctx.now)
  end
  floods.look(ctx)
  deferred.flush(ctx)
  return reply
end

local function fire(ctx, due)
  for i = 1, #due do
    local handler = HANDLERS[due[i][2]]
    if handler then
      handler(ctx, due[i][3], due[i][1])
      engine.settle(ctx, due[i][1])
    end
  end
end

--- Begin a call: advance the clock, fire what is due (at most 20, in order, at the due instants).
-- What fires stands, even where the call itself is then refused.
function M.begin(ns, now_ms)
  local now, step = clock.advance(ns, now_ms ~= nil and args.now(now_ms) or nil)
  local ctx = context(ns, now, graphs.open(ns))
  if step then
    system_alarms.note(ctx, "clock", "", string.format("by %.0f ms", -step))
    specials.stepped(ctx, step)
    measures.stepped(ctx, step)
    holds.stepped(ctx, step)
  end
  local due, count = timers.take(ns, now, timers.PER_CALL), 0
  if due then
    M.accept(ctx)
    while due do
      fire(ctx, due)
      count = count + #due
      -- What fired may have set a timer that is due, too.
      due = count < timers.PER_CALL and timers.take(ns, now, timers.PER_CALL - count) or nil
    end
    floods.look(ctx)
    local fired = ctx
    ctx = context(ns, now, fired.graph)
    ctx.fired, ctx.transitions, ctx.behind, ctx.image = count, fired.transitions, fired.behind, fired.image
    ctx.journal_head = fired.journal_head
  end
  return ctx
end

return M
