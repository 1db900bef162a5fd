-- Rules: their definitions, and what a person may ask of them.
local actions = require("rulesrv.actions")
local args = require("lib.args")
local call = require("core.call")
local compile = require("rulesrv.compile")
local cycles = require("rulesrv.cycles")
local errors = require("lib.errors")
local explain = require("rulesrv.explain")
local graphs = require("core.graph")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local sources = require("core.sources")
local specials = require("core.specials")
local switching = require("rulesrv.switching")
local transitions = require("core.transitions")
local versions = require("core.versions")
local warnings = require("rulesrv.warnings")
local watchers = require("core.watchers")
local wiring = require("core.wiring")

local M = {}

local MAX_RULES = 20000

local function stored(ns, id)
  return redis.call("GET", keys.rule(ns, id)) or errors.fail("NOTFOUND", "rule " .. id)
end

local function compiled(graph, ns, id)
  local watcher = graph.watchers["rule:" .. id]
  if not watcher then
    stored(ns, id)
    errors.fail("STATE", "rule " .. id .. " as it is stored can't be compiled; store it anew")
  end
  return watcher
end

--- Create or change a rule.
--
-- A changed rule starts anew: its holds, its count and the alarms it raised end.
--
-- KEYS[1]  rule
-- ARGV[1]  {id, name, conditions, actions: [{type, params}], enabled?, priority?, cooldown_ms?, on_bad?, ...}
-- Returns  the rule, byte for byte as it came; with its id in front where it named none
-- Errors   INVALID  every problem, with the path to its field
--          LIMIT    20000 rules are stored
-- Writes   rulesrv:rule:{id}, rulesrv:rules, rulesrv:watch:{source}
-- Example  FCALL rule_upsert 1 r1 '{"name":"hot","conditions":[{"source":"comsrv:1001:T:1","operator":">","value":80}]}'
function M.upsert(ns, id, argv)
  local document, text = args.definition(id, "rule", argv[1])
  id = document.id
  local watcher, problems = compile.compile(document)
  errors.fail_all(problems)
  local ctx = call.begin(ns, argv[2])
  if watcher.enabled then
    local problem = cycles.problem(ctx.graph, watcher)
    if problem then
      errors.fail("INVALID", problem)
    end
  end
  if redis.call("SISMEMBER", keys.rules(ns), id) == 0 and redis.call("SCARD", keys.rules(ns)) >= MAX_RULES then
    errors.fail("LIMIT", "there are " .. MAX_RULES .. " rules")
  end
  call.accept(ctx)
  switching.install(ctx, watcher, text)
  return call.finish(ctx, text)
end

--- A rule.
--
-- KEYS[1]  rule
-- Returns  the rule as it was stored
-- Errors   NOTFOUND  no such rule
-- Example  FCALL rule_get 1 r1
function M.get(ns, id)
  return stored(ns, args.id(id, "rule"))
end

--- Rules by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL rule_list 0
function M.list(ns, _, argv)
  return pages.definitions(ns, keys.rules(ns), args.document(argv[1], true), function(id)
    return redis.call("GET", keys.rule(ns, id))
  end)
end

--- Delete a rule; the alarms it raised return.
--
-- KEYS[1]  rule
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such rule
-- Writes   rulesrv:rule:{id} and its state, rulesrv:rules, rulesrv:watch:{source}
-- Example  FCALL rule_delete 1 r1
function M.delete(ns, id, argv)
  id = args.id(id, "rule")
  stored(ns, id)
  local ctx = call.begin(ns, argv[1])
  call.accept(ctx)
  switching.remove(ctx, id)
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

--- Switch a rule on or off; that is a version, too.
--
-- KEYS[1]  rule
-- ARGV[1]  true or false
-- ARGV[2]  {by?, reason?, version?, now_ms?} (optional)
-- Returns  the rule
-- Errors   NOTFOUND  no such rule
--          CONFLICT  the rule has another version
--          STATE     it requires approval
-- Writes   rulesrv:rule:{id}, voltage:versions:rule:{id}
-- Example  FCALL rule_enable 1 r1 true
function M.enable(ns, id, argv)
  local wanted = args.choice(argv[1], "the argument", { "true", "false" })
  return versions.switch(ns, "rule", id, wanted == "true", versions.change(argv[2]))
