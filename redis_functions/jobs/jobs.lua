-- Jobs: work that takes longer than a request, done by any process that claims it, once at a time.
local args = require("lib.args")
local clock = require("core.clock")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local records = require("jobs.records")

local M = {}

-- A queue is bounded in number and in bytes: 1000 jobs of at most 64 kB.
local MAX_WAITING = 1000
local MAX_TEXT = 65536
local TURN = 100
local HOUR_MS = 3600000

local function queue_of(id)
  id = args.id(id, "queue")
  if #id > 48 then
    errors.fail("INVALID", "queue " .. id .. " must have at most 48 characters")
  end
  return id
end

-- A document that is only stored: it must be a JSON object, and stays byte for byte.
local function payload(text, what)
  if text == nil or text == "" then
    return "{}"
  end
  if #text > MAX_TEXT then
    errors.fail("LIMIT", what .. " has " .. #text .. " bytes, at most " .. MAX_TEXT .. " are taken")
  end
  args.document(text)
  return text
end

--- Submit a job.
--
-- The same kind and input as a job that is not finished yet is that job: nothing new is queued.
--
-- KEYS[1]  queue
-- ARGV[1]  {kind?, priority? (0 to 100, 50), not_before_ms?, max_attempts? (3), dedupe? (true), result_ttl_ms? (1 h), now_ms?}
-- ARGV[2]  input, a JSON object kept byte for byte (optional)
-- Returns  the job; duplicate: true where it was there already
-- Errors   INVALID  a field is wrong
--          LIMIT    1000 jobs wait already, or the input is past 64 kB
-- Writes   voltage:job:{id}, voltage:jobs:{queue} or :delayed, :dedupe, :number
-- Example  FCALL job_submit 1 exports '{"kind":"csv"}' '{"from":"-1d"}'
function M.submit(ns, id, argv)
  local queue = queue_of(id)
  local document = args.document(argv[1], true)
  local input = payload(argv[2], "the input")
  local job = {
    queue = queue, kind = args.text(document.kind, "kind", 64), input = input, attempts = "0", fence = "0",
    priority = string.format("%.0f", args.integer(document.priority, "priority", 0, 100, 50)),
    max_attempts = string.format("%.0f", args.integer(document.max_attempts, "max_attempts", 1, 100, 3)),
    result_ttl_ms = string.format("%.0f", args.integer(document.result_ttl_ms, "result_ttl_ms", 1, 30 * 24 * HOUR_MS, HOUR_MS)),
  }
  local not_before = args.integer(document.not_before_ms, "not_before_ms", 0, 9007199254740991, 0)
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  if document.dedupe ~= false then
    job.hash = redis.sha1hex((job.kind or "") .. "\n" .. input)
    local same = redis.call("HGET", keys.jobs_dedupe(ns, queue), job.hash)
    if same then
      return records.encode(records.load(ns, same), true)
    end
  end
  if redis.call("ZCARD", keys.jobs(ns, queue)) + redis.call("ZCARD", keys.jobs_delayed(ns, queue)) >= MAX_WAITING then
    errors.fail("LIMIT", "queue " .. queue .. " has " .. MAX_WAITING .. " jobs waiting")
  end
  job.number = string.format("%.0f", redis.call("INCR", keys.jobs_number(ns, queue)))
  job.id = queue .. "-" .. job.number
  job.created_at_ms = string.format("%.0f", now)
  if job.hash then
    redis.call("HSET", keys.jobs_dedupe(ns, queue), job.hash, job.id)
  end
  if not_before > now then
    records.delay(ns, job, not_before)
  else
    records.wait(ns, job)
  end
  return records.encode(job)
end

--- Take the next job: the highest priority, then the oldest.
--
-- Its fence is one higher at each claim; a holder whose lease ran out and whose job was taken by
-- another is refused by it.
--
-- KEYS[1]  queue
-- ARGV[1]  {owner, lease_ms? (30000), now_ms?}
-- Returns  the job, or null
-- Errors   INVALID  a field is wrong
-- Writes   voltage:job:{id}, voltage:jobs:{queue}, :delayed, :leased
-- Example  FCALL job_claim 1 exports '{"owner":"worker-1"}'
function M.claim(ns, id, argv)
  local queue = queue_of(id)
  local document = args.document(argv[1])
  local owner = args.text(document.owner, "owner", 128) or errors.fail("INVALID", "owner is missing")
  local lease = args.integer(document.lease_ms, "lease_ms", 1, 24 * HOUR_MS, 30000)
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  records.turn(ns, queue, now, TURN)
  local next_one = redis.call("ZPOPMIN", keys.jobs(ns, queue))
  if #next_one == 0 then
    return "null"
  end
  local job = records.load(ns, next_one[1])
  job.state, job.owner, job.lease_ms = "running", owner, string.format("%.0f", lease)
  job.attempts = string.format("%.0f", tonumber(job.attempts) + 1)
  job.fence = string.format("%.0f", tonumber(job.fence) + 1)
  job.started_at_ms = job.started_at_ms or string.format("%.0f", now)
  job.lease_until_ms = string.format("%.0f", now + lease)
  records.save(ns, job)
  redis.call("ZADD", keys.jobs_leased(ns, queue), job.lease_until_ms, job.id)
  return records.encode(job)
end

local function held(ns, id, document)
  local fence = args.integer(document.fence, "fence", 1, 9007199254740991)
  local job = records.load(ns, id)
  if fence < tonumber(job.fence) then
    errors.fail("CONFLICT", "job " .. id .. " was taken by another: its fence is " .. job.fence)
  end
  return job, fence
end

local function running(job, fence)
  if job.state ~= "running" or fence ~= tonumber(job.fence) then
    errors.fail("STATE", "job " .. job.id .. " is " .. job.state)
  end
end

--- Say how far a job is; its lease lasts from now on for its whole length.
--
-- KEYS[1]  job
-- ARGV[1]  {fence, progress (0 to 1), message?, now_ms?}
-- Returns  the job
-- Errors   NOTFOUND  no such job
--          CONFLICT  another took it
--          STATE     it is not running
-- Writes   voltage:job:{id}, voltage:jobs:{queue}:leased
-- Example  FCALL job_progress 1 exports-1 '{"fence":1,"progress":0.5}'
function M.progress(ns, id, argv)
  local document = args.document(argv[1])
  local progress = args.number(document.progress, "progress")
  if progress < 0 or progress > 1 then
    errors.fail("INVALID", "progress must be 0 to 1")
  end
  local message = args.text(document.message, "message", 512)
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  local job, fence = held(ns, id, document)
  running(job, fence)
  job.progress, job.message = cjson.encode(progress), message or job.message
  job.lease_until_ms = string.format("%.0f", now + tonumber(job.lease_ms))
  records.save(ns, job)
  redis.call("ZADD", keys.jobs_leased(ns, job.queue), job.lease_until_ms, job.id)
  return records.encode(job)
end

--- Finish a job with its result, which is kept for the job's result_ttl_ms.
--
-- Twice by the same holder is a repeat without effect.
--
-- KEYS[1]  job
-- ARGV[1]  {fence, now_ms?}
-- ARGV[2]  result, a JSON object kept byte for byte (optional)
-- Returns  the job
-- Errors   NOTFOUND  no such job
--          CONFLICT  another took it
--          STATE     it is not running
--          LIMIT     the result is past 64 kB
-- Writes   voltage:job:{id}, voltage:jobs:{queue}:leased, :dedupe
-- Example  FCALL job_complete 1 exports-1 '{"fence":1}' '{"file":"a.csv"}'
function M.complete(ns, id, argv)
  local document = args.document(argv[1])
  local result = payload(argv[2], "the result")
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  local job, fence = held(ns, id, document)
  if job.state == "done" and fence == tonumber(job.fence) then
    return records.encode(job)
  end
  running(job, fence)
  redis.call("ZREM", keys.jobs_leased(ns, job.queue), job.id)
  job.result, job.progress, job.error = result, "1", nil
  records.finish(ns, job, "done", now)
  return records.encode(job)
end

--- Say that an attempt failed: the job comes again later, until its attempts are used up.
--
-- KEYS[1]  job
-- ARGV[1]  {fence, error, retry? (true), retry_ms? (1 s, doubled at each attempt), now_ms?}
-- Returns  the job, `delayed` or `failed`
-- Errors   NOTFOUND  no such job
--          CONFLICT  another took it
--          STATE     it is not running
-- Writes   voltage:job:{id}, voltage:jobs:{queue}:delayed, :leased, :dedupe
-- Example  FCALL job_fail 1 exports-1 '{"fence":1,"error":"disk full"}'
function M.fail(ns, id, argv)
  local document = args.document(argv[1])
  local reason = args.text(document.error, "error", 4096) or errors.fail("INVALID", "error is missing")
  local retry_ms = document.retry_ms ~= nil and args.integer(document.retry_ms, "retry_ms", 0, 24 * HOUR_MS) or nil
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  local job, fence = held(ns, id, document)
  running(job, fence)
  records.give_up(ns, job, now, reason, document.retry ~= false, retry_ms)
  return records.encode(job)
end

--- Take back jobs whose lease ran out, and let delayed ones wait whose time has come.
--
-- job_claim does the same for its queue; this is for a queue that nobody claims from.
--
-- KEYS[1]  queue
-- ARGV[1]  {limit? (100, at most 1000), now_ms?}
-- Returns  {reaped, failed}: leases taken back, and how many of those jobs had no attempt left
-- Errors   INVALID  a field is wrong
-- Writes   voltage:job:{id}, voltage:jobs:{queue}, :delayed, :leased, :dedupe
-- Example  FCALL job_reap 1 exports
function M.reap(ns, id, argv)
  local queue = queue_of(id)
  local document = args.document(argv[1], true)
  local limit = args.integer(document.limit, "limit", 1, 1000, TURN)
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  local reaped, failed = records.turn(ns, queue, now, limit)
  return json.object({ "reaped", reaped, "failed", failed })
end

--- A job.
--
-- KEYS[1]  job
-- Returns  {id, queue, kind, state: waiting|delayed|running|done|failed, progress, result, error, ...}
-- Errors   NOTFOUND  no such job, or its result is gone
-- Example  FCALL job_get 1 exports-1
function M.get(ns, id)
  return records.encode(records.load(ns, id))
end

--- The jobs of a queue, newest first; a finished one until its result is gone.
--
-- KEYS[1]  queue
-- ARGV[1]  {limit? (100, at most 1000), cursor?}
-- Returns  {items, cursor}
-- Errors   INVALID  a field is wrong
-- Example  FCALL job_list 1 exports
function M.list(ns, id, argv)
  local queue = queue_of(id)
  local document = args.document(argv[1], true)
  local limit = args.integer(document.limit, "limit", 1, 1000, TURN)
  local newest = tonumber(redis.call("GET", keys.jobs_number(ns, queue)) or "0") + 1
  local number = args.integer(document.cursor, "cursor", 1, 9007199254740991, newest)
  local items, looked = {}, 0
  while number > 1 and #items < limit and looked < MAX_WAITING do
    number, looked = number - 1, looked + 1
    local one = queue .. "-" .. string.format("%.0f", number)
    if redis.call("EXISTS", keys.job(ns, one)) == 1 then
      items[#items + 1] = records.encode(records.load(ns, one))
    end
  end
  local more = number > 1 and #items == limit
  return json.object({
    "items", json.list(items), "cursor", more and json.text(string.format("%.0f", number)) or "null",
  })
end

--- Cancel a job: one that waits never runs, one that runs is stopped at its next job_progress.
--
-- KEYS[1]  job
-- ARGV[1]  {by, now_ms?}
-- Returns  the job, failed with the reason; one that was cancelled before is returned as it is
-- Errors   NOTFOUND  no such job, or its result is gone
--          STATE     it is done, or failed by itself
-- Writes   voltage:job:{id}, voltage:jobs:{queue}, :delayed, :leased, :dedupe
-- Example  FCALL job_cancel 1 exports-1 '{"by":"ann"}'
function M.cancel(ns, id, argv)
  local document = args.document(argv[1])
  local by = args.text(document.by, "by", 128) or errors.fail("INVALID", "by is missing")
  local job = records.load(ns, id)
  if job.cancelled then
    return records.encode(job)
  end
  if job.state == "done" or job.state == "failed" then
    errors.fail("STATE", "job " .. id .. " is " .. job.state)
  end
  local now = clock.advance(ns, document.now_ms ~= nil and args.now(document.now_ms) or nil)
  records.remove(ns, job)
  job.cancelled, job.error = "1", "cancelled by " .. by
  records.finish(ns, job, "failed", now)
  return records.encode(job)
end

return M
