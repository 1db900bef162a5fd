-- What each action of a rule does: effect(ctx, watcher, index, params, item) returns its result, or nil and the problem.
local alarms = require("alarmsrv.alarms")
local commands = require("comsrv.records")
local conflicts = require("rulesrv.conflicts")
local expression = require("core.expression")
local json = require("lib.json")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local numbers = require("lib.numbers")
local outbox = require("alarmsrv.outbox")
local records = require("alarmsrv.records")
local slots = require("core.slots")
local specials = require("core.specials")
local submission = require("comsrv.submission")
local templates = require("alarmsrv.templates")

local M = {}

local NEEDS_ACK = { Critical = true, Major = true, Minor = true }

--- The origin of the alarm that an action raises.
function M.origin(watcher, index)
  return watcher.id .. "#" .. index
end

-- A text of an action, with the values of the moment in it.
local function words(ctx, watcher, index, params, name, item, bytes)
  local parts = watcher.templates[index] and watcher.templates[index][name]
  if not parts then
    return params[name]
  end
  local leaf = watcher.leaves[1]
  return templates.fill(ctx, watcher, parts, {
    source = params.source or leaf.source, id = watcher.of or watcher.name, name = watcher.document.name, level = params.level or "Warning",
    priority = watcher.priority, limit = type(leaf.value) == "number" and leaf.value or nil, deadband = leaf.hysteresis,
  }, item, bytes)
end

local function create_alarm(ctx, watcher, index, params, item)
  local level = params.level or "Warning"
  local ack = params.ack_required
  if ack == nil then
    ack = NEEDS_ACK[level] == true
  end
  local alarm = alarms.raise(ctx, {
    origin = M.origin(watcher, index), rule = watcher.name, title = words(ctx, watcher, index, params, "title", item, 256),
    description = words(ctx, watcher, index, params, "description", item, 2048),
    level = level, source = params.source or watcher.leaves[1].source, ack_required = ack, value = item.text,
    quality = item.quality or "good",
    version = watcher.document.version and string.format("%.0f", watcher.document.version),
  }, item.at)
  return alarm.id
end

-- As by hand: an alarm whose condition stands is not resolved.
local function resolve_alarm(ctx, watcher, _, params)
  local alarm = records.open(ctx, params.alarm)
  if not alarm then
    return "no alarm is open"
  end
  local row, problem = alarms.asked(ctx, alarm, "resolve")
  if not row then
    return nil, problem
  end
  alarms.carry_out(ctx, alarm, row, "rule:" .. watcher.name)
  return alarm.id
end

-- Why the channel of a point is nothing to command by, or nil.
local function distrusted(ctx, slot)
  local point = slot.aggregate and ctx.graph.windows[slot.aggregate.window].input or slot
  local ch = point.owner and string.match(point.owner, "^comsrv:(%d+)$")
  return ch and leases.distrusted(ctx, ch)
end

-- Why an input is nothing to command by, or nil.
local function untrusted(ctx, watcher, item)
  if not item.good then
    return "an input is not good"
  end
  for i = 1, #watcher.leaves do
    local leaf = watcher.leaves[i]
    local problem = distrusted(ctx, leaf.slot) or leaf.other and distrusted(ctx, leaf.other)
    if problem then
      return problem
    end
  end
  return nil
end

-- The value of a command: as it stands, or calculated from points that must be good.
local function value_of(ctx, watcher, params)
  if not params.program then
    return params.value
  end
  local bad
  local value, reason = expression.evaluate(params.program, function(ref)
    local slot = slots.resolve(ctx.graph, ref)
    specials.load_fresh(ctx.graph)
    local problem = slot.value == nil and ref .. " is not good"
    if not problem and not watcher.last_good then
      problem = slot.quality and ref .. " is not good" or distrusted(ctx, slot)
    end
    bad = bad or problem or nil
    return not problem and slot.value or nil
  end)
  if value == nil then
    return nil, reason == "input" and "withheld: " .. bad or "withheld: the value is " .. reason
  end
  return value
end

-- What a command would be: its channel and record, or why it is withheld.
local function prepare(ctx, watcher, params, item, target)
  -- An action that moves a device needs every input good, unless the rule says on_bad: last.
  local problem = not watcher.last_good and untrusted(ctx, watcher, item)
  if problem then
    return nil, nil, "withheld: " .. problem
  end
  local value
  value, problem = value_of(ctx, watcher, params)
  if problem then
    return nil, nil, problem
  end
  local holder, beaten = conflicts.of(ctx, watcher, target or params)
  if holder then
    return nil, nil, "withheld: rule " .. holder.name .. " of priority " .. json.integer(holder.priority) .. " commands the point"
  end
  local asked = {}
  for name, field in pairs(params) do
    asked[name] = field
  end
  asked.target, asked.value = target or params.target, value
  local ch, spec
  ch, spec, problem = submission.of_rule(ctx, watcher.of or watcher.name, asked)
  return ch, spec, problem, beaten and { "over", json.text("rule " .. beaten.name) } or nil
end

-- The name a model gives the point of its action; a command names its point itself.
local function target_of(params)
  return params.model and "modsrv:" .. params.model .. ":" .. params.action
end

local function command(ctx, watcher, _, params, item)
  local ch, spec, problem, over = prepare(ctx, watcher, params, item, target_of(params))
  if problem then
    return nil, problem
  end
  return commands.enqueue(ctx, ch, spec).id, nil, over
end

