-- Networks: where values are forwarded to, and from where commands may come. Secrets are never
-- among them: a network names an entry of `secrets` in netsrv's own configuration.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local state = require("netsrv.state")

local M = {}

M.MAX = 100
local TYPES = {
  id = "string", type = "string", description = "string", enabled = "boolean", secret = "string", tls = "table",
  queue = "table", retry = "table", timeout_s = "number", version = "number", author = "string", reason = "string",
  hash = "string", requires_approval = "boolean", created_at_ms = "number", updated_at_ms = "number",
}
local OWN = {
  mqtt = {
    host = "string", port = "number", client_id = "string", keepalive_s = "number", status_topic = "string",
    window = "number", commands = "table",
  },
  http = { url = "string", method = "string", headers = "table", token_header = "string" },
}

local LIMITS = {
  description = { 0, 1000, "text" }, timeout_s = { 0.001, 300, "number" }, host = { 1, 253, "text" }, port = { 1, 65535 },
  client_id = { 1, 64, "text" }, keepalive_s = { 5, 3600 }, status_topic = { 1, 1024, "text" }, window = { 1, 100 },
  url = { 1, 2048, "text" },
}
local INNER = {
  queue = { max_bytes = { 10000, 100000000000 } },
  retry = { first_ms = { 10, 60000 }, max_ms = { 10, 3600000 } },
  commands = {
    topic = { 1, 1024, "text" }, response_topic = { 1, 1024, "text" }, ttl_ms = { 100, 600000 }, max_ttl_ms = { 100, 600000 },
  },
}

local function check_limits(document, problems)
  args.check_limits(document, LIMITS, "", problems)
  for name, limits in pairs(INNER) do
    if type(document[name]) == "table" then
      args.check_limits(document[name], limits, name .. ".", problems)
    end
  end
  if document.method ~= nil and document.method ~= "POST" and document.method ~= "PUT" then
    problems[#problems + 1] = "method must be POST or PUT"
  end
end

local function check(id, document)
  local problems = {}
  local own = OWN[document.type]
  if not own then
    errors.fail("INVALID", "type must be one of mqtt, http")
  end
  for name in pairs(document) do
    if not TYPES[name] and not own[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, TYPES, "", problems)
  args.check_types(document, own, "", problems)
  if #problems == 0 then
    check_limits(document, problems)
  end
  if document.id ~= nil and document.id ~= id then
    problems[#problems + 1] = "id is not the key's " .. id
  end
  if document.type == "mqtt" and document.host == nil then
    problems[#problems + 1] = "host is missing"
  end
  if document.type == "http" and not string.find(tostring(document.url), "^https?://[^/@]+") then
    problems[#problems + 1] = "url must start with http:// or https:// and a host"
  elseif document.type == "http" and string.find(document.url, "^https?://[^/]*@") then
    problems[#problems + 1] = "url must hold no password; name a secret"
  end
  table.sort(problems)
  errors.fail_all(problems)
  if document.secret ~= nil then
    args.id(document.secret, "secret")
  end
end

--- Create or change a network.
--
-- It holds no secrets: `secret` names an entry of `secrets` in config/netsrv.yaml or the environment.
--
-- KEYS[1]  network
-- ARGV[1]  {type mqtt, host, port?, client_id?, tls? {ca_file, cert_file, key_file}, secret?, status_topic?,
--          commands? {topic, response_topic, allow [patterns]}, queue? {max_bytes}, retry?, enabled?}
--          or {type http, url, method?, headers?, tls?, secret?, timeout_s?, queue?, retry?, enabled?}
-- Returns  the network as stored, with its id
-- Errors   INVALID  every field that is wrong
--          LIMIT    there are 100 networks
-- Writes   netsrv:network:{id}, netsrv:networks, netsrv:state, hissrv:queue (its groups)
-- Example  FCALL network_upsert 1 cloud '{"type":"mqtt","host":"127.0.0.1","port":1883}'
function M.upsert(ns, id, argv)
  id = args.id(id, "network")
  local document = args.document(argv[1])
  check(id, document)
  if redis.call("SCARD", keys.networks(ns)) >= M.MAX and redis.call("EXISTS", keys.network(ns, id)) == 0 then
    errors.fail("LIMIT", "there are " .. M.MAX .. " networks")
  end
  local text = json.with_id(argv[1], document, id)
  redis.call("SET", keys.network(ns, id), text)
  redis.call("SADD", keys.networks(ns), id)
  state.changed(ns)
  return text
end

--- A network.
--
-- KEYS[1]  network
-- Returns  the network
-- Errors   NOTFOUND  no such network
-- Example  FCALL network_get 1 cloud
function M.get(ns, id)
  return redis.call("GET", keys.network(ns, args.id(id, "network"))) or errors.fail("NOTFOUND", "network " .. id)
end

--- Networks by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL network_list 0
function M.list(ns, _, argv)
  return pages.sorted(keys.networks(ns), args.document(argv[1], true), function(one)
    return redis.call("GET", keys.network(ns, one))
  end)
end

--- Delete a network that no route uses.
--
-- KEYS[1]  network
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such network
--          STATE     a route uses it
-- Writes   netsrv:network:{id}, netsrv:networks, netsrv:state, hissrv:queue (its groups)
-- Example  FCALL network_delete 1 cloud
function M.delete(ns, id)
  id = args.id(id, "network")
  if redis.call("EXISTS", keys.network(ns, id)) == 0 then
    errors.fail("NOTFOUND", "network " .. id)
  end
  local routes = redis.call("SMEMBERS", keys.routes(ns))
  table.sort(routes)
  for i = 1, #routes do
    local text = redis.call("GET", keys.route(ns, routes[i]))
    if text and args.decode(text).network == id then
      errors.fail("STATE", "route " .. routes[i] .. " uses network " .. id)
    end
  end
  redis.call("DEL", keys.network(ns, id))
  redis.call("SREM", keys.networks(ns), id)
  state.changed(ns)
  return json.object({ "deleted", json.text(id) })
end

return M
