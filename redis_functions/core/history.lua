-- The history queue: a stream of documents as they came, capped in entries and bytes.
-- At the cap the oldest entries go and their samples are counted as dropped(queue_full).
local keys = require("lib.keys")
local ledger = require("core.ledger")
local replay = require("core.replay")
local streams = require("lib.streams")

local M = {}

M.MAX_ENTRIES = 1000000
M.MAX_BYTES = 268435456
-- What an entry costs beside its document.
M.ENTRY_BYTES = 96

-- How many entries are read at once to make room.
local CHUNK = 16
-- Small entries make room for large ones, so room is made by bytes: at most this many times what came,
-- so that a queue whose cap was lowered shrinks without a call that takes long.
local HASTE = 4

--- Take entries out of the queue and its size; `found` is XRANGE's reply. Returns their samples and bytes.
function M.remove(ns, found)
  local entries, bytes, samples, ids = 0, 0, 0, {}
  for i = 1, #found do
    ids[i] = found[i][1]
    entries = entries + 1
    local fields = found[i][2]
    for j = 1, #fields, 2 do
      if fields[j] == "n" then
        samples = samples + tonumber(fields[j + 1])
      elseif fields[j] == "b" then
        bytes = bytes + tonumber(fields[j + 1])
      end
    end
  end
  if entries > 0 then
    redis.call("XDEL", keys.history_queue(ns), unpack(ids))
    local size = keys.history_size(ns)
    redis.call("HINCRBY", size, "entries", -entries)
    redis.call("HINCRBY", size, "bytes", -bytes)
    redis.call("HINCRBY", size, "samples", -samples)
  end
  return samples, bytes
end

-- Drop the oldest until `excess` bytes and `surplus` entries are gone, or `HASTE` times the bytes that came.
local function make_room(ns, excess, surplus, came)
  local dropped, freed, entries = 0, 0, 0
  repeat
    local found = redis.call("XRANGE", keys.history_queue(ns), "-", "+", "COUNT", CHUNK)
    local samples, bytes = M.remove(ns, found)
    dropped, freed, entries = dropped + samples, freed + bytes, entries + #found
  until #found == 0 or (freed >= excess and entries >= surplus) or freed >= HASTE * came
  return dropped
end

--- Append documents of a channel, each with its samples: a list of { document, samples }.
function M.append(ctx, ch, documents)
  -- A replay makes no history anew.
  if replay.replayed() then
    return
  end
  local ns, image = ctx.ns, string.format("%.0f", ctx.image)
  local entries, bytes, samples = 0, 0, 0
  for i = 1, #documents do
    local document, number = documents[i][1], documents[i][2]
    if number > 0 then
      local weight = #document + M.ENTRY_BYTES
      redis.call("XADD", keys.history_queue(ns), "*", "i", image, "c", ch, "n", number, "b", weight, "d", document)
      entries, bytes, samples = entries + 1, bytes + weight, samples + number
    end
  end
  if entries == 0 then
    return
  end
  local size = keys.history_size(ns)
  ledger.add(ns, ch, "queued", samples)
  local entries_now = redis.call("HINCRBY", size, "entries", entries)
  local bytes_now = redis.call("HINCRBY", size, "bytes", bytes)
  redis.call("HINCRBY", size, "samples", samples)
  local cap = tonumber(redis.call("HGET", keys.limits(ns), "queue_bytes") or M.MAX_BYTES)
  if bytes_now > cap or entries_now > M.MAX_ENTRIES then
    local dropped = make_room(ns, bytes_now - cap, entries_now - M.MAX_ENTRIES, bytes)
    ledger.of_all(ns, { ["dropped:queue_full"] = dropped })
    if tonumber(redis.call("HGET", keys.ledger(ns), "dropped:queue_full") or 0) == dropped then
      streams.event(ns, ctx.now, "history_queue_full", "the oldest history goes; is hissrv running?")
    end
  end
end

return M