end

local truth_json = explain.truth_json

local function watcher_of(graph, ns, id)
  local watcher = compiled(graph, ns, id)
  if not watcher.leaves[1].slot then
    -- A rule that is off is not wired; for a look its points are resolved without watching them.
    for i = 1, #watcher.leaves do
      wiring.look_up(graph, watcher.leaves[i])
    end
    specials.load_fresh(graph)
  end
  return watcher
end

local function simulated_value(ref, value)
  local kind = sources.state_kind(ref)
  if kind then
    local stands = sources.WORDS[kind][value]
    return stands and stands[1] or errors.fail("INVALID", "values." .. ref .. " must be one of " .. sources.NAMES[kind])
  elseif sources.is_text_reference(ref) then
    return args.text(value, "values." .. ref, 256)
  elseif sources.is_reference(ref) then
    return args.number(value, "values." .. ref)
  end
  return errors.fail("INVALID", "values has a key that is no reference: " .. tostring(ref))
end

local function simulated_of(document)
  local simulated = {}
  for ref, value in pairs(args.object(document.values, "values")) do
    simulated[ref] = simulated_value(ref, value)
  end
  return simulated, document.at_ms and args.integer(document.at_ms, "at_ms", 0, 9007199254740991)
end

--- Evaluate a rule now, or with simulated values; acts on nothing.
--
-- With simulated values a hold counts as over, and an aggregate as if its point had had the value all through its
-- window. `at_ms` is an instant that windows of time are looked at instead of now.
--
-- KEYS[1]  rule
-- ARGV[1]  {values?: {reference: number, text of a text point, word of a state}, at_ms?}
-- Returns  {rule, result: true|false|null (unknown), active, decided_by,
--           conditions: [{path, source, actual, quality, result, missing, exists?: false, ...}]}
-- Errors   NOTFOUND  no such rule
--          INVALID   a key is no reference, or a value not of its kind
-- Example  FCALL rule_evaluate 1 r1 '{"values":{"comsrv:1001:T:1":90}}'
function M.evaluate(ns, id, argv)
  id = args.id(id, "rule")
  local simulated, at = simulated_of(args.document(argv[1], true))
  local graph = graphs.open(ns)
  return explain.evaluation(explain.look(graph, watcher_of(graph, ns, id), simulated, at))
end

--- Evaluate many rules; acts on nothing.
--
-- ARGV[1]  {ids?: [...], values?: {reference: number}, at_ms?, limit?, cursor?}
-- Returns  {items, cursor}
-- Errors   NOTFOUND  one of ids is no rule
-- Example  FCALL rule_batch_evaluate 0 '{"ids":["r1"]}'
function M.batch_evaluate(ns, _, argv)
  local document = args.document(argv[1], true)
  local simulated, at = simulated_of(document)
  local graph = graphs.open(ns)
  local function one(id)
    return explain.evaluation(explain.look(graph, watcher_of(graph, ns, args.id(id, "rule")), simulated, at))
  end
  if not document.ids then
    return pages.definitions(ns, keys.rules(ns), document, one)
  end
  if type(document.ids) ~= "table" or #document.ids > pages.MAX_LIMIT then
    errors.fail("LIMIT", "ids must be a list of at most " .. pages.MAX_LIMIT)
  end
  local items = {}
  for i = 1, #document.ids do
    items[i] = one(document.ids[i])
  end
  return pages.page(items, nil)
end

--- Why a rule is as it is: what every condition says, what is missing, when a hold ends, what its actions would come to.
--
-- `why` is it in words, `decided_by` the paths of the conditions that decide. A condition that is unknown says what is
-- `missing`; one that waits or moves with time has `hold` {since_ms, until_ms} or {paused, left_ms}.
--
-- KEYS[1]  rule
-- Returns  {rule, result, why, decided_by, cooldown_until_ms, conditions: {path, kind, result, conditions}, actions: [{type, would, problem}], ...}
-- Errors   NOTFOUND  no such rule
-- Example  FCALL rule_explain 1 r1
function M.explain(ns, id)
  id = args.id(id, "rule")
  local graph = graphs.open(ns)
  return explain.explanation(explain.look(graph, watcher_of(graph, ns, id), {}, nil))
