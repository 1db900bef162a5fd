-- What may be written to a point: the limits its table declares, and how it wants to be commanded.
local args = require("lib.args")
local errors = require("lib.errors")
local expression = require("core.expression")
local json = require("lib.json")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local texts = require("lib.texts")

local M = {}

local MAX_LEASE_MS = 86400000
local MAX_ALLOWED = 100
-- Near enough to a step: decimal steps have no exact binary form.
local STEP_TOLERANCE = 1e-6

local OPTIONS = {
  step = "number", allowed = "table", min_interval_ms = "number", writes_per_day = "number", select = "boolean",
  interlock = "string", interlock_program = "table", latest_only = "boolean", fallback = "number", lease_ms = "number",
  verify = "boolean", text_bytes = "number", text_ascii = "boolean",
}
-- What has no meaning for a text.
local NUMERIC = { "step", "allowed", "fallback", "lease_ms" }

--- Check how a point wants to be commanded (the `command` of its row); returns the options as kept.
function M.options(point, low, high, path)
  local options = args.object(point.command, path .. ".command")
  local problems = {}
  args.check_types(options, OPTIONS, path .. ".command.", problems)
  errors.fail_all(problems)
  local kept = {}
  for name in pairs(OPTIONS) do
    kept[name] = options[name]
  end
  if kept.step and kept.step <= 0 then
    errors.fail("INVALID", path .. ".command.step must be greater than 0")
  end
  if kept.allowed and (#kept.allowed == 0 or #kept.allowed > MAX_ALLOWED) then
    errors.fail("INVALID", path .. ".command.allowed must be a list of 1 to " .. MAX_ALLOWED .. " numbers")
  end
  for _, value in ipairs(kept.allowed or {}) do
    args.number(value, path .. ".command.allowed")
  end
  if kept.fallback and ((low and kept.fallback < low) or (high and kept.fallback > high)) then
    errors.fail("INVALID", path .. ".command.fallback is outside min and max")
  end
  args.integer(kept.lease_ms, path .. ".command.lease_ms", 1, MAX_LEASE_MS, 1)
  args.integer(kept.min_interval_ms, path .. ".command.min_interval_ms", 0, 86400000, 0)
  args.integer(kept.writes_per_day, path .. ".command.writes_per_day", 1, 1000000, 1)
  local problem = kept.interlock and expression.problem(kept.interlock_program)
  if problem then
    errors.fail("INVALID", path .. ".command.interlock: " .. problem)
  end
  return next(kept) and kept or nil
end

--- Refuse what goes with numbers alone on a point that takes texts.
function M.check_text_point(low, high, options, path)
  if low or high then
    errors.fail("INVALID", path .. (low and ".min" or ".max") .. " is not for a text")
  end
  for _, name in ipairs(NUMERIC) do
    if options and options[name] ~= nil then
      errors.fail("INVALID", path .. ".command." .. name .. " is not for a text")
    end
  end
end

--- The limits as they are kept, JSON.
function M.encode(kind, text, low, high, options)
  return json.object({
    "kind", json.text(kind), "text", text and "true" or "false",
    "min", low and cjson.encode(low) or false, "max", high and cjson.encode(high) or false,
    "options", options and cjson.encode(options) or false,
  })
end

--- The limits and options of a point ("A:1"), or NOTFOUND.
function M.of(ns, ch, point)
  if redis.call("SISMEMBER", keys.channels(ns), ch) == 0 then
    errors.fail("NOTFOUND", "channel " .. ch)
  end
  local text = redis.call("HGET", keys.writable(ns, ch), point)
  if not text then
    errors.fail("NOTFOUND", "point comsrv:" .. ch .. ":" .. point .. " (only declared C and A points take commands)")
  end
  local found = cjson.decode(text)
  found.ref = "comsrv:" .. ch .. ":" .. point
  found.options = found.options or {}
  return found
end

local function allowed(list, value)
  for i = 1, #list do
    if list[i] == value then
      return true
    end
  end
  return false
end

local function check_text(found, value)
  local options = found.options
  if type(value) ~= "string" then
    errors.fail("INVALID", "value must be a text: " .. found.ref .. " is a text point")
  end
  texts.check(value, "value of " .. found.ref, options.text_bytes)
  if string.find(value, "%c") then
    errors.fail("INVALID", "value of " .. found.ref .. " has a control character")
  end
  if options.text_ascii and string.find(value, "[\128-\255]") then
    errors.fail("INVALID", "value of " .. found.ref .. " has a character that is not ASCII, which its device takes")
  end
  return value
end

--- A value that a point takes, as the text it is kept as; INVALID names what is wrong with it.
function M.value(found, value)
  if found.text then
    return check_text(found, value)
  end
  value = args.number(value, "value")
  M.check(found, value)
  return numbers.format(value)
end

--- Refuse a value outside the limits, naming them.
function M.check(found, value)
  local options = found.options
  if found.min and value < found.min then
    errors.fail("INVALID", string.format("value %.15g is below the minimum %.15g of %s", value, found.min, found.ref))
  end
  if found.max and value > found.max then
    errors.fail("INVALID", string.format("value %.15g is above the maximum %.15g of %s", value, found.max, found.ref))
  end
  if found.kind == "C" and value ~= math.floor(value) then
    errors.fail("INVALID", "value of a control point must be an integer, " .. found.ref)
  end
  if options.allowed and not allowed(options.allowed, value) then
    errors.fail("INVALID", string.format(
      "value %.15g is none of those %s takes: %s", value, found.ref, table.concat(options.allowed, ", ")
    ))
  end
  local steps = options.step and (value - (found.min or 0)) / options.step
  if steps and math.abs(steps - math.floor(steps + 0.5)) > STEP_TOLERANCE then
    errors.fail("INVALID", string.format(
      "value %.15g is no step of %.15g from %.15g of %s", value, options.step, found.min or 0, found.ref
    ))
  end
end

--- Channel, type and point of a reference that can be commanded, through a model where it names one.
function M.target(graph, ref)
  local ch, kind, point = string.match(ref, "^comsrv:(%d+):([CA]):(%d+)$")
  if ch then
    return ch, kind, point
  end
  local model, name = string.match(ref, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  local slot = model and graph.models[model] and graph.models[model][name]
  if slot and (slot.kind == "C" or slot.kind == "A") then
    return string.match(slot.owner, "^comsrv:(%d+)$"), slot.kind, slot.id
  end
  return nil
end

return M
