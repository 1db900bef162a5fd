-- What netsrv takes from the history queue, in a group of its own.
local args = require("lib.args")
local batches = require("hissrv.batches")
local errors = require("lib.errors")
local keys = require("lib.keys")
local state = require("netsrv.state")

local M = {}

local KNOWN = { consumer = true, limit = true, idle_ms = true, now_ms = true }

--- Take the next entries of the history queue to forward them.
--
-- As batch_collect: first what this consumer took before and did not finish. While no enabled route
-- wants changes there is nothing to take, and the queue drains without netsrv.
--
-- ARGV[1]  {consumer? (netsrv), limit? (200, at most 1000), idle_ms? (30000), now_ms?}
-- Returns  [batch id or "", the queue's oldest entry id or "", token of all that decides what is forwarded,
--          entries as XRANGE gives them]
-- Errors   INVALID  a field is wrong
-- Writes   hissrv:queue (its groups), hissrv:queue:size, hissrv:batch:{id}
-- Example  FCALL forward_claim 0 '{"limit":10}'
function M.claim(ns, _, argv)
  local document = args.document(argv[1], true)
  args.only(document, KNOWN)
  if not state.reading(ns) then
    return { "", "", state.token(ns), {} }
  end
  document.consumer = document.consumer or state.GROUP
  document.group = state.GROUP
  local reply = batches.collect(ns, nil, { cjson.encode(document) })
  reply[3] = state.token(ns)
  return reply
end

--- Say that what was claimed is safe: it stands on the networks' disk queues.
--
-- An entry leaves the queue once the store has it too. Twice is a repeat without effect.
--
-- KEYS[1]  batch
-- Returns  the batch
-- Errors   NOTFOUND  no such batch of netsrv, or it is older than a day: claim again
-- Writes   hissrv:batch:{id}, hissrv:queue, hissrv:queue:size, voltage:ledger
-- Example  FCALL forward_complete 1 1-1700000000000
function M.complete(ns, id)
  id = args.id(id, "batch")
  if redis.call("HGET", keys.batch(ns, id), "group") ~= state.GROUP then
    errors.fail("NOTFOUND", "batch " .. id .. " of netsrv")
  end
  return batches.acknowledge(ns, id, {})
end

return M
