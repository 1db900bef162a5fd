-- Routes of notification: who is told what about which alarms.
local args = require("lib.args")
local compile = require("alarmsrv.compile")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local order = require("lib.order")
local outbox = require("alarmsrv.outbox")
local pages = require("lib.pages")

local M = {}

M.MAX = 200
local MAX_STEPS = 5
local STEP = { after_s = { 1, 86400 } }
local TEXTS = { name = { 0, 256, "text" } }
local MAX_TARGETS = 50
local KNOWN_EVENTS = {
  "raised", "recurred", "realarmed", "acknowledged", "returned", "latched", "resolved", "shelved", "unshelved",
  "suppressed", "unsuppressed", "out_of_service", "in_service",
}
local FORMS = { email = "^[^%s@]+@[^%s@]+$", webhook = "^[%w_%-]+$", mqtt = "^[^+#%c]+$" }
local TYPES = {
  id = "string", name = "string", enabled = "boolean", levels = "table", tags = "table", events = "table",
  to = "table", schedule = "table", escalation = "table", version = "number", author = "string", reason = "string",
  hash = "string", requires_approval = "boolean", created_at_ms = "number", updated_at_ms = "number",
}
local EVENTS = { "raised", "recurred", "realarmed" }
-- An Info is an event: a route that wants it names it.
local LEVELS = { "Critical", "Major", "Minor", "Warning" }

