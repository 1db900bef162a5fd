-- Whether there is what a reference names.
local json = require("lib.json")
local keys = require("lib.keys")

local M = {}

--- Why there is no such point, model or rule; nil where there is one, and of what nobody can say.
function M.missing(graph, ref)
  local ch, kind, id = string.match(ref, "^comsrv:(%d+):([TSCAX]):(%d+)$")
  if ch then
    if redis.call("SISMEMBER", keys.channels(graph.ns), ch) == 0 then
      return "there is no channel " .. ch
    end
    local there = redis.call("HEXISTS", keys.points(graph.ns, ch), kind .. ":" .. id) == 1
      or redis.call("HEXISTS", keys.values(graph.ns, ch, kind == "X" and "text" or kind), id) == 1
    return not there and "the channel has no such point" or nil
  end
  local model, name = string.match(ref, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  if model and not graph.models[model] then
    return "there is no model " .. model
  elseif model then
    return not graph.models[model][name] and "the model has no such point" or nil
  end
  local definition = string.match(ref, "^alarm:(.*)$")
  if definition then
    return not graph.watchers[ref] and "there is no alarm definition " .. definition or nil
  end
  local rule = string.match(ref, "^rule:([%w_%-]+)")
  return rule and not graph.watchers["rule:" .. rule] and "there is no rule " .. rule or nil
end

--- The warning, as JSON text, that what is named does not exist yet. `problem` is what `missing` or `nobody` said.
function M.warning(name, problem)
  return json.text(name .. ": " .. problem .. "; it counts once it is there")
end

--- Why a name that alarms are suppressed by stands for none; nil where it stands for some.
function M.nobody(graph, name)
  local kind, wanted = string.match(name, "^(%l+):(.*)$")
  if kind == "group" or kind == "equipment" then
    return next(graph.members[name] or {}) == nil and "no alarm definition has the " .. kind .. " " .. wanted or nil
  end
  local ch = string.match(name, "^comsrv:(%d+)")
  if ch then
    return redis.call("SISMEMBER", keys.channels(graph.ns), ch) == 0 and "there is no channel " .. ch or nil
  end
  return M.missing(graph, name)
end

return M
