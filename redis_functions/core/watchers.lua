-- How a watcher (a rule, an alarm definition) comes and goes, whichever it is.
local args = require("lib.args")
local deferred = require("core.deferred")
local errors = require("lib.errors")
local graphs = require("core.graph")
local json = require("lib.json")
local shadow_log = require("core.shadow_log")
local specials = require("core.specials")
local timers = require("core.timers")
local transitions = require("core.transitions")
local wiring = require("core.wiring")

local M = {}

-- Each takes some looks into hashes.
local MAX_ASKED = 100

--- Stop the timers of a watcher: its holds, its off-delay, its cooldown.
function M.stop(ctx, watcher)
  for i = 1, #watcher.leaves do
    timers.cancel(ctx.ns, "hold", watcher.id .. "#" .. i)
    if watcher.leaves[i].measure then
      timers.cancel(ctx.ns, "again", watcher.id .. "#" .. i)
    end
  end
  timers.cancel(ctx.ns, "off", watcher.id)
  timers.cancel(ctx.ns, "cooldown", watcher.id)
end

--- Forget a watcher that goes: its timers, its state, and what a storm left waiting of it.
-- Returns how much waited: the alarm of one that is not active may still stand.
function M.retire(ctx, watcher)
  M.stop(ctx, watcher)
  if watcher.active and ctx.graph.shadowed[watcher.id] then
    shadow_log.note(ctx, watcher, { on = false, at = ctx.now, inputs = (transitions.inputs(watcher, ctx.now)) })
  end
  wiring.forget(ctx.ns, watcher)
  return deferred.forget(ctx.ns, watcher.id)
end

--- What is remarkable about watchers of a kind: {id: [text]} of those of which `of(graph, watcher)`, JSON texts, says
-- any. `text` is {ids}.
function M.warnings(ns, kind, text, of)
  local ids = args.document(text).ids
  if type(ids) ~= "table" or #ids > MAX_ASKED or (next(ids) ~= nil and #ids == 0) then
    errors.fail("INVALID", "ids must be a list of at most " .. MAX_ASKED)
  end
  local graph, found = graphs.open(ns), {}
  for i = 1, #ids do
    local id = args.id(ids[i], "ids[" .. (i - 1) .. "]")
    local watcher = graph.watchers[kind .. ":" .. id]
    local warnings = watcher and of(graph, watcher) or {}
    if #warnings > 0 then
      found[#found + 1] = id
      found[#found + 1] = json.list(warnings)
    end
  end
  return json.object(found)
end

--- Take out a watcher that was retired.
function M.take_out(ctx, watcher)
  wiring.drop(ctx.graph, watcher.kind, watcher.name)
  specials.sweep(ctx, watcher)
end

--- Put a checked watcher in the place of the old one and evaluate it at once.
function M.install(ctx, watcher)
  local before = ctx.graph.watchers[watcher.kind .. ":" .. watcher.name]
  wiring.put(ctx.graph, watcher)
  if before then
    specials.sweep(ctx, before)
  end
  graphs.changed(ctx.graph)
  if watcher.enabled then
    specials.arm(ctx, watcher)
    transitions.evaluate(ctx, watcher, ctx.now)
  end
end

return M
