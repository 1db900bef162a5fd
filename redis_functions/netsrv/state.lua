-- What follows from a change of a network or a route: a new token, and netsrv's group at the queue
-- comes or goes. Without a route that wants changes there is no group, so the queue drains without netsrv.
local args = require("lib.args")
local groups = require("hissrv.groups")
local keys = require("lib.keys")

local M = {}

M.GROUP = "netsrv"

local function enabled(text)
  local document = text and args.decode(text)
  return document and document.enabled ~= false and document or nil
end

local function reads_changes(ns)
  local ids = redis.call("SMEMBERS", keys.routes(ns))
  for i = 1, #ids do
    local route = enabled(redis.call("GET", keys.route(ns, ids[i])))
    if route and route.trigger ~= "interval" and enabled(redis.call("GET", keys.network(ns, route.network))) then
      return true
    end
  end
  return false
end

--- True while netsrv's group is at the queue.
function M.reading(ns)
  return redis.call("HGET", keys.forward_state(ns), "reading") == "1"
end

--- The token of all definitions that decide what is forwarded.
function M.token(ns)
  local token = redis.call("HGET", keys.forward_state(ns), "token") or ""
  return token .. "/" .. (redis.call("GET", keys.generation(ns)) or "")
end

--- Bring the token and the group up to what is stored now.
function M.changed(ns)
  local state = keys.forward_state(ns)
  local time = redis.call("TIME")
  local turn = redis.call("HINCRBY", state, "turns", 1)
  redis.call("HSET", state, "token", time[1] .. "." .. time[2] .. "." .. string.format("%.0f", turn))
  local reads = reads_changes(ns)
  if reads and not M.reading(ns) then
    groups.ensure(keys.history_queue(ns), M.GROUP, "$")
  elseif not reads and M.reading(ns) then
    groups.leave(keys.history_queue(ns), M.GROUP)
  end
  redis.call("HSET", state, "reading", reads and "1" or "0")
end

return M