local function check_choices(document, name, choices, problems)
  local known = "," .. table.concat(choices, ",") .. ","
  for i, item in ipairs(document[name] or {}) do
    if not string.find(known, "," .. tostring(item) .. ",", 1, true) then
      problems[#problems + 1] = name .. "[" .. (i - 1) .. "] must be one of " .. table.concat(choices, ", ")
    end
  end
end

local function check_targets(list, path, problems)
  if type(list) ~= "table" or #list == 0 or #list > MAX_TARGETS then
    problems[#problems + 1] = path .. " must be a list of 1 to " .. MAX_TARGETS .. " targets"
    return
  end
  for i = 1, #list do
    local way, place = string.match(type(list[i]) == "string" and #list[i] <= 320 and list[i] or "", "^(%l+):(.*)$")
    if not FORMS[way] or not string.find(place, FORMS[way]) then
      problems[#problems + 1] = path .. "[" .. (i - 1) .. "] must be email:{address}, webhook:{name} or mqtt:{topic}"
    end
  end
end

local function check_steps(document, problems)
  local steps = document.escalation or {}
  if #steps > MAX_STEPS then
    problems[#problems + 1] = "escalation has at most " .. MAX_STEPS .. " steps"
  end
  for i, step in ipairs(steps) do
    local path = "escalation[" .. (i - 1) .. "]"
    if type(step) ~= "table" or step.after_s == nil then
      problems[#problems + 1] = path .. ".after_s is missing"
    else
      args.check_limits(step, STEP, path .. ".", problems)
      check_targets(step.to, path .. ".to", problems)
    end
  end
end

local function check(document)
  local problems = {}
  for name in pairs(document) do
    if not TYPES[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, TYPES, "", problems)
  if #problems == 0 then
    args.check_limits(document, TEXTS, "", problems)
    compile.check_tags(document.tags or {}, problems)
    check_choices(document, "levels", compile.LEVELS, problems)
    check_choices(document, "events", KNOWN_EVENTS, problems)
    if document.events and #document.events == 0 then
      problems[#problems + 1] = "events must name one, or be left out"
    end
    check_targets(document.to, "to", problems)
    check_steps(document, problems)
  end
  table.sort(problems)
  errors.fail_all(problems)
end

local function gather(ns)
  local wants, steps, any = {}, {}, false
  local ids = redis.call("SMEMBERS", keys.alarm_routes(ns))
  table.sort(ids)
  for i = 1, #ids do
    local route = args.decode(redis.call("GET", keys.alarm_route(ns, ids[i])))
    if route.enabled ~= false then
      any = true
      local tags = type(route.tags) == "table" and route.tags or {}
      local levels = type(route.levels) == "table" and #route.levels > 0 and route.levels or LEVELS
      for _, level in ipairs(levels) do
        wants[level], steps[level] = wants[level] or {}, steps[level] or {}
        for _, event in ipairs(type(route.events) == "table" and #route.events > 0 and route.events or EVENTS) do
          wants[level][event] = true
        end
        for _, step in ipairs(outbox.steps_of(route)) do
          local encoded = #tags > 0 and cjson.encode(tags) or "[]"
          table.insert(steps[level], "[" .. string.format("%.0f", step.after_s * 1000) .. "," .. encoded .. "]")
        end
      end
    end
  end
  return wants, steps, any
end

-- What transitions look at follows from all routes.
local function changed(ns)
  local wants, steps, any = gather(ns)
  local head = keys.alarm_journal_head(ns)
  for _, level in ipairs(compile.LEVELS) do
    local events = order.names(wants[level] or {})
    if #events > 0 then
      redis.call("HSET", head, "wants:" .. level, "," .. table.concat(events, ",") .. ",")
    else
      redis.call("HDEL", head, "wants:" .. level)
    end
    if steps[level] and #steps[level] > 0 then
      redis.call("HSET", head, "escalate:" .. level, json.list(steps[level]))
    else
      redis.call("HDEL", head, "escalate:" .. level)
    end
  end
  if any and redis.call("EXISTS", keys.alarm_outbox(ns)) == 0 then
    redis.call("XGROUP", "CREATE", keys.alarm_outbox(ns), outbox.GROUP, "0", "MKSTREAM")
  end
end

--- Create or change a route of notification.
--
-- Transitions of its levels and tags go to the outbox; alarmsrv sends them to whom the route names.
-- Without levels it is for all but Info, without tags for every alarm, without events for raised, recurred and realarmed.
--
-- KEYS[1]  route
-- ARGV[1]  {to: [target], levels?, tags?, events?, schedule?, escalation? [{after_s, to}], enabled?, name?}
-- Returns  the route as stored, with its id
-- Errors   INVALID  every field that is wrong
--          LIMIT    there are 200 routes
-- Writes   alarmsrv:route:{id}, alarmsrv:routes, alarmsrv:journal:head, alarmsrv:outbox
-- Example  FCALL alarm_route_upsert 1 shift '{"levels":["Critical"],"to":["email:shift@example.com"]}'
function M.upsert(ns, id, argv)
  local document, text = args.definition(id, "route", argv[1])
  check(document)
  local key = keys.alarm_route(ns, document.id)
  if redis.call("SCARD", keys.alarm_routes(ns)) >= M.MAX and redis.call("EXISTS", key) == 0 then
    errors.fail("LIMIT", "there are " .. M.MAX .. " routes")
  end
  redis.call("SET", key, text)
  redis.call("SADD", keys.alarm_routes(ns), document.id)
  changed(ns)
  return text
end

--- A route of notification.
--
-- KEYS[1]  route
-- Returns  the route
-- Errors   NOTFOUND  no such route
-- Example  FCALL alarm_route_get 1 shift
function M.get(ns, id)
  return redis.call("GET", keys.alarm_route(ns, args.id(id, "route"))) or errors.fail("NOTFOUND", "route " .. id)
end

--- Routes of notification by id.
--
-- ARGV[1]  {limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL alarm_route_list 0 '{}'
function M.list(ns, _, argv)
  return pages.sorted(keys.alarm_routes(ns), args.document(argv[1], true), function(one)
    return redis.call("GET", keys.alarm_route(ns, one)) or nil
  end)
end

--- Delete a route of notification. With the last one transitions stop to write the outbox.
--
-- KEYS[1]  route
-- Returns  {deleted: id}
-- Errors   NOTFOUND  no such route
-- Writes   alarmsrv:route:{id}, alarmsrv:routes, alarmsrv:journal:head
-- Example  FCALL alarm_route_delete 1 shift
function M.delete(ns, id)
  id = args.id(id, "route")
  if redis.call("DEL", keys.alarm_route(ns, id)) == 0 then
    errors.fail("NOTFOUND", "route " .. id)
  end
  redis.call("SREM", keys.alarm_routes(ns), id)
  changed(ns)
  return json.object({ "deleted", json.text(id) })
end

return M