local function publish_topic(ctx, watcher, index, params, item)
  local message = words(ctx, watcher, index, params, "message", item, 1024)
  redis.call("PUBLISH", keys.rule_published(ctx.ns, params.topic), json.object({
    "rule", json.text(watcher.name), "at_ms", json.integer(item.at), "seq", ctx.image,
    "message", message and json.text(message) or "null",
    "payload", params.payload ~= nil and cjson.encode(params.payload) or "null", "inputs", item.inputs,
  }))
  return params.topic
end

-- A message to people, by the routes of notification that take its level and tags.
local function nobody(ctx, level)
  return redis.call("HEXISTS", keys.alarm_journal_head(ctx.ns), "wants:" .. level) == 0
    and "no route of notification takes the level " .. level or nil
end

local function notify(ctx, watcher, index, params, item)
  local level = params.level or "Warning"
  local problem = nobody(ctx, level)
  if problem then
    return nil, problem
  end
  outbox.put(ctx.ns, "notice", {
    "number", json.integer(ctx.image), "at_ms", json.integer(item.at), "alarm", watcher.id, "event", "notice",
    "status", "Notice", "level", level, "source", watcher.leaves[1].source,
    "title", words(ctx, watcher, index, params, "message", item, 1024), "value", item.text or "",
    "quality", item.quality or "good", "tags", params.tags and #params.tags > 0 and cjson.encode(params.tags) or "",
  })
  return level
end

-- Rules are switched when all that follows from this moment is through (rulesrv/switching.lua).
local function switch(wanted)
  return function(ctx, watcher, _, params)
    local names = {}
    if params.rule then
      if not ctx.graph.watchers["rule:" .. params.rule] then
        return nil, "NOTFOUND rule " .. params.rule
      end
      names[1] = params.rule
    else
      for _, other in pairs(ctx.graph.watchers) do
        if other.kind == "rule" and other.group == params.group then
          names[#names + 1] = other.name
        end
      end
      table.sort(names)
    end
    ctx.switches = ctx.switches or {}
    for i = 1, #names do
      ctx.switches[#ctx.switches + 1] = { name = names[i], wanted = wanted, by = watcher.name }
    end
    return #names > 0 and table.concat(names, ",") or "no rule is in the group"
  end
end

local EFFECTS = {
  create_alarm = create_alarm, resolve_alarm = resolve_alarm, command = command, model_action = command,
  publish = publish_topic, notify = notify, enable_rule = switch("true"), disable_rule = switch("false"),
}

local function would(text)
  return { "would", json.text(text) }
end

local function switched(word)
  return function(ctx, _, _, params)
    if params.rule and not ctx.graph.watchers["rule:" .. params.rule] then
      return {}, "NOTFOUND rule " .. params.rule
    end
    return would("switch " .. word .. (params.rule and " rule " .. params.rule or " the rules of group " .. params.group))
  end
end

-- What an action would do now, or why it would not: { members }, problem.
local REHEARSALS = {
  create_alarm = function(ctx, watcher, index, params, item)
    local title = words(ctx, watcher, index, params, "title", item, 256)
    return would("raise " .. (params.level or "Warning") .. ": " .. title)
  end,
  publish = function(ctx, watcher, index, params, item)
    local message = words(ctx, watcher, index, params, "message", item, 1024)
    return would("publish on " .. params.topic .. (message and ": " .. message or ""))
  end,
  command = function(ctx, watcher, _, params, item)
    local ch, spec, problem, over = prepare(ctx, watcher, params, item, target_of(params))
    local members = over or {}
    if spec then
      local last = #members
      local value = spec.text and spec.value or numbers.plain(spec.value)
      members[last + 1], members[last + 2] = "would", json.text(
        "command comsrv:" .. ch .. ":" .. spec.type .. ":" .. spec.point .. " to " .. value
      )
    end
    return members, problem
  end,
  resolve_alarm = function(ctx, _, _, params)
    local alarm = records.open(ctx, params.alarm)
    if not alarm then
      return {}, "no alarm is open"
    end
    local row, problem = alarms.asked(ctx, alarm, "resolve")
    return row and would("resolve alarm " .. alarm.id) or {}, problem
  end,
  notify = function(ctx, watcher, index, params, item)
    local level = params.level or "Warning"
    local problem = nobody(ctx, level)
    if problem then
      return {}, problem
    end
    return would("notify " .. level .. ": " .. words(ctx, watcher, index, params, "message", item, 1024))
  end,
  enable_rule = switched("on"), disable_rule = switched("off"),
}
REHEARSALS.model_action = REHEARSALS.command

--- What one action would come to if the rule fired now, as JSON; nothing is written.
function M.rehearse(ctx, watcher, index, item)
  local action = watcher.document.actions[index]
  local members, problem = REHEARSALS[action.type](ctx, watcher, index, action.params, item)
  local all = { "type", json.text(action.type), "problem", problem and json.text(problem) or false }
  for i = 1, #members do
    all[#all + 1] = members[i]
  end
  return json.object(all)
end

--- Carry out one action; returns what it came to, as JSON.
function M.carry_out(ctx, watcher, index, item)
  local action = watcher.document.actions[index]
  local result, problem, more = EFFECTS[action.type](ctx, watcher, index, action.params, item)
  local members = { "type", json.text(action.type), problem and "problem" or "result", json.text(problem or result) }
  if more then
    members[#members + 1], members[#members + 2] = more[1], more[2]
  end
  return json.object(members)
end

return M
