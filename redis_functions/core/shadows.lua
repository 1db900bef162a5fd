-- Shadows: a rule or an alarm definition that runs live beside the active one and only notes what it would do.
local alarm_compile = require("alarmsrv.compile")
local args = require("lib.args")
local call = require("core.call")
local errors = require("lib.errors")
local graphs = require("core.graph")
local indexes = require("core.indexes")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local rule_compile = require("rulesrv.compile")
local shadow_log = require("core.shadow_log")
local versions = require("core.versions")
local watchers = require("core.watchers")

local M = {}

local MAX_SHADOWS = 50

local COMPILE = { rule = rule_compile.compile, alarm_definition = alarm_compile.compile }

local function named(id, document)
  local kind, of, noun = versions.named(id, document)
  if not COMPILE[kind] then
    errors.fail("INVALID", "a " .. noun .. " has no shadow; rules and alarm definitions have")
  end
  return kind, of, noun
end

local function stored(ns, kind, of, noun)
  return redis.call("GET", keys.shadow(ns, kind, of)) or errors.fail("NOTFOUND", noun .. " " .. of .. " has no shadow")
end

local function encode(ns, graph, kind, of)
  local watcher = graph.watchers["shadow:" .. kind .. ":" .. of]
  return json.with(redis.call("GET", keys.shadow(ns, kind, of)), {
    "active", watcher and watcher.active and "true" or "false",
    "result", (watcher == nil or watcher.truth == nil) and "null" or tostring(watcher.truth),
  })
end

local function take_out(ctx, kind, of)
  local name = kind .. ":" .. of
  local watcher = ctx.graph.watchers["shadow:" .. name]
  if watcher then
    watchers.retire(ctx, watcher)
    watchers.take_out(ctx, watcher)
  end
  redis.call("DEL", keys.shadow(ctx.ns, kind, of), keys.shadow_state(ctx.ns, kind, of), keys.shadow_log(ctx.ns, kind, of))
  redis.call("SREM", keys.shadows(ctx.ns), name)
  graphs.changed(ctx.graph)
end

-- What shall run: a definition, or a version that is kept.
local function said(ns, kind, of, document)
  if document.version ~= nil then
    return versions.said(ns, kind, of, args.integer(document.version, "version", 0, 9007199254740991))
  end
  local text = args.text(document.definition, "definition", args.MAX_DOCUMENT)
    or errors.fail("INVALID", "definition is missing (or give version)")
  return json.with_id(text, args.document(text), of)
end

--- Let a rule or an alarm definition run beside the active one: it acts on nothing, and both are noted.
--
-- There need be no active one. A shadow that runs already is replaced, and the comparison begins anew.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind: rule|alarm_definition, definition (its JSON as a text) or version, by?, reason?, now_ms?}
-- Returns  {kind, of, by, reason?, started_at_ms, of_version?, definition, active, result}
-- Errors   NOTFOUND  no such version
--          INVALID   every problem of the definition
--          LIMIT     50 shadows run
-- Writes   voltage:shadow:{kind}:{id} with :state and :log, voltage:shadows
-- Example  FCALL shadow_start 1 r1 '{"kind":"rule","version":1,"by":"ann"}'
function M.start(ns, id, argv)
  local document = args.document(argv[1])
  local kind, of = named(id, document)
  local by, reason = args.text(document.by, "by", 128) or "redis", args.text(document.reason, "reason", 500)
  local text = said(ns, kind, of, document)
  local watcher, problems = COMPILE[kind](args.document(text))
  errors.fail_all(problems)
  local name = kind .. ":" .. of
  local ctx = call.begin(ns, document.now_ms)
  if redis.call("SISMEMBER", keys.shadows(ns), name) == 0 and redis.call("SCARD", keys.shadows(ns)) >= MAX_SHADOWS then
    errors.fail("LIMIT", MAX_SHADOWS .. " shadows run")
  end
  call.accept(ctx)
  take_out(ctx, kind, of)
  redis.call("SET", keys.shadow(ns, kind, of), json.object({
    "kind", json.text(kind), "of", json.text(of), "by", json.text(by), "reason", reason and json.text(reason),
    "started_at_ms", json.integer(ctx.now), "of_version", document.version and json.integer(document.version),
    "definition", text,
  }))
  redis.call("SADD", keys.shadows(ns), name)
  watcher = indexes.shadow(watcher, kind, of)
  shadow_log.began(ctx, watcher, ctx.now)
  watchers.install(ctx, watcher)
  return call.finish(ctx, encode(ns, ctx.graph, kind, of))
end

--- A shadow, and how it stands.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind}
-- Returns  as shadow_start
-- Errors   NOTFOUND  it has none
-- Example  FCALL shadow_get 1 r1 '{"kind":"rule"}'
function M.get(ns, id, argv)
  local kind, of, noun = named(id, args.document(argv[1]))
  stored(ns, kind, of, noun)
  return encode(ns, graphs.open(ns), kind, of)
end

--- Shadows by kind and id.
--
-- ARGV[1]  {kind?, limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL shadow_list 0
function M.list(ns, _, argv)
  local filter = args.document(argv[1], true)
  local graph = graphs.open(ns)
  return pages.sorted(keys.shadows(ns), filter, function(name)
    local kind, of = string.match(name, "^([^:]+):(.*)$")
    return (filter.kind == nil or filter.kind == kind) and encode(ns, graph, kind, of) or nil
  end)
end

--- End a shadow; what was noted goes with it.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind, now_ms?}
-- Returns  {stopped: id}
-- Errors   NOTFOUND  it has none
-- Writes   voltage:shadow:{kind}:{id} with :state and :log, voltage:shadows
-- Example  FCALL shadow_stop 1 r1 '{"kind":"rule"}'
function M.stop(ns, id, argv)
  local document = args.document(argv[1])
  local kind, of, noun = named(id, document)
  stored(ns, kind, of, noun)
  local ctx = call.begin(ns, document.now_ms)
  call.accept(ctx)
  take_out(ctx, kind, of)
  return call.finish(ctx, json.object({ "stopped", json.text(of) }))
end

--- Put a shadow in the place of the active one, as a new version; the shadow ends.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind, by?, reason?, version? (the active one that was seen), now_ms?}
-- Returns  the definition
-- Errors   NOTFOUND  it has none
--          CONFLICT  the active one has another version
--          STATE     the active one requires approval
--          INVALID   it is not valid beside the other definitions
-- Writes   as its upsert function; the shadow's keys
-- Example  FCALL shadow_promote 1 r1 '{"kind":"rule","by":"ann","reason":"a day without a difference"}'
function M.promote(ns, id, argv)
  local kind, of, noun = named(id, args.document(argv[1]))
  local shadow = args.document(stored(ns, kind, of, noun))
  local change = versions.change(argv[1])
  change.reason = change.reason or shadow.reason
  local reply = versions.put(ns, kind, of, json.member(stored(ns, kind, of, noun), "definition"), change)
  local ctx = call.begin(ns, change.now_ms)
  call.accept(ctx)
  take_out(ctx, kind, of)
  return call.finish(ctx, reply)
end

return M
