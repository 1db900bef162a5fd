-- How rules come, go and are switched: by a person, by a definition that changed, by another rule.
local actions = require("rulesrv.actions")
local alarms = require("alarmsrv.alarms")
local args = require("lib.args")
local compile = require("rulesrv.compile")
local cycles = require("rulesrv.cycles")
local graphs = require("core.graph")
local json = require("lib.json")
local keys = require("lib.keys")
local params = require("rulesrv.params")
local specials = require("core.specials")
local streams = require("lib.streams")
local transitions = require("core.transitions")
local watchers = require("core.watchers")

local M = {}

-- What is read at an instant is in the watch index; a window of time is not.
local function watched(watcher)
  local found = {}
  for i = 1, #watcher.leaves do
    if not watcher.leaves[i].window then
      found[#found + 1] = watcher.leaves[i].source
    end
  end
  return found
end

local function unwatch(ns, watcher)
  for _, source in ipairs(watched(watcher)) do
    redis.call("SREM", keys.watch(ns, source), watcher.name)
  end
end

-- A rule that goes, or is switched off, leaves no hold running and no alarm standing.
local function quiesce(ctx, watcher)
  local waited = watchers.retire(ctx, watcher) > 0
  if waited or watcher.active then
    watcher.active = false
    actions.clear(ctx, watcher, { at = ctx.now, inputs = transitions.inputs(watcher, ctx.now) }, transitions.seen_by)
  end
end

-- A rule that was stored so that it does not compile: what it raised may stand all the same.
local function abandon(ctx, id)
  for index = 1, params.MAX_ACTIONS do
    local origin = "rule:" .. id .. "#" .. index
    if ctx.graph.open[origin] then
      alarms.condition_ended(ctx, origin, ctx.now, alarms.seen(ctx, { origin = origin }))
    end
  end
end

--- Put a checked rule in the place of the old one and evaluate it at once.
function M.install(ctx, watcher, text)
  local ns, id = ctx.ns, watcher.name
  local before = ctx.graph.watchers["rule:" .. id]
  if before then
    quiesce(ctx, before)
    unwatch(ns, before)
  else
    abandon(ctx, id)
  end
  redis.call("SET", keys.rule(ns, id), text)
  redis.call("SADD", keys.rules(ns), id)
  for _, source in ipairs(watched(watcher)) do
    redis.call("SADD", keys.watch(ns, source), id)
  end
  watchers.install(ctx, watcher)
  specials.changed(ctx, watcher.id, ctx.now)
end

--- Take a rule out.
function M.remove(ctx, id)
  local ns = ctx.ns
  local watcher = ctx.graph.watchers["rule:" .. id]
  if watcher then
    quiesce(ctx, watcher)
    unwatch(ns, watcher)
    watchers.take_out(ctx, watcher)
  else
    abandon(ctx, id)
  end
  redis.call("DEL", keys.rule(ns, id), keys.rule_state(ns, id))
  redis.call("SREM", keys.rules(ns), id)
  graphs.changed(ctx.graph)
  specials.changed(ctx, "rule:" .. id, ctx.now)
end

-- The rule as it is when switched: its watcher and its text; or nil, and what is wrong.
local function prepare(graph, id, text, wanted)
  local changed = json.with(json.without(text, { enabled = true }), { "enabled", wanted })
  local watcher, problems = compile.compile(args.document(changed))
  if #problems == 0 and watcher.enabled then
    problems[1] = cycles.problem(graph, watcher)
  end
  if #problems > 0 then
    return nil, "rule " .. id .. ": " .. table.concat(problems, "; ")
  end
  return watcher, changed
end

--- Switch the rules that other rules asked for: that makes no version. What then follows is a round of its own.
function M.run(ctx)
  local asked = ctx.switches
  ctx.switches = nil
  for i = 1, #asked do
    local name, wanted = asked[i].name, asked[i].wanted
    local before = ctx.graph.watchers["rule:" .. name]
    if before and tostring(before.enabled) ~= wanted then
      local watcher, text = prepare(ctx.graph, name, redis.call("GET", keys.rule(ctx.ns, name)), wanted)
      if watcher then
        M.install(ctx, watcher, text)
      end
      streams.event(
        ctx.ns, ctx.now, "rule_switched",
        "rule " .. asked[i].by .. " switched rule " .. name .. (wanted == "true" and " on" or " off")
          .. (watcher and "" or ", in vain: " .. text)
      )
    end
  end
end

return M
