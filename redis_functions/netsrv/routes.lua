-- Routes: which points go to which network, when, and how they are written.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local state = require("netsrv.state")

local M = {}

M.MAX = 500
local TYPES = {
  id = "string", network = "string", source = "string", target = "string", formatter = "string", trigger = "string",
  interval_ms = "number", qos = "number", retain = "boolean", enabled = "boolean", separator = "string",
  description = "string", version = "number", author = "string", reason = "string", hash = "string", requires_approval = "boolean",
  created_at_ms = "number", updated_at_ms = "number",
}
local LIMITS = {
  description = { 0, 1000, "text" }, target = { 0, 1024, "text" }, separator = { 0, 16, "text" },
  interval_ms = { 100, 86400000 },
}
-- What a template may name: in the target only what is the same for a whole message.
local PLACES = { service = true, owner = true, channel = true, model = true, type = true, point = true, route = true, network = true }
local FIELDS = { ref = true, value = true, quality = true, at_ms = true, time = true, image = true }

local function check_places(text, what, fields, problems)
  for inside in string.gmatch(text, "{(.-)}") do
    local name = string.match(inside, "^([%w_]+)$") or string.match(inside, "^([%w_]+):") or ""
    if not PLACES[name] and not (fields and FIELDS[name]) then
      problems[#problems + 1] = what .. ": {" .. inside .. "} is no field"
    end
  end
end

local function check_template(document, problems)
  local template = document.template
  if type(template) == "string" then
    check_places(template, "template", true, problems)
  elseif type(template) == "table" then
    for name, text in pairs(template) do
      if type(name) ~= "string" or type(text) ~= "string" then
        problems[#problems + 1] = "template must map texts to texts"
      else
        check_places(text, "template." .. name, true, problems)
      end
    end
  elseif template ~= nil then
    problems[#problems + 1] = "template must be a text or an object of texts"
  end
  if document.formatter == "ascii" and type(template) ~= "string" then
    problems[#problems + 1] = "formatter ascii needs a template that is a text"
  elseif document.formatter ~= "ascii" and type(template) == "string" then
    problems[#problems + 1] = "formatter json takes a template that is an object, or none"
  end
end

local function one_of(document, name, choices, problems)
  local value = document[name]
  for i = 1, #choices do
    if value == nil or value == choices[i] then
      return
    end
  end
  problems[#problems + 1] = name .. " must be one of " .. table.concat(choices, ", ")
end

local function check(id, document)
  local problems = {}
  for name in pairs(document) do
    if not TYPES[name] and name ~= "template" then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, TYPES, "", problems)
  if #problems == 0 then
    args.check_limits(document, LIMITS, "", problems)
  end
  if document.id ~= nil and document.id ~= id then
    problems[#problems + 1] = "id is not the key's " .. id
  end
  local source = document.source
  if type(source) ~= "string" or #source > 256 or not string.find(source, "^[%w_%-:%*%?]+$") then
    problems[#problems + 1] = "source must be a pattern over references, as comsrv:1001:T:*"
  end
  one_of(document, "formatter", { "json", "ascii" }, problems)
  one_of(document, "trigger", { "change", "interval" }, problems)
  one_of(document, "qos", { 0, 1 }, problems)
  if document.trigger == "interval" and document.interval_ms == nil then
    problems[#problems + 1] = "trigger interval needs interval_ms"
  end
  if type(document.target) == "string" then
    check_places(document.target, "target", false, problems)
  end
  check_template(document, problems)
  table.sort(problems)
  errors.fail_all(problems)
end

--- Create or change a route.
--
-- Templates name fields and nothing else: {ref}, {service}, {owner}, {channel}, {model}, {type}, {point}, {value},
-- {quality}, {at_ms}, {time}, {image}, {route}, {network}. Points whose target reads the same share a message.
--
-- KEYS[1]  route
-- ARGV[1]  {network, source (a pattern), target? (MQTT topic, or what follows the URL), formatter? (json|ascii),
--          template?, separator?, trigger? (change|interval), interval_ms?, qos?, retain?, enabled?}
-- Returns  the route as stored, with its id
-- Errors   INVALID   every field that is wrong
--          NOTFOUND  no such network
--          LIMIT     there are 500 routes
-- Writes   netsrv:route:{id}, netsrv:routes, netsrv:state, hissrv:queue (its groups)
-- Example  FCALL route_upsert 1 meters '{"network":"cloud","source":"comsrv:1001:T:*","target":"site/{channel}"}'
function M.upsert(ns, id, argv)
  id = args.id(id, "route")
  local document = args.document(argv[1])
  check(id, document)
  local network = args.id(document.network, "network")
  if redis.call("EXISTS", keys.network(ns, network)) == 0 then
    errors.fail("NOTFOUND", "network " .. network)
  end
  if redis.call("SCARD", keys.routes(ns)) >= M.MAX and redis.call("EXISTS", keys.route(ns, id)) == 0 then
    errors.fail("LIMIT", "there are " .. M.MAX .. " routes")
  end
  local text = json.with_id(argv[1], document, id)
  redis.call("SET", keys.route(ns, id), text)
  redis.call("SADD", keys.routes(ns), id)
  state.changed(ns)
  return text
end

--- A route.
--
-- KEYS[1]  route
-- Returns  the route
-- Errors   NOTFOUND  no such route
-- Example  FCALL route_get 1 meters
function M.get(ns, id)
  return redis.call("GET", keys.route(ns, args.id(id, "route"))) or errors.fail("NOTFOUND", "route " .. id)
end

--- Routes by id.
--
-- ARGV[1]  {network?, limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL route_list 0 '{"network":"cloud"}'
function M.list(ns, _, argv)
  local filter = args.document(argv[1], true)
  return pages.sorted(keys.routes(ns), filter, function(one)
    local text = redis.call("GET", keys.route(ns, one))
    return (not filter.network or args.decode(text).network == filter.network) and text or nil
  end)
end

--- Delete a route. With the last one that wants changes, netsrv stops to hold the queue.
--
-- KEYS[1]  route
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such route
-- Writes   netsrv:route:{id}, netsrv:routes, netsrv:state, hissrv:queue (its groups)
-- Example  FCALL route_delete 1 meters
function M.delete(ns, id)
  id = args.id(id, "route")
  if redis.call("DEL", keys.route(ns, id)) == 0 then
    errors.fail("NOTFOUND", "route " .. id)
  end
  redis.call("SREM", keys.routes(ns), id)
  state.changed(ns)
  return json.object({ "deleted", json.text(id) })
end

return M
