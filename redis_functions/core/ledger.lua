-- Counters of samples: of the site in total, of each channel, and of each store that hissrv writes to.
--
-- Two equations hold for each of them, at any instant:
--   polled = stored + unchanged + rejected(reason)                        in total, and for each channel
--   queued = written + dead_lettered + dropped(reason) + pending          in total, and for each store
local keys = require("lib.keys")

local M = {}

-- Entries of a journal that went are counted as dropped, too, and are no samples.
M.NOT_SAMPLES = { ["dropped:journal_full"] = true, ["dropped:outbox_full"] = true }
-- Channels that a difference in total is looked for in.
local MAX_NAMED = 5

--- A hash of counters.
function M.read(key)
  local flat, found = redis.call("HGETALL", key), {}
  for i = 1, #flat, 2 do
    found[flat[i]] = tonumber(flat[i + 1])
  end
  return found
end

--- Count samples of a channel, and in total.
function M.add(ns, ch, name, samples)
  redis.call("HINCRBY", keys.ledger(ns), name, samples)
  redis.call("HINCRBY", keys.channel_ledger(ns, ch), name, samples)
end

local function sum(counters, group)
  local total = 0
  for name, value in pairs(counters) do
    if string.find(name, group .. ":", 1, true) == 1 and not M.NOT_SAMPLES[name] then
      total = total + value
    end
  end
  return total
end

-- Who calls the functions by hand gives no counters of what was polled.
local function not_polled(counters)
  if (counters.polled or 0) == 0 then
    return 0
  end
  return counters.polled - (counters.stored or 0) - (counters.unchanged or 0) - sum(counters, "rejected")
end

-- What became of the samples that were queued.
local function accounted(counters)
  return (counters.before or 0) + (counters.written or 0) + (counters.dead_lettered or 0) + sum(counters, "dropped")
end

local function pending(ns)
  return tonumber(redis.call("HGET", keys.history_size(ns), "samples") or 0)
end

-- ---------------------------------------------------------------- stores

--- The stores in a text of names; without one those that hissrv writes to, as its last acknowledgement named them.
function M.stores(ns, text)
  local names = {}
  for name in string.gmatch(text or redis.call("HGET", keys.history_size(ns), "stores") or "", "%S+") do
    names[#names + 1] = name
  end
  return names
end

--- Take note of the stores there are. One that joins, or joins again, accounts for what leaves the queue from now on:
-- what left before is its `before`.
function M.follow(ns, names, now)
  table.sort(names)
  local size, text = keys.history_size(ns), table.concat(names, " ")
  local known = redis.call("HGET", size, "stores") or ""
  if text == known then
    return
  end
  local queued = tonumber(redis.call("HGET", keys.ledger(ns), "queued") or 0)
  for i = 1, #names do
    if not string.find(" " .. known .. " ", " " .. names[i] .. " ", 1, true) then
      local key = keys.store_ledger(ns, names[i])
      local own = M.read(key)
      local before = queued - pending(ns) - accounted(own) + (own.before or 0)
      redis.call("HSET", key, "before", string.format("%.0f", before), "since_ms", string.format("%.0f", now))
    end
  end
  redis.call("HSET", size, "stores", text)
end

--- Count samples into a hash; `counts` is { name = samples }.
function M.count(key, counts)
  for name, samples in pairs(counts) do
    if samples ~= 0 then
      redis.call("HINCRBY", key, name, samples)
    end
  end
end

--- Count samples in total and for every store, or for those that a text names.
function M.of_all(ns, counts, only)
  M.count(keys.ledger(ns), counts)
  local stores = M.stores(ns, only)
  for i = 1, #stores do
    M.count(keys.store_ledger(ns, stores[i]), counts)
  end
end

-- ---------------------------------------------------------------- the balance

local function channels_that_differ(ns)
  local found, channels = {}, redis.call("SMEMBERS", keys.channels(ns))
  table.sort(channels)
  for i = 1, #channels do
    local difference = not_polled(M.read(keys.channel_ledger(ns, channels[i])))
    if difference ~= 0 and #found < MAX_NAMED then
      found[#found + 1] = string.format("channel %s by %.0f", channels[i], difference)
    end
  end
  return found
end

--- Say by how much the ledger does not balance, "" where it does: "3 polled, 0 queued; channel 1001 by 3".
function M.difference(ns)
  local total, waits = M.read(keys.ledger(ns)), pending(ns)
  local polled, queued = not_polled(total), (total.queued or 0) - accounted(total) - waits
  local where = polled ~= 0 and channels_that_differ(ns) or {}
  local stores = M.stores(ns)
  for i = 1, #stores do
    local difference = (total.queued or 0) - accounted(M.read(keys.store_ledger(ns, stores[i]))) - waits
    if difference ~= queued then
      where[#where + 1] = string.format("store %s by %.0f", stores[i], difference)
    end
  end
  if polled == 0 and queued == 0 and #where == 0 then
    return ""
  end
  return string.format("%.0f polled, %.0f queued", polled, queued) .. (#where > 0 and "; " .. table.concat(where, ", ") or "")
end

return M
