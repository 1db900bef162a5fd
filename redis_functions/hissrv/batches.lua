-- Batches of the history queue: taken by a consumer, then acknowledged or dead-lettered.
-- A queue entry goes when every group of the queue has acknowledged it, and is counted then:
-- queued = written + dead_lettered + dropped + the size's samples.
local args = require("lib.args")
local errors = require("lib.errors")
local groups = require("hissrv.groups")
local letters = require("hissrv.dead_letters")
local json = require("lib.json")
local keys = require("lib.keys")
local ledger = require("core.ledger")

local M = {}

M.MAX_ENTRIES = 1000
M.IDLE_MS = 30000
-- An unfinished batch is forgotten after a day (its entries come again), a finished one after ten minutes.
M.OPEN_S = 86400
M.DONE_S = 600
-- Mappings whose samples one call may count, and stores there may be.
M.MAX_MAPPINGS = 1000
M.MAX_STORES = 8

local function read_group(queue, group, consumer, from, count)
  if count <= 0 then
    return {}
  end
  local reply = redis.pcall("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", queue, from)
  if type(reply) == "table" and reply.err then
    groups.ensure(queue, group, "0")
    reply = redis.call("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", queue, from)
  end
  return reply and reply[1] and reply[1][2] or {}
end

-- What the cap dropped while it was on its way has no fields any more.
local function take(queue, group, found, into)
  for i = 1, #found do
    if found[i][2] then
      into[#into + 1] = found[i]
    else
      redis.call("XACK", queue, group, found[i][1])
    end
  end
end

local function record(ns, group, consumer, entries, now)
  local size = keys.history_size(ns)
  local id = string.format("%.0f-%.0f", redis.call("HINCRBY", size, "batches", 1), args.server_ms())
  local samples, bytes, items = 0, 0, {}
  for i = 1, #entries do
    local n, b = letters.field(entries[i], "n"), letters.field(entries[i], "b")
    samples, bytes = samples + tonumber(n), bytes + tonumber(b)
    items[i] = entries[i][1] .. " " .. n .. " " .. b
  end
  local key = keys.batch(ns, id)
  redis.call(
    "HSET", key, "status", "collected", "group", group, "consumer", consumer, "entries", #entries, "samples", samples,
    "bytes", bytes, "created_at_ms", string.format("%.0f", now), "items", table.concat(items, "\n")
  )
  redis.call("EXPIRE", key, M.OPEN_S)
  return id
end

--- Take the next entries of the history queue as a batch.
--
-- First what this consumer took before and did not finish, then what others left idle, then new
-- entries. So a consumer that collects again after a crash gets its own entries back, and calls
-- this only while it has no batch in hand.
--
-- ARGV[1]  {consumer, group? (hissrv), limit? (200, at most 1000), idle_ms? (30000), now_ms?}
-- Returns  [batch id or "", the queue's oldest entry id or "", token of the mappings or "", entries
--          as XRANGE gives them]. An array, because documents may be msgpack
-- Errors   INVALID  a field is wrong
-- Writes   hissrv:queue (its groups), hissrv:queue:size, hissrv:batch:{id}
-- Example  FCALL batch_collect 0 '{"consumer":"me","group":"test"}'
function M.collect(ns, _, argv)
  local document = args.document(argv[1])
  local consumer = args.id(document.consumer, "consumer")
  local group = args.id(document.group or groups.STORE, "group")
  local limit = args.integer(document.limit, "limit", 1, M.MAX_ENTRIES, 200)
  local idle = args.integer(document.idle_ms, "idle_ms", 0, 86400000, M.IDLE_MS)
  local now = args.now(document.now_ms)
  local queue = keys.history_queue(ns)
  local entries = {}
  groups.sweep(ns)
  take(queue, group, read_group(queue, group, consumer, "0", limit), entries)
  if #entries < limit then
    local left = redis.call("XAUTOCLAIM", queue, group, consumer, idle, "0-0", "COUNT", limit - #entries)
    local own = {}
    for i = 1, #entries do
      own[entries[i][1]] = true
    end
    local others = {}
    for i = 1, #left[2] do
      if left[2][i][2] and not own[left[2][i][1]] then
        others[#others + 1] = left[2][i]
      end
    end
    take(queue, group, others, entries)
  end
  take(queue, group, read_group(queue, group, consumer, ">", limit - #entries), entries)
  local oldest = redis.call("XRANGE", queue, "-", "+", "COUNT", 1)
  local token = redis.call("HGET", keys.history_size(ns), "mappings") or ""
  local id = #entries > 0 and record(ns, group, consumer, entries, now) or ""
  return { id, oldest[1] and oldest[1][1] or "", token, entries }
end

local function load(ns, id)
  local batch = {}
  local flat = redis.call("HGETALL", keys.batch(ns, args.id(id, "batch")))
  for i = 1, #flat, 2 do
    batch[flat[i]] = flat[i + 1]
  end
  if not batch.status then
    errors.fail("NOTFOUND", "batch " .. id)
  end
  batch.id = id
  return batch
end

local function items_of(batch)
  local items = {}
  for id, n, b in string.gmatch(batch.items or "", "(%S+) (%d+) (%d+)") do
    items[#items + 1] = { id = id, samples = tonumber(n), bytes = tonumber(b) }
  end
  return items
end

local function encode(batch)
  local function number(name)
    return batch[name] or "0"
  end
  return json.object({
    "id", json.text(batch.id), "status", json.text(batch.status), "group", json.text(batch.group),
    "consumer", json.text(batch.consumer), "entries", number("entries"), "samples", number("samples"),
    "bytes", number("bytes"), "failed", number("failed"), "created_at_ms", number("created_at_ms"),
    "done_at_ms", batch.done_at_ms or "null",
  })
end

-- Acknowledge items for a group; returns samples and count of the entries that left the queue, by outcome.
local function settle(ns, group, items, outcome)
  local queue, size, failed = keys.history_queue(ns), keys.history_size(ns), keys.history_failed(ns)
  local others = groups.others(queue, group)
  local counts = { written = 0, dead_lettered = 0 }
  local entries, bytes, samples = 0, 0, 0
  for i = 1, #items do
    local item = items[i]
    redis.call("XACK", queue, group, item.id)
    if #others > 0 and groups.wanted_by(queue, others, item.id) then
      if outcome == "dead_lettered" then
        redis.call("SADD", failed, item.id)
      end
    elseif redis.call("XDEL", queue, item.id) == 1 then
      local lost = outcome == "dead_lettered" or (#others > 0 and redis.call("SREM", failed, item.id) == 1)
      local counter = lost and "dead_lettered" or "written"
      counts[counter] = counts[counter] + item.samples
      entries, bytes, samples = entries + 1, bytes + item.bytes, samples + item.samples
    end
  end
  if entries > 0 then
    redis.call("HINCRBY", size, "entries", -entries)
    redis.call("HINCRBY", size, "bytes", -bytes)
    redis.call("HINCRBY", size, "samples", -samples)
  end
  return counts
end

-- How many of the samples that left the queue now the mappings left out (`filtered`) or the store refused
-- (`refused`). An entry leaves when the last group acknowledged it, so what the store said before waits until then.
local function left_out(ns, name, samples, leaving)
  local size = keys.history_size(ns)
  local waiting = samples + tonumber(redis.call("HGET", size, name) or "0")
  local now = math.min(waiting, leaving)
  if waiting > now and tonumber(redis.call("HGET", size, "entries") or "0") > 0 then
    redis.call("HSET", size, name, string.format("%.0f", waiting - now))
  else
    redis.call("HDEL", size, name)
  end
  return now
end

local function done(ns, batch, status, now)
  batch.status, batch.done_at_ms = status, string.format("%.0f", now)
  local key = keys.batch(ns, batch.id)
  redis.call("HSET", key, "status", status, "done_at_ms", batch.done_at_ms)
  redis.call("HDEL", key, "items")
  redis.call("EXPIRE", key, M.DONE_S)
end

-- Count the samples that left the queue, in total and by store: what one store refused another may have.
local function account(ns, counts, document)
  local filtered = left_out(ns, "filtered", document.filtered, counts.written)
  local rest = counts.written - filtered
  local function outcome(refused)
    return {
      written = rest - refused, dead_lettered = counts.dead_lettered + refused, ["dropped:mapping"] = filtered,
    }
  end
  ledger.count(keys.ledger(ns), outcome(left_out(ns, "refused", document.refused, rest)))
  local stores = ledger.stores(ns)
  for i = 1, #stores do
    local refused = left_out(ns, "refused:" .. stores[i], (document.stores or {})[stores[i]] or 0, rest)
    ledger.count(keys.store_ledger(ns, stores[i]), outcome(refused))
  end
end

-- Samples by mapping ("*" without any), as counters of the ledger.
local function recorded_of(document)
  local found, names = {}, 0
  if document.recorded ~= nil and type(document.recorded) ~= "table" then
    errors.fail("INVALID", "recorded must be {mapping: samples}")
  end
  for name, samples in pairs(document.recorded or {}) do
    names = names + 1
    if type(name) ~= "string" or #name > 64 or names > M.MAX_MAPPINGS then
      errors.fail("INVALID", "recorded must be {mapping: samples}, of at most " .. M.MAX_MAPPINGS .. " mappings")
    end
    found["recorded:" .. name] = args.integer(samples, "recorded." .. name, 0, 9007199254740991)
  end
  return found
end

-- Samples that each store refused; the names of the stores there are.
local function stores_of(document)
  local names = {}
  for name, refused in pairs(args.object(document.stores, "stores")) do
    names[#names + 1] = args.id(name, "stores")
    args.integer(refused, "stores." .. name, 0, 9007199254740991)
  end
  if #names > M.MAX_STORES then
    errors.fail("INVALID", "stores names more than " .. M.MAX_STORES)
  end
  return names
end

--- Say that a batch took effect: its entries leave the queue once every group said so.
--
-- Twice is a repeat without effect, so a client that lost the reply calls again. `filtered`
-- samples are counted as dropped:mapping, `refused` ones (by the store, for good) as dead-lettered,
-- the rest as written. `letters` are the dead letters of refused samples, at most 200. `stores` names
-- the stores there are and how many samples each refused: each has counters of its own.
--
-- KEYS[1]  batch
-- ARGV[1]  {filtered?, refused?, letters?: [{entry, channel, reason, document, stores?}], recorded?: {mapping: samples},
--          stores?: {store: refused}, now_ms?}
-- Returns  the batch
-- Errors   NOTFOUND  no such batch, or it is older than a day: collect again
--          INVALID   a letter or a count is wrong
--          STATE     the whole batch was dead-lettered
-- Writes   hissrv:batch:{id}, hissrv:queue, hissrv:queue:size, hissrv:dead_letters, hissrv:ledger:{store}, voltage:ledger
-- Example  FCALL batch_acknowledge 1 1-1700000000000
function M.acknowledge(ns, id, argv)
  local document = args.document(argv[1], true)
  document.filtered = args.integer(document.filtered, "filtered", 0, 9007199254740991, 0)
  document.refused = args.integer(document.refused, "refused", 0, 9007199254740991, 0)
  local now = args.now(document.now_ms)
  local refusals, recorded, stores = letters.of(document), recorded_of(document), stores_of(document)
  local batch = load(ns, id)
  if batch.status == "failed" then
    errors.fail("STATE", "batch " .. id .. " was dead-lettered")
  end
  if batch.status == "collected" then
    if #stores > 0 then
      ledger.follow(ns, stores, now)
    end
    account(ns, settle(ns, batch.group, items_of(batch), "written"), document)
    for i = 1, #refusals do
      local letter = refusals[i]
      letter.group, letter.at, letter.image, letter.samples = batch.group, now, "0", 1
      letters.post(ns, letter)
    end
    letters.trim(ns)
    ledger.count(keys.ledger(ns), recorded)
    done(ns, batch, "written", now)
  end
  return encode(batch)
end

--- Give up a batch, or some of its entries: they go to the dead letters with the reason.
--
-- The newest 1000 dead letters are kept, documents cut at 16 kB; the ledger counts all of them.
--
-- KEYS[1]  batch
-- ARGV[1]  {reason} for the whole batch, or {entries: {entry id: reason}}; now_ms?
-- Returns  the batch; it is `failed` when nothing of it is left to acknowledge
-- Errors   NOTFOUND  no such batch
--          INVALID   neither reason nor entries, or an entry is not of the batch
--          STATE     the batch was acknowledged
-- Writes   hissrv:batch:{id}, hissrv:queue, hissrv:queue:size, hissrv:dead_letters, hissrv:ledger:{store}, voltage:ledger
-- Example  FCALL batch_fail 1 1-1700000000000 '{"reason":"refused"}'
function M.fail(ns, id, argv)
  local document = args.document(argv[1])
  local now = args.now(document.now_ms)
  local reason = args.text(document.reason, "reason", 512)
  if not reason and type(document.entries) ~= "table" then
    errors.fail("INVALID", "reason or entries must be given")
  end
  local batch = load(ns, id)
  if batch.status == "written" then
    errors.fail("STATE", "batch " .. id .. " was acknowledged")
  end
  local gone, left, named = {}, {}, 0
  local items = items_of(batch)
  for i = 1, #items do
    local why = reason or args.text(document.entries[items[i].id], "reason of " .. items[i].id, 512)
    if why then
      items[i].reason = why
      gone[#gone + 1] = items[i]
    else
      left[#left + 1] = items[i].id .. " " .. items[i].samples .. " " .. items[i].bytes
    end
  end
  for _ in pairs(document.entries or {}) do
    named = named + 1
  end
  if batch.status == "failed" then
    return encode(batch)
  end
  if not reason and #gone ~= named then
    errors.fail("INVALID", "an entry named is not of batch " .. id .. ", or not any more")
  end
  for i = 1, #gone do
    letters.give_up(ns, batch.group, gone[i], gone[i].reason, now)
  end
  ledger.of_all(ns, settle(ns, batch.group, gone, "dead_lettered"))
  local key = keys.batch(ns, id)
  batch.failed = string.format("%.0f", redis.call("HINCRBY", key, "failed", #gone))
  if #left == 0 then
    done(ns, batch, "failed", now)
  else
    redis.call("HSET", key, "items", table.concat(left, "\n"))
  end
  return encode(batch)
end

--- A batch, or without an id the queue: what waits, for whom, and how much was given up.
--
-- KEYS[1]  batch (optional)
-- Returns  {id, status collected|written|failed, entries, samples, ...}, or {entries, bytes, samples,
--          oldest, dead_letters, groups: [{name, consumers, pending, lag}]}
-- Errors   NOTFOUND  no such batch
-- Example  FCALL get_batch_status 0
function M.status(ns, id)
  if id then
    return encode(load(ns, id))
  end
  local queue = keys.history_queue(ns)
  local size = redis.call("HMGET", keys.history_size(ns), "entries", "bytes", "samples")
  local readers, oldest = {}, nil
  if redis.call("EXISTS", queue) == 1 then
    local first = redis.call("XRANGE", queue, "-", "+", "COUNT", 1)
    oldest = first[1] and first[1][1]
    local info = redis.call("XINFO", "GROUPS", queue)
    for i = 1, #info do
      local group = {}
      for j = 1, #info[i], 2 do
        group[info[i][j]] = info[i][j + 1]
      end
      readers[i] = json.object({
        "name", json.text(group.name), "consumers", json.integer(group.consumers),
        "pending", json.integer(group.pending), "lag", group.lag and json.integer(group.lag) or "null",
      })
    end
  end
  return json.object({
    "entries", size[1] or "0", "bytes", size[2] or "0", "samples", size[3] or "0",
    "oldest", oldest and json.text(oldest) or "null",
    "dead_letters", json.integer(redis.call("XLEN", keys.dead_letters(ns))), "groups", json.list(readers),
  })
end

return M
