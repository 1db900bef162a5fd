-- Models: devices by the names of their points.
local args = require("lib.args")
local call = require("core.call")
local commands = require("comsrv.records")
local derived = require("core.derived")
local submission = require("comsrv.submission")
local compile = require("modsrv.compile")
local errors = require("lib.errors")
local expansions = require("modsrv.expansion")
local graphs = require("core.graph")
local json = require("lib.json")
local keys = require("lib.keys")
local order = require("lib.order")
local pages = require("lib.pages")
local store = require("modsrv.store")

local M = {}

local MAX_MODELS = 10000

local function stored(ns, id)
  return redis.call("GET", keys.model(ns, id)) or errors.fail("NOTFOUND", "model " .. id)
end

local function template_of(ns, id)
  if id == nil then
    return nil
  end
  local text = redis.call("GET", keys.template(ns, id)) or errors.fail("NOTFOUND", "template " .. id)
  return (compile.template(cjson.decode(text)))
end

local function template_name(text)
  local name = cjson.decode(text).template
  return type(name) == "string" and name or nil
end

--- Create or change a model.
--
-- Its points take the present values at once; names that left go; what watches its points is
-- evaluated. An `auto` offset keeps the span the model has, else takes the channel's first free one.
--
-- KEYS[1]  model
-- ARGV[1]  {id, name, template?, mapping: {channel, data, action, data_offset, action_offset}, metadata?, ...}
-- ARGV[2]  now_ms (optional)
-- Returns  the model, byte for byte as it came (its id is put in front where it is missing)
-- Errors   INVALID   every problem, with the path to its field
--          NOTFOUND  no such template
--          LIMIT     10000 models are stored, or it has more than 2000 names
-- Writes   modsrv:model:{id}, modsrv:models, modsrv:models:by_template:{template}, modsrv:{id}:expanded,
--          modsrv:reverse:{ch}, modsrv:{id}:measurement with :ts and :q, modsrv:{id}:action
-- Example  FCALL model_upsert 1 model_001 '{"name":"Feeder","mapping":{"channel":1001,"data":{"power":1},"action":{"limit":"A:1"}}}'
function M.upsert(ns, id, argv)
  local document, text = args.definition(id, "model", argv[1])
  id = document.id
  local spec, problems = compile.model(document)
  errors.fail_all(problems)
  local ctx = call.begin(ns, argv[2])
  local before_text = redis.call("GET", keys.model(ns, id))
  if not before_text and redis.call("SCARD", keys.models(ns)) >= MAX_MODELS then
    errors.fail("LIMIT", "there are " .. MAX_MODELS .. " models")
  end
  local before = expansions.load(ns, id)
  local expansion = expansions.expand(spec, template_of(ns, spec.template), expansions.occupied(ns, { [id] = true }), before)
  call.accept(ctx)
  local template_before = before_text and template_name(before_text)
  if template_before then
    redis.call("SREM", keys.models_by_template(ns, template_before), id)
  end
  if spec.template then
    redis.call("SADD", keys.models_by_template(ns, spec.template), id)
  end
  redis.call("SET", keys.model(ns, id), text)
  redis.call("SADD", keys.models(ns), id)
  if store.put(ctx, id, spec.template, before, expansion) then
    store.follow(ctx, { [id] = true })
  end
  return call.finish(ctx, text)
end

--- A model.
--
-- KEYS[1]  model
-- Returns  the model as it was stored
-- Errors   NOTFOUND  no such model
-- Example  FCALL model_get 1 model_001
function M.get(ns, id)
  return stored(ns, args.id(id, "model"))
end

--- What a model's names mean.
--
-- KEYS[1]  model
-- Returns  {model, template, channel, data: {name: reference}, action: {name: reference}, data_offset?, action_offset?}
-- Errors   NOTFOUND  no such model
-- Example  FCALL model_expand 1 model_001
function M.expand(ns, id)
  id = args.id(id, "model")
  return redis.call("GET", keys.model_expansion(ns, id)) or errors.fail("NOTFOUND", "model " .. id)
end

