-- What is checked before a command is taken, and once more before it leaves.
local args = require("lib.args")
local errors = require("lib.errors")
local holds = require("comsrv.holds")
local interlocks = require("comsrv.interlocks")
local keys = require("lib.keys")
local limits = require("comsrv.limits")
local numbers = require("lib.numbers")
local records = require("comsrv.records")
local wear = require("comsrv.wear")

local M = {}

M.MAX_SELECTION_MS = 600000
local DEFAULT_TTL_MS = 10000
local MAX_LEASE_MS = 86400000
-- A fall-back has the source `system`, which is ours alone.
local SOURCES = { "user", "rule", "model", "network", "schedule", "protection" }

--- Who holds a point by select-before-operate, or nil.
function M.selected_by(ctx, ch, point)
  local text = redis.call("HGET", keys.selected(ctx.ns, ch), point)
  local selection = text and cjson.decode(text)
  -- One that would last longer than any may is from before the clock was set back.
  local left = selection and selection.until_ms - ctx.now or 0
  return left > 0 and left <= M.MAX_SELECTION_MS and selection.by or nil
end

local function tagged(ctx, ch, point)
  local text = redis.call("HGET", keys.tags(ctx.ns, ch), point)
  local tag = text and cjson.decode(text)
  if tag and (not tag.until_ms or tag.until_ms > ctx.now) then
    return point .. " has a " .. tag.kind .. " tag of " .. tag.by .. ": " .. tag.reason
  end
  return nil
end

local function selected(ctx, ch, point, command, options)
  local holder = M.selected_by(ctx, ch, point)
  if holder and holder ~= command.source_name then
    return point .. " is selected by " .. holder
  end
  if options.select and not holder then
    return point .. " must be selected before it is operated"
  end
  return nil
end

local function held(ctx, ch, point, command)
  local hold = holds.of(ctx, ch, point)
  if hold and not holds.own(hold, command.source_kind, command.source_name)
    and not holds.yields(hold, command.authority, command.priority) then
    return point .. " is " .. holds.describe(hold)
  end
  return nil
end

--- Why a command may not go out now, or nil: a tag, a selection, a holder of higher authority, an interlock.
-- A fall-back is stopped by nothing but a tag: somebody's hands may be on the equipment.
function M.blocked(ctx, ch, command, options)
  local point = command.type .. ":" .. command.point
  local problem = tagged(ctx, ch, point)
  if problem or command.source_kind == "system" then
    return problem
  end
  return selected(ctx, ch, point, command, options) or held(ctx, ch, point, command)
    or (not command.bypass_by and interlocks.problem(ctx, options)) or nil
end

--- Why the point may not be written again now, or nil.
function M.worn(ctx, ch, command, options)
  if command.source_kind == "system" then
    return nil
  end
  return wear.problem(ctx, ch, command.type .. ":" .. command.point, options)
end

--- What a point's table says about commanding it, at the moment a command goes out.
function M.options_of(ctx, ch, command)
  local ok, found = pcall(limits.of, ctx.ns, ch, command.type .. ":" .. command.point)
  return ok and found.options or nil
end

local function bypass_of(document)
  local bypass = args.object(document.bypass, "bypass")
  if document.bypass == nil then
    return nil
  end
  local by = args.text(bypass.by, "bypass.by", 64)
  local reason = args.text(bypass.reason, "bypass.reason", 512)
  if not by or by == "" or not reason or reason == "" then
    errors.fail("INVALID", "bypass needs by and reason")
  end
  return { by = by, reason = reason }
end

-- The lease a command asks for, or that its point gives to each; `false` asks for none.
local function lease_of(document, options)
  if document.lease_ms == 0 then
    return nil
  end
  local lease = document.lease_ms or options.lease_ms
  return lease and string.format("%.0f", args.integer(lease, "lease_ms", 1, MAX_LEASE_MS)) or nil
end

local function record_of(ch, document, value, found)
  local options = found.options
  local source = type(document.source) == "table" and document.source or { kind = "user", name = "redis-cli" }
  local source_kind = args.choice(source.kind or "user", "source.kind", SOURCES)
  local bypass = bypass_of(document)
  local fallback = document.fallback
  if fallback == nil then
    fallback = options.fallback
  end
  local verify = document.verify ~= false and options.verify ~= false
  return {
    id = document.id and args.id(document.id, "command id"), channel = ch, type = document.type,
    point = args.point(document.point), value = value, text = found.text and "1" or nil,
    verify = verify and "1" or "0", source_kind = source_kind,
    source_name = args.text(source.name, "source.name", 64) or "",
    authority = document.authority and args.choice(document.authority, "authority", holds.AUTHORITIES)
      or holds.authority(source_kind),
    priority = string.format("%.0f", args.integer(document.priority, "priority", 0, 100, 50)),
    ttl_ms = string.format("%.0f", args.integer(document.ttl_ms, "ttl_ms", 1, records.MAX_TTL_MS, DEFAULT_TTL_MS)),
    lease_ms = lease_of(document, options), fallback = fallback and numbers.format(args.number(fallback, "fallback")),
    bypass_by = bypass and bypass.by, bypass_reason = bypass and bypass.reason,
  }
end

--- Check a submission whole; returns the record to be, nothing is written.
function M.prepare(ctx, ch, document)
  local kind = args.choice(document.type, "type", { "A", "C" })
  local found = limits.of(ctx.ns, ch, kind .. ":" .. args.point(document.point))
  local value = limits.value(found, document.value)
  if found.text and (document.fallback ~= nil or (document.lease_ms or 0) ~= 0) then
    errors.fail("INVALID", (document.fallback and "fallback" or "lease_ms") .. ": a text is not held, " .. found.ref)
  elseif document.fallback ~= nil then
    limits.check(found, args.number(document.fallback, "fallback"))
  end
  if document.verify ~= nil and type(document.verify) ~= "boolean" then
    errors.fail("INVALID", "verify must be true or false")
  end
  local command = record_of(ch, document, value, found)
  local problem = M.blocked(ctx, ch, command, found.options)
  if problem then
    errors.fail("STATE", problem)
  end
  problem = M.worn(ctx, ch, command, found.options)
  if problem then
    errors.fail("LIMIT", problem)
  end
  if redis.call("ZCARD", keys.command_queue(ctx.ns, ch)) >= records.MAX_QUEUED then
    errors.fail("LIMIT", "channel " .. ch .. " has " .. records.MAX_QUEUED .. " commands queued")
  end
  command.latest_only = found.options.latest_only or nil
  return command
end

--- Check what a rule's action asks for. Returns channel, record, problem; never stops the call.
function M.of_rule(ctx, rule, params)
  local ch, kind, point = params.channel, params.type, params.point
  if params.target then
    ch, kind, point = limits.target(ctx.graph, params.target)
    if not ch then
      return nil, nil, params.target .. " is no point that can be commanded"
    end
  end
  local ok, found = pcall(function()
    ch = args.channel(ch)
    return M.prepare(ctx, ch, {
      type = kind, point = point, value = params.value, priority = params.priority, ttl_ms = params.ttl_ms,
      verify = params.verify, source = { kind = "rule", name = rule }, authority = params.authority,
      lease_ms = params.lease_ms, fallback = params.fallback,
    })
  end)
  if not ok then
    return nil, nil, type(found) == "table" and found.code and (found.code .. " " .. found.message) or tostring(found)
  end
  return ch, found, nil
end

return M
