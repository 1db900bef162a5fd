-- What services report about the system, and which system alarms a site wants.
local args = require("lib.args")
local call = require("core.call")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local order = require("lib.order")
local replay = require("core.replay")
local system_alarms = require("core.system_alarms")

local M = {}

local MAX_REPORTS = 1000
local REPORT = { reporter = true, wrong = true, happened = true, now_ms = true }
local ITEM = { alarm = true, id = true, detail = true }
local SETTING = { enabled = true, level = true, on_delay_ms = true, off_delay_ms = true }
local LEVELS = { "Critical", "Major", "Minor", "Warning", "Info" }
-- What services may report; the rest is noticed by the functions themselves.
local REPORTED = { "service", "functions", "store", "disk", "persistence", "network", "forwarding", "notification" }
local MAX_DELAY_MS = 86400000

local function items(list, what)
  if list == nil then
    return {}
  end
  if type(list) ~= "table" or (next(list) ~= nil and #list == 0) then
    errors.fail("INVALID", what .. " must be a list")
  elseif #list > MAX_REPORTS then
    errors.fail("LIMIT", what .. " has " .. #list .. " items, at most " .. MAX_REPORTS .. " are taken")
  end
  local found = {}
  for i = 1, #list do
    local path, item = what .. "[" .. (i - 1) .. "]", args.object(list[i], what .. "[" .. (i - 1) .. "]")
    args.only(item, ITEM)
    found[i] = {
      name = args.choice(item.alarm, path .. ".alarm", REPORTED),
      id = item.id ~= nil and args.id(item.id, path .. ".id") or "",
      detail = args.text(item.detail, path .. ".detail", 512) or "",
    }
  end
  return found
end

--- Report what is wrong with the system: all that a reporter knows of, repeated every few seconds.
--
-- What the list named before and names no more is over. A reporter that is silent for 30 s leaves
-- its alarms uncertain, after ten minutes more they end.
--
-- ARGV[1]  {reporter, wrong: [{alarm, id?, detail?}], happened?: [{alarm, id?, detail?}], now_ms?}
-- Returns  {now_ms}
-- Errors   INVALID  an unknown alarm, or one that services do not report
--          LIMIT    more than 1000 items
-- Writes   alarms, voltage:system:conditions
-- Example  FCALL alarm_system 0 '{"reporter":"netsrv","wrong":[{"alarm":"network","id":"cloud","detail":"refused"}]}'
function M.report(ns, _, argv)
  local document = args.document(argv[1])
  args.only(document, REPORT)
  local reporter = args.id(document.reporter, "reporter")
  local wrong, happened = items(document.wrong, "wrong"), items(document.happened, "happened")
  local ctx = call.begin(ns, document.now_ms)
  -- A delay begins or a silence ends also where no image number is taken.
  replay.effect()
  system_alarms.heard(ctx, reporter, wrong)
  for i = 1, #happened do
    system_alarms.note(ctx, happened[i].name, happened[i].id, happened[i].detail)
  end
  return call.finish(ctx, json.object({ "now_ms", json.integer(ctx.now) }))
end

local function check_setting(name, set)
  args.choice(name, "alarm", order.names(system_alarms.KINDS))
  args.object(set, name)
  for field in pairs(set) do
    if not SETTING[field] then
      errors.fail("INVALID", name .. "." .. tostring(field) .. " is unknown")
    end
  end
  if set.level ~= nil then
    args.choice(set.level, name .. ".level", LEVELS)
  end
  if set.enabled ~= nil and type(set.enabled) ~= "boolean" then
    errors.fail("INVALID", name .. ".enabled must be true or false")
  end
  for _, delay in ipairs({ "on_delay_ms", "off_delay_ms" }) do
    args.integer(set[delay], name .. "." .. delay, 0, MAX_DELAY_MS, 0)
  end
  return cjson.encode(set)
end

--- Say which system alarms the site wants, and how; what is not named is as built in.
--
-- An alarm that is switched off ends at the next report of its condition.
--
-- ARGV[1]  {alarm: {enabled?, level?, on_delay_ms?, off_delay_ms?}, ...}, the whole of it
-- Returns  as alarm_system_list
-- Errors   INVALID  an unknown alarm, field or level; nothing is changed
-- Writes   voltage:system:settings
-- Example  FCALL alarm_system_configure 0 '{"network":{"level":"Major"},"command":{"enabled":false}}'
function M.configure(ns, _, argv)
  local document = args.document(argv[1], true)
  local flat = {}
  for name, set in pairs(document) do
    flat[#flat + 1] = name
    flat[#flat + 1] = check_setting(name, set)
  end
  redis.call("DEL", keys.system_settings(ns))
  if #flat > 0 then
    redis.call("HSET", keys.system_settings(ns), unpack(flat))
  end
  return M.list(ns)
end

--- The system alarms, with the site's settings.
--
-- Returns  [{alarm, enabled, level, on_delay_ms, off_delay_ms, once, title, remedy}]
-- Example  FCALL_RO alarm_system_list 0
function M.list(ns)
  local found = order.names(system_alarms.KINDS)
  for i = 1, #found do
    local what = system_alarms.kind_of(ns, found[i])
    found[i] = json.object({
      "alarm", json.text(found[i]), "enabled", tostring(what.enabled), "level", json.text(what.level),
      "on_delay_ms", json.integer(what.on_ms), "off_delay_ms", json.integer(what.off_ms),
      "once", tostring(what.kind.once == true), "title", json.text(what.kind.title),
      "remedy", json.text(what.kind.remedy),
    })
  end
  return json.list(found)
end

return M
