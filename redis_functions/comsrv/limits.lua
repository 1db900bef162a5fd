-- What may be written to a point: the limits its table declares.
local errors = require("lib.errors")
local keys = require("lib.keys")

local M = {}

--- The limits of a point ("A:1"), or NOTFOUND.
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
  return found
end

--- Refuse a value outside the limits, naming them.
function M.check(found, value)
  if found.min and value < found.min then
    errors.fail("INVALID", string.format("value %.6g is below the minimum %.6g of %s", value, found.min, found.ref))
  end
  if found.max and value > found.max then
    errors.fail("INVALID", string.format("value %.6g is above the maximum %.6g of %s", value, found.max, found.ref))
  end
  if found.kind == "C" and value ~= math.floor(value) then
    errors.fail("INVALID", "value of a control point must be an integer, " .. found.ref)
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
