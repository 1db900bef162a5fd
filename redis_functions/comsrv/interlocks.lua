-- Interlocks: a condition that must be true, with every input good, for a point to be commanded.
local expression = require("core.expression")
local keys = require("lib.keys")

local M = {}

-- A value that is not good counts as missing. It is read from the image, where a call has put it already.
local function value_of(ctx, ref)
  local ch, kind, id = string.match(ref, "^comsrv:(%d+):([TSCA]):(%d+)$")
  local values, quality
  if ch then
    values, quality = keys.values(ctx.ns, ch, kind), keys.values_quality(ctx.ns, ch, kind)
  else
    local model
    model, id = string.match(ref, "^modsrv:([%w_%-]+):([%w_%-]+)$")
    values, quality = keys.model_values(ctx.ns, model), keys.model_values_quality(ctx.ns, model)
  end
  if redis.call("HEXISTS", quality, id) == 1 then
    return nil
  end
  local text = redis.call("HGET", values, id)
  return text and tonumber(text) or nil
end

--- Why the interlock of a point forbids a command, or nil.
function M.problem(ctx, options)
  if not options.interlock then
    return nil
  end
  local missing
  local result = expression.evaluate(options.interlock_program, function(ref)
    local value = value_of(ctx, ref)
    missing = missing or (value == nil and ref) or nil
    return value
  end)
  if result == nil then
    return "the interlock " .. options.interlock .. " is unknown" .. (missing and ": " .. missing .. " is not good" or "")
  end
  return result == 0 and "the interlock " .. options.interlock .. " does not hold" or nil
end

return M
