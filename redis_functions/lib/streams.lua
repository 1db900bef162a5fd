-- Streams are bounded by the call that writes them, and what goes is counted.
local keys = require("lib.keys")
local replay = require("core.replay")

local M = {}

M.JOURNAL_CAP = 100000

local function append(ns, key, ...)
  local id = redis.call("XADD", key, "*", ...)
  if redis.call("XLEN", key) > M.JOURNAL_CAP then
    local gone = redis.call("XTRIM", key, "MAXLEN", M.JOURNAL_CAP)
    redis.call("HINCRBY", keys.ledger(ns), "dropped:journal_full", gone)
  end
  return id
end

--- Append to a journal; at the cap the oldest entry goes and the ledger counts it.
function M.append(ns, key, ...)
  if replay.listens() then
    replay.output(string.sub(key, #ns + 1), table.concat({ ... }, "\31"))
  end
  return append(ns, key, ...)
end

--- Note something that happened to the system itself.
function M.event(ns, now, what, detail)
  append(ns, keys.events(ns), "at_ms", string.format("%.0f", now), "what", what, "detail", detail)
end

return M
