-- What a rule does when it fires and when its condition ends.
local alarms = require("alarmsrv.alarms")
local commands = require("comsrv.records")
local submission = require("comsrv.submission")
local json = require("lib.json")
local keys = require("lib.keys")
local streams = require("lib.streams")

local M = {}

local NEEDS_ACK = { Critical = true, Major = true, Minor = true }

local function alarm_origin(watcher, index)
  return watcher.id .. "#" .. index
end

local function create_alarm(ctx, watcher, index, params, item)
  local level = params.level or "Warning"
  local ack = params.ack_required
  if ack == nil then
    ack = NEEDS_ACK[level] == true
  end
  local alarm = alarms.raise(ctx, {
    origin = alarm_origin(watcher, index), rule = watcher.name, title = params.title, description = params.description,
    level = level, source = params.source or watcher.leaves[1].source, ack_required = ack, value = item.text,
    quality = item.quality or "good",
    version = watcher.document.version and string.format("%.0f", watcher.document.version),
  }, item.at)
  return alarm.id
end

local function command(ctx, watcher, _, params, item)
  -- An action that moves a device needs every input good, unless the rule says on_bad: last.
  if not item.good and not watcher.last_good then
    return nil, "withheld: an input is not good"
  end
  local ch, spec, problem = submission.of_rule(ctx, watcher.name, params)
  if problem then
    return nil, problem
  end
  return commands.enqueue(ctx, ch, spec).id
end

local function publish_topic(ctx, watcher, _, params, item)
  redis.call("PUBLISH", keys.rule_published(ctx.ns, params.topic), json.object({
    "rule", json.text(watcher.name), "at_ms", json.integer(item.at), "seq", ctx.image,
    "message", params.message and json.text(params.message) or "null",
    "payload", params.payload ~= nil and cjson.encode(params.payload) or "null", "inputs", item.inputs,
  }))
  return params.topic
end

local ACTIONS = { create_alarm = create_alarm, command = command, publish = publish_topic }

-- Ids and words of ours need no escaping; a rule fires in the middle of an ingest, so this is short.
local function record(ctx, watcher, item, what, outcomes)
  local at = string.format("%.0f", item.at)
  streams.append(
    ctx.ns, keys.firings(ctx.ns), "rule", watcher.name, "event", what, "at_ms", at,
    "seq", ctx.image, "version", watcher.document.version and string.format("%.0f", watcher.document.version) or "",
    "inputs", item.inputs, "actions", outcomes
  )
  redis.call(
    "PUBLISH", keys.triggered(ctx.ns),
    '{"rule":"' .. watcher.name .. '","name":' .. json.text(watcher.document.name) .. ',"event":"' .. what
      .. '","at_ms":' .. at .. ',"seq":' .. ctx.image .. ',"inputs":' .. item.inputs .. ',"actions":' .. outcomes .. "}"
  )
end

--- Carry out a rule's actions and record the firing with what each came to.
function M.fire(ctx, watcher, item)
  local outcomes = {}
  for i, action in ipairs(watcher.document.actions or {}) do
    local result, problem = ACTIONS[action.type](ctx, watcher, i, action.params, item)
    outcomes[i] = '{"type":"' .. action.type .. '",'
      .. (problem and '"problem":' .. json.text(problem) or '"result":' .. json.text(result)) .. "}"
  end
  local text = json.list(outcomes)
  record(ctx, watcher, item, "fired", text)
  return text
end

--- Mark the alarms of a rule or a definition uncertain while its condition is unknown.
function M.mark_uncertain(ctx, watcher, uncertain, at)
  if watcher.kind == "alarm" then
    alarms.mark_uncertain(ctx, watcher.id, uncertain, at)
    return
  elseif watcher.kind == "suppress" then
    return
  end
  for i, action in ipairs(watcher.document.actions or {}) do
    if action.type == "create_alarm" then
      alarms.mark_uncertain(ctx, alarm_origin(watcher, i), uncertain, at)
    end
  end
end

--- The condition ended: the alarms the rule raised return.
function M.clear(ctx, watcher, item)
  for i, action in ipairs(watcher.document.actions or {}) do
    if action.type == "create_alarm" then
      alarms.condition_ended(ctx, alarm_origin(watcher, i), item.at, item)
    end
  end
  record(ctx, watcher, item, "cleared", "[]")
end

return M