end

--- Carry out a rule's actions now, whatever its condition says; a command still needs good inputs.
--
-- KEYS[1]  rule
-- ARGV[1]  {now_ms?}
-- Returns  {rule, actions: [{type, result, problem}]}
-- Errors   NOTFOUND  no such rule
--          STATE     the rule is off
-- Writes   what the actions write, rulesrv:firings
-- Example  FCALL rule_trigger_action 1 r1
function M.trigger_action(ns, id, argv)
  id = args.id(id, "rule")
  local document = args.document(argv[1], true)
  stored(ns, id)
  local ctx = call.begin(ns, document.now_ms)
  local watcher = watcher_of(ctx.graph, ns, id)
  if not watcher.enabled then
    errors.fail("STATE", "rule " .. id .. " is off")
  end
  call.accept(ctx)
  local inputs, good = transitions.inputs(watcher, ctx.now)
  local slot = watcher.leaves[1].slot
  local outcomes = actions.fire(ctx, watcher, {
    at = ctx.now, inputs = inputs, good = good, text = slot.text, quality = slot.quality,
  })
  return call.finish(ctx, json.object({ "rule", json.text(id), "actions", outcomes }))
end

--- Evaluate a rule with the present values and let its state follow: it fires or clears.
--
-- KEYS[1]  rule
-- ARGV[1]  {now_ms?}
-- Returns  {rule, active, result, count}
-- Errors   NOTFOUND  no such rule
--          STATE     the rule is off
-- Writes   rulesrv:rule:{id}:state and what the actions write
-- Example  FCALL rule_update_state 1 r1
function M.update_state(ns, id, argv)
  id = args.id(id, "rule")
  local document = args.document(argv[1], true)
  stored(ns, id)
  local ctx = call.begin(ns, document.now_ms)
  local watcher = watcher_of(ctx.graph, ns, id)
  if not watcher.enabled then
    errors.fail("STATE", "rule " .. id .. " is off")
  end
  call.accept(ctx)
  transitions.evaluate(ctx, watcher, ctx.now)
  return call.finish(ctx, json.object({
    "rule", json.text(id), "active", watcher.active and "true" or "false", "result", truth_json(watcher.truth),
    "count", watcher.count,
  }))
end

--- Points, models and rules that rules name and that do not exist (yet), in conditions and actions.
--
-- ARGV[1]  {ids (at most 100)}
-- Returns  {id: [warning]}, of those that have any
-- Errors   INVALID  ids is no list of ids
-- Example  FCALL rule_warnings 0 '{"ids":["r1"]}'
function M.warnings(ns, _, argv)
  return watchers.warnings(ns, "rule", argv[1], warnings.of)
end

--- Counts of all rules, or the state of one.
--
-- KEYS[1]  rule (optional)
-- Returns  {rules, enabled, active, unknown}, or {rule, enabled, active, result, count, fired_at_ms}
-- Errors   NOTFOUND  no such rule
-- Example  FCALL rule_stats 0
function M.stats(ns, id)
  local graph = graphs.open(ns)
  if id then
    id = args.id(id, "rule")
    local watcher = compiled(graph, ns, id)
    return json.object({
      "rule", json.text(id), "enabled", watcher.enabled and "true" or "false", "active", watcher.active and "true" or "false",
      "result", truth_json(watcher.truth), "count", watcher.count,
      "fired_at_ms", watcher.fired_ms and watcher.fired_ms > 0 and json.integer(watcher.fired_ms) or "null",
    })
  end
  local counts = { rules = 0, enabled = 0, active = 0, unknown = 0 }
  for _, watcher in pairs(graph.watchers) do
    if watcher.kind == "rule" then
      counts.rules = counts.rules + 1
      counts.enabled = counts.enabled + (watcher.enabled and 1 or 0)
      counts.active = counts.active + (watcher.active and 1 or 0)
      counts.unknown = counts.unknown + (watcher.enabled and watcher.truth == nil and 1 or 0)
    end
  end
  return json.object({
    "rules", counts.rules, "enabled", counts.enabled, "active", counts.active, "unknown", counts.unknown,
  })
end

return M
