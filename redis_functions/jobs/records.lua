-- A job's record, and the indexes of its queue: waiting, delayed, leased.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")

local M = {}

local RETRY_MS = 1000
local MAX_RETRY_MS = 300000

--- The record of an id, or NOTFOUND.
function M.load(ns, id)
  local found = redis.call("HGETALL", keys.job(ns, args.id(id, "job")))
  if #found == 0 then
    errors.fail("NOTFOUND", "job " .. id)
  end
  local job = {}
  for i = 1, #found, 2 do
    job[found[i]] = found[i + 1]
  end
  return job
end

--- A record as its JSON document.
function M.encode(job, duplicate)
  return json.object({
    "id", json.text(job.id), "queue", json.text(job.queue), "kind", job.kind and json.text(job.kind) or "null",
    "state", json.text(job.state), "priority", job.priority, "input", job.input, "attempts", job.attempts,
    "max_attempts", job.max_attempts, "fence", job.fence, "owner", job.owner and json.text(job.owner) or "null",
    "lease_until_ms", job.lease_until_ms or "null", "not_before_ms", job.not_before_ms or "null",
    "progress", job.progress or "0", "message", job.message and json.text(job.message) or "null",
    "result", job.result or "null", "error", job.error and json.text(job.error) or "null",
    "created_at_ms", job.created_at_ms, "started_at_ms", job.started_at_ms or "null",
    "finished_at_ms", job.finished_at_ms or "null", "duplicate", duplicate and "true",
  })
end

--- Write a record whole; a member that is nil goes.
function M.save(ns, job)
  local flat = {}
  for name, value in pairs(job) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call("DEL", keys.job(ns, job.id))
  redis.call("HSET", keys.job(ns, job.id), unpack(flat))
end

--- Put a job among those that wait: highest priority first, then the oldest.
function M.wait(ns, job)
  job.state, job.not_before_ms, job.owner, job.lease_until_ms = "waiting", nil, nil, nil
  M.save(ns, job)
  local rank = (100 - tonumber(job.priority)) * 1e13 + tonumber(job.number)
  redis.call("ZADD", keys.jobs(ns, job.queue), string.format("%.0f", rank), job.id)
end

--- Put a job aside until its time.
function M.delay(ns, job, not_before)
  job.state, job.not_before_ms, job.owner, job.lease_until_ms = "delayed", string.format("%.0f", not_before), nil, nil
  M.save(ns, job)
  redis.call("ZADD", keys.jobs_delayed(ns, job.queue), job.not_before_ms, job.id)
end

--- Take a job out of the indexes of its queue.
function M.remove(ns, job)
  redis.call("ZREM", keys.jobs(ns, job.queue), job.id)
  redis.call("ZREM", keys.jobs_delayed(ns, job.queue), job.id)
  redis.call("ZREM", keys.jobs_leased(ns, job.queue), job.id)
end

--- End a job: `done` or `failed`. Its record goes when its time is over.
function M.finish(ns, job, state, now)
  job.state, job.owner, job.lease_until_ms = state, nil, nil
  job.finished_at_ms = string.format("%.0f", now)
  M.save(ns, job)
  redis.call("PEXPIRE", keys.job(ns, job.id), job.result_ttl_ms)
  if job.hash and redis.call("HGET", keys.jobs_dedupe(ns, job.queue), job.hash) == job.id then
    redis.call("HDEL", keys.jobs_dedupe(ns, job.queue), job.hash)
  end
end

--- An attempt came to nothing: again later, or failed for good. `retry_ms` nil doubles with each attempt.
function M.give_up(ns, job, now, reason, retry, retry_ms)
  redis.call("ZREM", keys.jobs_leased(ns, job.queue), job.id)
  job.error = reason
  if not retry or tonumber(job.attempts) >= tonumber(job.max_attempts) then
    M.finish(ns, job, "failed", now)
    return
  end
  M.delay(ns, job, now + (retry_ms or math.min(RETRY_MS * 2 ^ (tonumber(job.attempts) - 1), MAX_RETRY_MS)))
end

--- Delayed jobs whose time has come wait now, and leases that are over are taken back; at most `limit` each.
-- Returns how many leases were taken back, and how many of those jobs failed for good.
function M.turn(ns, queue, now, limit)
  local until_now = string.format("%.0f", now)
  local due = redis.call("ZRANGEBYSCORE", keys.jobs_delayed(ns, queue), "-inf", until_now, "LIMIT", 0, limit)
  for i = 1, #due do
    redis.call("ZREM", keys.jobs_delayed(ns, queue), due[i])
    M.wait(ns, M.load(ns, due[i]))
  end
  local lapsed = redis.call("ZRANGEBYSCORE", keys.jobs_leased(ns, queue), "-inf", until_now, "LIMIT", 0, limit)
  local failed = 0
  for i = 1, #lapsed do
    local job = M.load(ns, lapsed[i])
    M.give_up(ns, job, now, "the lease of " .. job.owner .. " ran out", true, 0)
    failed = failed + (job.state == "failed" and 1 or 0)
  end
  return #lapsed, failed
end

return M
