-- A change of a definition that says `requires_approval: true` is proposed by one person and approved by another.
local args = require("lib.args")
local clock = require("core.clock")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local pages = require("lib.pages")
local streams = require("lib.streams")
local timers = require("core.timers")
local versions = require("core.versions")

local M = {}

local KEPT = 1000
local PENDING_EACH = 10
local DAY_MS = 86400000
local STATUS = { "pending", "approved", "rejected", "expired" }

local function load(ns, id)
  local found = redis.call("HGETALL", keys.proposal(ns, id))
  if #found == 0 then
    return nil
  end
  local proposal = {}
  for i = 1, #found, 2 do
    proposal[found[i]] = found[i + 1]
  end
  return proposal
end

local function encode(proposal)
  return json.object({
    "id", json.text(proposal.id), "kind", json.text(proposal.kind), "of", json.text(proposal.of),
    "action", json.text(proposal.action),
    "of_version", proposal.of_version, "base", proposal.base, "by", json.text(proposal.by),
    "reason", proposal.reason and json.text(proposal.reason), "status", json.text(proposal.status),
    "created_at_ms", proposal.created_at_ms, "expires_at_ms", proposal.expires_at_ms,
    "decided_by", proposal.decided_by and json.text(proposal.decided_by), "decided_at_ms", proposal.decided_at_ms,
    "comment", proposal.comment and json.text(proposal.comment), "definition", proposal.said or "null",
  })
end

local function journal(ns, now, proposal, by)
  streams.event(ns, now, "proposal_" .. proposal.status, json.object({
    "id", json.text(proposal.id), "kind", json.text(proposal.kind), "of", json.text(proposal.of),
    "action", json.text(proposal.action), "by", json.text(by), "proposed_by", json.text(proposal.by),
  }))
end

local function decide(ns, proposal, status, now, by, comment)
  proposal.status, proposal.decided_at_ms = status, json.integer(now)
  proposal.decided_by, proposal.comment = by, comment
  redis.call("HSET", keys.proposal(ns, proposal.id), "status", status, "decided_at_ms", proposal.decided_at_ms)
  if by then
    redis.call("HSET", keys.proposal(ns, proposal.id), "decided_by", by, "comment", comment or "")
  end
  redis.call("SREM", keys.proposals_pending(ns, proposal.kind, proposal.of), proposal.id)
  timers.cancel(ns, "proposal", proposal.id)
  journal(ns, now, proposal, by or "")
end

local function forget_oldest(ns)
  local surplus = redis.call("ZCARD", keys.proposals(ns)) - KEPT
  local found = surplus > 0 and redis.call("ZRANGE", keys.proposals(ns), 0, surplus - 1) or {}
  for i = 1, #found do
    local proposal = load(ns, found[i])
    if proposal then
      redis.call("SREM", keys.proposals_pending(ns, proposal.kind, proposal.of), found[i])
      timers.cancel(ns, "proposal", found[i])
    end
    redis.call("DEL", keys.proposal(ns, found[i]))
    redis.call("ZREM", keys.proposals(ns), found[i])
  end
end

-- What is proposed: the action, the document it leads to, and the version it brings back.
local function wanted(ns, kind, of, document, before)
  if document.delete == true then
    return "delete"
  elseif document.version ~= nil then
    local number = args.integer(document.version, "version", 0, 9007199254740991)
    return "rollback", versions.said(ns, kind, of, number), json.integer(number)
  end
  local text = args.text(document.definition, "definition", args.MAX_DOCUMENT)
  if not text then
    errors.fail("INVALID", "definition is missing (or give version or delete: true)")
  end
  text = json.with_id(text, args.document(text), of)
  if versions.same(text, before) then
    errors.fail("STATE", "it says so already")
  end
  return "change", text
end

