-- Who keeps the replay log, and what of it is on disk.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")

local M = {}

local MAX_BYTES = 1073741824
local MAX_FOR_MS = 86400000

--- Say that somebody keeps the replay log: for a while each call that changes something is written to it.
--
-- hissrv says so again and again. Where nobody does any more, calls stop writing it.
--
-- ARGV[1]  {bytes (the cap; 0: nobody keeps it, and what is there goes), for_ms? (3600000)}
-- Returns  {bytes, began: true where nothing was written until now}
-- Errors   INVALID  a field is wrong
-- Writes   voltage:replay:kept, voltage:replay, voltage:replay:size
-- Example  FCALL replay_keep 0 '{"bytes":67108864}'
function M.keep(ns, _, argv)
  local document = args.document(argv[1])
  local bytes = args.integer(document.bytes, "bytes", 0, MAX_BYTES)
  local for_ms = args.integer(document.for_ms, "for_ms", 1000, MAX_FOR_MS, 3600000)
  local began = redis.call("EXISTS", keys.replay_kept(ns)) == 0
  if bytes == 0 then
    redis.call("DEL", keys.replay_kept(ns), keys.replay(ns), keys.replay_size(ns))
  else
    redis.call("SET", keys.replay_kept(ns), string.format("%.0f", bytes), "PX", string.format("%.0f", for_ms))
  end
  return json.object({ "bytes", json.integer(bytes), "began", tostring(began and bytes > 0) })
end

--- Say that entries are on disk: they leave the log.
--
-- ARGV[1]  {id (of the last one on disk), bytes (of those since the last call)}
-- Returns  {left, dropped (entries that went because the log was full, ever), dropped_to (the last of them, or "")}
-- Errors   INVALID  a field is wrong
-- Writes   voltage:replay, voltage:replay:size
-- Example  FCALL replay_kept 0 '{"id":"1763707000000-0","bytes":500}'
function M.kept(ns, _, argv)
  local document = args.document(argv[1])
  local ms, number = string.match(type(document.id) == "string" and document.id or "", "^(%d+)%-(%d+)$")
  if not ms then
    errors.fail("INVALID", "id must be that of an entry of the stream")
  end
  local bytes = args.integer(document.bytes, "bytes", 0, 9007199254740991)
  local key, size = keys.replay(ns), keys.replay_size(ns)
  if redis.call("EXISTS", key) == 1 then
    redis.call("XTRIM", key, "MINID", ms .. "-" .. string.format("%.0f", tonumber(number) + 1))
    redis.call("HINCRBY", size, "bytes", -bytes)
  end
  local left = redis.call("XLEN", key)
  if left == 0 and redis.call("EXISTS", size) == 1 then
    -- What a full log lost was never on disk.
    redis.call("HSET", size, "bytes", "0")
  end
  local dropped = redis.call("HMGET", size, "dropped", "dropped_to")
  return json.object({ "left", left, "dropped", dropped[1] or "0", "dropped_to", json.text(dropped[2] or "") })
end

return M
