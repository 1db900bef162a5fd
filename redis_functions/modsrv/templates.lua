-- Templates: what a class of device has, and at which point ids.
local args = require("lib.args")
local call = require("core.call")
local compile = require("modsrv.compile")
local errors = require("lib.errors")
local expansions = require("modsrv.expansion")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local store = require("modsrv.store")

local M = {}

local MAX_TEMPLATES = 1000
-- A change of a template expands its models in the same call, so their number is bounded.
local MAX_USERS = 1000
local MAX_USER_NAMES = 10000

local function stored(ns, id)
  return redis.call("GET", keys.template(ns, id)) or errors.fail("NOTFOUND", "template " .. id)
end

-- The models of a template and what each would become. Refuses before anything is written.
local function plan(ns, id, template)
  local users = redis.call("SMEMBERS", keys.models_by_template(ns, id))
  if #users > MAX_USERS then
    errors.fail("LIMIT", "template " .. id .. " has " .. #users .. " models, a change takes at most " .. MAX_USERS)
  end
  table.sort(users)
  local concerned, planned, names = {}, {}, 0
  for i = 1, #users do
    concerned[users[i]] = true
  end
  local occupied = expansions.occupied(ns, concerned)
  for i = 1, #users do
    local document = args.document(redis.call("GET", keys.model(ns, users[i])))
    document.id = users[i]
    local before = expansions.load(ns, users[i])
    local expansion = expansions.expand((compile.model(document)), template, occupied, before)
    names = names + expansion.count
    planned[i] = { id = users[i], before = before, expansion = expansion }
  end
  if names > MAX_USER_NAMES then
    errors.fail("LIMIT", "the models of template " .. id .. " have " .. names .. " names, a change takes at most " .. MAX_USER_NAMES)
  end
  return planned
end

--- Create or change a template; its models are expanded anew in the same call.
--
-- KEYS[1]  template
-- ARGV[1]  {id, name, class?, description?, data_points: {name: {base_id, kind?, unit?, description?, value_map?}}, actions: {...}, ...}
-- ARGV[2]  now_ms (optional)
-- Returns  the template, byte for byte as it came (its id is put in front where it is missing)
-- Errors   INVALID  every problem, with the path to its field; or a model of it could not be expanded
--          LIMIT    1000 templates are stored, or its models have more than 10000 names
-- Writes   modsrv:template:{id}, modsrv:templates, and of its models what model_upsert writes
-- Example  FCALL template_upsert 1 meter '{"name":"Meter","data_points":{"active_power":{"base_id":1,"unit":"kW"}}}'
function M.upsert(ns, id, argv)
  local document, text = args.definition(id, "template", argv[1])
  id = document.id
  local template, problems = compile.template(document)
  errors.fail_all(problems)
  local ctx = call.begin(ns, argv[2])
  if redis.call("SISMEMBER", keys.templates(ns), id) == 0 and redis.call("SCARD", keys.templates(ns)) >= MAX_TEMPLATES then
    errors.fail("LIMIT", "there are " .. MAX_TEMPLATES .. " templates")
  end
  local planned = plan(ns, id, template)
  call.accept(ctx)
  redis.call("SET", keys.template(ns, id), text)
  redis.call("SADD", keys.templates(ns), id)
  local changed = {}
  for i = 1, #planned do
    if store.put(ctx, planned[i].id, id, planned[i].before, planned[i].expansion) then
      changed[planned[i].id] = true
    end
  end
  if next(changed) then
    store.follow(ctx, changed)
  end
  return call.finish(ctx, text)
end

--- A template.
--
-- KEYS[1]  template
-- Returns  the template as it was stored
-- Errors   NOTFOUND  no such template
-- Example  FCALL template_get 1 meter
function M.get(ns, id)
  return stored(ns, args.id(id, "template"))
end

--- Templates by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL template_list 0
function M.list(ns, _, argv)
  return pages.sorted(keys.templates(ns), args.document(argv[1], true), function(id)
    return redis.call("GET", keys.template(ns, id))
  end)
end

--- Delete a template that no model uses.
--
-- KEYS[1]  template
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such template
--          STATE     models use it
-- Writes   modsrv:template:{id}, modsrv:templates
-- Example  FCALL template_delete 1 meter
function M.delete(ns, id)
  id = args.id(id, "template")
  stored(ns, id)
  local users = redis.call("SCARD", keys.models_by_template(ns, id))
  if users > 0 then
    errors.fail("STATE", "template " .. id .. " is used by " .. users .. " models")
  end
  local ctx = call.begin(ns)
  call.accept(ctx)
  redis.call("DEL", keys.template(ns, id))
  redis.call("SREM", keys.templates(ns), id)
  return call.finish(ctx, json.object({ "deleted", json.text(id) }))
end

return M