--- Propose a change of a definition that requires approval.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind, id (of the proposal), by, definition (its JSON as a text) or version (to bring back) or delete: true,
--          reason?, ttl_ms? (7 days), now_ms?}
-- Returns  the proposal: {id, kind, of, action, definition, base, by, reason?, status, created_at_ms, expires_at_ms}
-- Errors   NOTFOUND  no such definition
--          CONFLICT  a proposal has that id
--          STATE     the definition requires no approval, or says so already
--          LIMIT     10 proposals wait for the definition
--          INVALID   a field is wrong
-- Writes   voltage:proposal:{id}, voltage:proposals, voltage:events
-- Example  FCALL definition_propose 1 r1 '{"kind":"rule","id":"p1","by":"ann","delete":true}'
function M.propose(ns, id, argv)
  local document = args.document(argv[1])
  local kind, of, noun = versions.named(id, document)
  local proposal_id = args.id(document.id, "proposal")
  local by = args.text(document.by, "by", 128) or errors.fail("INVALID", "by is missing")
  local ttl = args.integer(document.ttl_ms, "ttl_ms", 1000, 365 * DAY_MS, 7 * DAY_MS)
  local now = clock.instant(ns, document.now_ms)
  local text, before = versions.present(ns, kind, of)
  if not text then
    errors.fail("NOTFOUND", noun .. " " .. of)
  elseif before.requires_approval ~= true then
    errors.fail("STATE", noun .. " " .. of .. " requires no approval: change it")
  elseif redis.call("EXISTS", keys.proposal(ns, proposal_id)) == 1 then
    errors.fail("CONFLICT", "proposal " .. proposal_id .. " exists")
  elseif redis.call("SCARD", keys.proposals_pending(ns, kind, of)) >= PENDING_EACH then
    errors.fail("LIMIT", PENDING_EACH .. " proposals wait for " .. noun .. " " .. of)
  end
  local action, said, of_version = wanted(ns, kind, of, document, before)
  local proposal = {
    id = proposal_id, kind = kind, of = of, action = action, said = said, of_version = of_version, by = by,
    base = json.integer(before.version or 0), reason = args.text(document.reason, "reason", 500), status = "pending",
    created_at_ms = json.integer(now), expires_at_ms = json.integer(now + ttl),
  }
  local flat = {}
  for _, name in ipairs({
    "id", "kind", "of", "action", "said", "of_version", "by", "base", "reason", "status", "created_at_ms", "expires_at_ms",
  }) do
    if proposal[name] then
      flat[#flat + 1], flat[#flat + 2] = name, proposal[name]
    end
  end
  redis.call("HSET", keys.proposal(ns, proposal_id), unpack(flat))
  redis.call("ZADD", keys.proposals(ns), json.integer(now), proposal_id)
  redis.call("SADD", keys.proposals_pending(ns, kind, of), proposal_id)
  timers.set(ns, now + ttl, "proposal", proposal_id)
  journal(ns, now, proposal, by)
  forget_oldest(ns)
  return encode(proposal)
end

-- Files are applied by someone, too.
local function person(by)
  return (string.gsub(by, "^file:", ""))
end

local function open(ns, id, document, now)
  local proposal = load(ns, args.id(id, "proposal")) or errors.fail("NOTFOUND", "proposal " .. id)
  versions.mark(proposal.kind)
  if proposal.status ~= "pending" or tonumber(proposal.expires_at_ms) <= now then
    local status = proposal.status == "pending" and "expired" or proposal.status
    errors.fail("STATE", "proposal " .. id .. " is " .. status)
  end
  local by = args.text(document.by, "by", 128) or errors.fail("INVALID", "by is missing")
  return proposal, by, args.text(document.comment, "comment", 512)
end

--- Approve a proposal as another person than who made it: it is carried out in the same call.
--
-- KEYS[1]  proposal
-- ARGV[1]  {by, comment?, now_ms?}
-- Returns  the proposal, with decided_by and decided_at_ms
-- Errors   NOTFOUND  no such proposal
--          STATE     it is not pending any more, or `by` made it
--          CONFLICT  the definition was changed since it was proposed
--          INVALID   what it says is not valid
-- Writes   as the change itself; voltage:proposal:{id}, voltage:events
-- Example  FCALL definition_approve 1 p1 '{"by":"bob"}'
function M.approve(ns, id, argv)
  local document = args.document(argv[1])
  local now = clock.instant(ns, document.now_ms)
  local proposal, by, comment = open(ns, id, document, now)
  if person(by) == person(proposal.by) then
    errors.fail("STATE", person(by) .. " proposed it; another person must approve")
  end
  local change = {
    by = proposal.by, approved_by = by, reason = proposal.reason, version = tonumber(proposal.base), existing = true,
    now_ms = document.now_ms,
  }
  if proposal.action == "delete" then
    versions.remove(ns, proposal.kind, proposal.of, change)
  elseif proposal.action == "rollback" then
    versions.bring_back(ns, proposal.kind, proposal.of, tonumber(proposal.of_version), change)
  else
    versions.put(ns, proposal.kind, proposal.of, proposal.said, change)
  end
  decide(ns, proposal, "approved", now, by, comment)
  return encode(proposal)
end

--- Reject a proposal, or take back one's own.
--
-- KEYS[1]  proposal
-- ARGV[1]  {by, comment?, now_ms?}
-- Returns  the proposal
-- Errors   NOTFOUND  no such proposal
--          STATE     it is not pending any more
-- Writes   voltage:proposal:{id}, voltage:events
-- Example  FCALL definition_reject 1 p1 '{"by":"bob","comment":"too early"}'
function M.reject(ns, id, argv)
  local document = args.document(argv[1])
  local now = clock.instant(ns, document.now_ms)
  local proposal, by, comment = open(ns, id, document, now)
  decide(ns, proposal, "rejected", now, by, comment)
  return encode(proposal)
end

--- Proposals, newest first.
--
-- ARGV[1]  {kind?, of?, status?, limit?, cursor?}
-- Returns  {items, cursor}
-- Example  FCALL definition_proposals 0 '{"status":"pending"}'
function M.list(ns, _, argv)
  local filter = args.document(argv[1], true)
  if filter.status ~= nil then
    args.choice(filter.status, "status", STATUS)
  end
  return pages.newest(keys.proposals(ns), filter, function(id)
    local proposal = load(ns, id)
    if proposal and (not filter.kind or filter.kind == proposal.kind) and (not filter.of or filter.of == proposal.of)
      and (not filter.status or filter.status == proposal.status) then
      return encode(proposal)
    end
  end)
end

--- A proposal that nobody decided on in time.
function M.expire(ctx, id, due)
  local proposal = load(ctx.ns, id)
  if proposal and proposal.status == "pending" then
    decide(ctx.ns, proposal, "expired", due)
  end
end

return M