--- Which models a point belongs to.
--
-- KEYS[1]  channel
-- ARGV[1]  type, T, S, C or A; without it every mapped point of the channel
-- ARGV[2]  point
-- Returns  {channel, points: {"T:1": [[model, name], ...]}}, empty where no model maps it
-- Errors   INVALID  no such type, or a point that is no number
-- Example  FCALL model_reverse_lookup 1 1001 T 1
function M.reverse_lookup(ns, id, argv)
  local ch = args.channel(id)
  local found
  if argv[1] == nil then
    found = redis.call("HGETALL", keys.reverse(ns, ch))
  else
    local point = args.choice(argv[1], "type", { "T", "S", "C", "A" }) .. ":" .. args.point(argv[2])
    local owners = redis.call("HGET", keys.reverse(ns, ch), point)
    found = owners and { point, owners } or {}
  end
  local parts = {}
  for i = 1, #found, 2 do
    parts[#parts + 1] = '"' .. found[i] .. '":' .. found[i + 1]
  end
  table.sort(parts)
  return '{"channel":' .. ch .. ',"points":{' .. table.concat(parts, ",") .. "}}"
end

--- Delete a model; conditions on its points become unknown.
--
-- KEYS[1]  model
-- ARGV[1]  now_ms (optional)
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such model
-- Writes   every key of the model, modsrv:models, modsrv:models:by_template:{template}, modsrv:reverse:{ch}
-- Example  FCALL model_delete 1 model_001
function M.delete(ns, id, argv)
  id = args.id(id, "model")
  local text = stored(ns, id)
  local ctx = call.begin(ns, argv[1])
  call.accept(ctx)
  local template = template_name(text)
  if template then
    redis.call("SREM", keys.models_by_template(ns, template), id)
  end
  expansions.index(ns, id, expansions.load(ns, id), nil)
  redis.call("DEL", keys.model(ns, id), keys.model_expansion(ns, id), keys.model_sources(ns, id))
  redis.call("SREM", keys.models(ns), id)
  store.forget_values(ns, id)
  derived.drop_model(ctx.graph, id)
  store.follow(ctx, { [id] = true })
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

--- What a model's points were before, oldest first: a query over the past follows it across a change of device.
--
-- KEYS[1]  model
-- Returns  [{until_ms, points: as model_expand gave them until then}, ...]
-- Errors   NOTFOUND  no such model
-- Example  FCALL model_sources 1 model_001
function M.sources(ns, id)
  id = args.id(id, "model")
  stored(ns, id)
  return json.list(redis.call("LRANGE", keys.model_sources(ns, id), 0, -1))
end

--- Models by id.
--
-- ARGV[1]  {template?, limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL model_list 0 '{"limit":20}'
function M.list(ns, _, argv)
  local filter = args.document(argv[1], true)
  local function take(id)
    return redis.call("GET", keys.model(ns, id))
  end
  if filter.template then
    return pages.sorted(keys.models_by_template(ns, args.id(filter.template, "template")), filter, take)
  end
  return pages.definitions(ns, keys.models(ns), filter, take)
end

local function fields(key, names)
  local found = {}
  for start = 1, #names, 1000 do
    local part = redis.call("HMGET", key, unpack(names, start, math.min(start + 999, #names)))
    for i = 1, #part do
      found[start + i - 1] = part[i]
    end
  end
  return found
end

--- A model's present values: every mapped point, whether it was ever seen or not.
--
-- KEYS[1]  model
-- Returns  {model, seq, values: {name: {value, quality, at_ms}}, actions: {name: value last confirmed or null}};
--          value null and quality "missing" where the point was never seen
-- Errors   NOTFOUND  no such model
-- Example  FCALL model_get_values 1 model_001
function M.get_values(ns, id)
  id = args.id(id, "model")
  local expansion = expansions.load(ns, id) or errors.fail("NOTFOUND", "model " .. id)
  local names, parts = order.names(expansion.data), {}
  local values = fields(keys.model_values(ns, id), names)
  local instants = fields(keys.model_values_at(ns, id), names)
  local quality = fields(keys.model_values_quality(ns, id), names)
  for i = 1, #names do
    parts[i] = '"' .. names[i] .. '":' .. json.object({
      "value", values[i] or "null", "quality", json.text(quality[i] or (values[i] and "good" or "missing")),
      "at_ms", instants[i] or "null",
    })
  end
  local actions, action_parts = order.names(expansion.action), {}
  local confirmed = fields(keys.model_actions(ns, id), actions)
  for i = 1, #actions do
    action_parts[i] = '"' .. actions[i] .. '":' .. (confirmed[i] or "null")
  end
  return json.object({
    "model", json.text(id), "seq", redis.call("GET", keys.image(ns)) or "0",
    "values", "{" .. table.concat(parts, ",") .. "}", "actions", "{" .. table.concat(action_parts, ",") .. "}",
  })
end

--- Command a device by a model's action.
--
-- The id is the idempotency key, as in command_submit.
--
-- KEYS[1]  model
-- ARGV[1]  {name, value, id?, source?: {kind, name}, priority?, ttl_ms?, verify?, now_ms?}
-- Returns  the command
-- Errors   NOTFOUND  no such model or action, or the channel does not declare the point
--          INVALID   a field is wrong, or the value is outside the point's limits
--          STATE     the point is tagged, or selected by someone else
--          LIMIT     1000 commands are queued already
-- Writes   as command_submit
-- Example  FCALL model_set_value 1 model_001 '{"name":"limit","value":50}'
function M.set_value(ns, id, argv)
  id = args.id(id, "model")
  local document = args.document(argv[1])
  local name = args.text(document.name, "name", 64) or errors.fail("INVALID", "name is missing")
  if document.id ~= nil then
    local before = commands.load(ns, args.id(document.id, "command id"))
    if before then
      return commands.encode(before)
    end
  end
  local expansion = expansions.load(ns, id) or errors.fail("NOTFOUND", "model " .. id)
  local ref = expansion.action[name] or errors.fail("NOTFOUND", "action " .. name .. " of model " .. id)
  local ch, kind, point = string.match(ref, "^comsrv:(%d+):(%u):(%d+)$")
  local ctx = call.begin(ns, document.now_ms)
  local command = submission.prepare(ctx, ch, {
    id = document.id, type = kind, point = point, value = document.value, priority = document.priority,
    ttl_ms = document.ttl_ms, verify = document.verify, source = document.source or { kind = "model", name = id },
  })
  call.accept(ctx)
  command = commands.enqueue(ctx, ch, command)
  return call.finish(ctx, commands.encode(command))
end

local function count_names(graph, model, counts)
  for name, slot in pairs(graph.models[model] or {}) do
    for i = 1, #(slot.targets or {}) do
      local target = slot.targets[i]
      if target.model == model and target.name == name then
        if target.action then
          counts.actions = counts.actions + 1
        else
          counts.points = counts.points + 1
          local state = slot.quality and string.match(slot.quality, "^%a+") or (slot.value ~= nil and "good") or "missing"
          counts[state] = counts[state] + 1
        end
      end
    end
  end
end

--- Counts of all models and their points, or of one.
--
-- KEYS[1]  model (optional)
-- Returns  {models, templates, points, actions, good, uncertain, bad, missing}
-- Errors   NOTFOUND  no such model
-- Example  FCALL model_stats 0
function M.stats(ns, id)
  local graph = graphs.open(ns)
  local counts = { points = 0, actions = 0, good = 0, uncertain = 0, bad = 0, missing = 0 }
  if id then
    stored(ns, args.id(id, "model"))
    count_names(graph, id, counts)
  else
    for model in pairs(graph.models) do
      count_names(graph, model, counts)
    end
  end
  return json.object({
    "model", id and json.text(id), "models", not id and redis.call("SCARD", keys.models(ns)),
    "templates", not id and redis.call("SCARD", keys.templates(ns)), "points", counts.points, "actions", counts.actions,
    "good", counts.good, "uncertain", counts.uncertain, "bad", counts.bad, "missing", counts.missing,
  })
end

return M
