-- Mappings: which points are recorded, and how. Without any, every T and S point is.
local args = require("lib.args")
local errors = require("lib.errors")
local keys = require("lib.keys")
local pages = require("lib.pages")

local M = {}

local KNOWN = {
  id = true, source = true, measurement = true, tags = true, fields = true, transform = true, sampling = true,
  interval_ms = true, deadband = true, retention_days = true, enabled = true, description = true, version = true, author = true,
  reason = true, hash = true, requires_approval = true, created_at_ms = true, updated_at_ms = true,
}
local LIMITS = {
  measurement = { 1, 64, "text" }, description = { 0, 1000, "text" }, interval_ms = { 1, 86400000 }, retention_days = { 0, 36500 },
}
local PLACES = { service = true, owner = true, channel = true, model = true, type = true, point = true }

local function check_texts(document, name, problems, valid)
  local map = document[name]
  if map == nil then
    return
  end
  if type(map) ~= "table" then
    problems[#problems + 1] = name .. " must be an object"
    return
  end
  for key, value in pairs(map) do
    if type(key) ~= "string" or key == "" or type(value) ~= "string" or #value > 256 then
      problems[#problems + 1] = name .. " must map texts to texts"
    elseif valid then
      valid(key, value)
    end
  end
end

local function check_transform(transform, problems)
  if transform == nil then
    return
  end
  if type(transform) ~= "table" then
    problems[#problems + 1] = "transform must be {scale?, offset?}"
    return
  end
  for name, value in pairs(transform) do
    if (name ~= "scale" and name ~= "offset") or type(value) ~= "number" then
      problems[#problems + 1] = "transform must be {scale?, offset?} with numbers"
    end
  end
end

local function check(id, document)
  local problems = {}
  local function say(condition, text)
    if not condition then
      problems[#problems + 1] = text
    end
  end
  for name in pairs(document) do
    say(KNOWN[name], tostring(name) .. " is unknown")
  end
  say(document.id == nil or document.id == id, "id is not the key's " .. id)
  local source = document.source
  say(
    type(source) == "string" and #source <= 256 and string.find(source, "^[%w_%-:%*%?]+$"),
    "source must be a pattern over references, as comsrv:1001:T:*"
  )
  check_texts(document, "tags", problems, function(name, value)
    for place in string.gmatch(value, "{(.-)}") do
      say(PLACES[place], "tags." .. name .. ": {" .. place .. "} is none of service, owner, channel, model, type, point")
    end
  end)
  check_texts(document, "fields", problems)
  check_transform(document.transform, problems)
  args.check_limits(document, LIMITS, "", problems)
  say(document.sampling == nil or document.sampling == "on_change" or document.sampling == "interval",
    "sampling must be on_change or interval")
  say(document.sampling ~= "interval" or document.interval_ms, "sampling by interval needs interval_ms")
  say(document.deadband == nil or (type(document.deadband) == "number" and document.deadband >= 0),
    "deadband must be a number of at least 0")
  say(document.enabled == nil or type(document.enabled) == "boolean", "enabled must be true or false")
  table.sort(problems)
  errors.fail_all(problems)
end

-- The token is new at each change, so that a consumer notices at its next batch.
local function changed(ns)
  local time = redis.call("TIME")
  local size = keys.history_size(ns)
  local turn = redis.call("HINCRBY", size, "turns", 1)
  redis.call("HSET", size, "mappings", time[1] .. "." .. time[2] .. "." .. string.format("%.0f", turn))
end

--- Create or change a mapping.
--
-- Of the enabled mappings whose source matches a reference, the first by id decides.
--
-- KEYS[1]  mapping
-- ARGV[1]  {source, measurement? (telemetry), tags? {name: text with {channel}, {point}, ...}, fields?
--          {point or reference: field name}, transform? {scale, offset}, sampling? (on_change|interval),
--          interval_ms?, deadband?, retention_days?, enabled?}
-- Returns  the mapping as stored, with its id
-- Errors   INVALID  every field that is wrong
-- Writes   hissrv:mapping:{id}, hissrv:mappings, hissrv:queue:size
-- Example  FCALL configure_mapping 1 all '{"source":"comsrv:1001:T:*","tags":{"site":"north"}}'
function M.configure(ns, id, argv)
  id = args.id(id, "mapping")
  local document = args.document(argv[1])
  check(id, document)
  local text = argv[1]
  if document.id == nil then
    text = string.gsub(text, "^%s*{", '{"id":"' .. id .. '",', 1)
  end
  redis.call("SET", keys.mapping(ns, id), text)
  redis.call("SADD", keys.mappings(ns), id)
  changed(ns)
  return text
end

--- Mappings by id; with a key, that one.
--
-- KEYS[1]  mapping (optional)
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}, or the mapping
-- Errors   NOTFOUND  no such mapping
-- Example  FCALL mapping_list 0
function M.list(ns, id, argv)
  if id then
    return redis.call("GET", keys.mapping(ns, id)) or errors.fail("NOTFOUND", "mapping " .. id)
  end
  return pages.sorted(keys.mappings(ns), args.document(argv[1], true), function(one)
    return redis.call("GET", keys.mapping(ns, one))
  end)
end

--- Delete a mapping; what it recorded stays.
--
-- KEYS[1]  mapping
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such mapping
-- Writes   hissrv:mapping:{id}, hissrv:mappings, hissrv:queue:size
-- Example  FCALL mapping_delete 1 all
function M.delete(ns, id)
  id = args.id(id, "mapping")
  if redis.call("DEL", keys.mapping(ns, id)) == 0 then
    errors.fail("NOTFOUND", "mapping " .. id)
  end
  redis.call("SREM", keys.mappings(ns), id)
  changed(ns)
  return '{"deleted":"' .. id .. '"}'
end

return M
