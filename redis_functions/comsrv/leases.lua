-- Who may write a channel: a lease and an epoch. When the lease lapses nothing of the channel stays good.
local calculations = require("core.calculations")
local errors = require("lib.errors")
local keys = require("lib.keys")
local replay = require("core.replay")
local slots = require("core.slots")
local streams = require("lib.streams")
local system_alarms = require("core.system_alarms")
local timers = require("core.timers")

local M = {}

local KINDS = { "T", "S", "C", "A", "X" }
local CHUNK = 500

--- Refuse an epoch that is not the channel's present one.
function M.check_epoch(ctx, ch, epoch)
  local current = tonumber(redis.call("HGET", keys.status(ctx.ns, ch), "epoch") or 0)
  if type(epoch) ~= "number" then
    errors.fail("INVALID", "epoch must be a number")
  end
  if epoch < current then
    errors.fail("CONFLICT", string.format("channel %s is at epoch %.0f, not %.0f: another comsrv took it", ch, current, epoch))
  elseif epoch > current then
    errors.fail("STATE", string.format("channel %s is at epoch %.0f, not %.0f: claim it again", ch, current, epoch))
  end
end

--- Refuse a call without a live lease.
function M.check_lease(ctx, ch, epoch)
  M.check_epoch(ctx, ch, epoch)
  if redis.call("HGET", keys.status(ctx.ns, ch), "leased") ~= "1" then
    errors.fail("STATE", "the lease of channel " .. ch .. " lapsed: claim it again")
  end
end

--- The lease lasts from now on for its whole length.
function M.extend(ctx, ch, lease_ms)
  timers.set(ctx.ns, ctx.now + lease_ms, "lease", ch)
end

--- What comes is older than a lease, as after a time in which Redis did not answer; or it is no more.
function M.fall_behind(ctx, ch, behind)
  if behind then
    redis.call("HSET", keys.status(ctx.ns, ch), "behind", "1")
  else
    redis.call("HDEL", keys.status(ctx.ns, ch), "behind")
  end
end

--- Why nothing is to be commanded by a channel's points, whatever their quality, or nil. A lease that is over may not
-- have ended yet: timers fire in order and a few a call, and after a sleep of the machine a hold that was over before
-- the lease fires first.
function M.distrusted(ctx, ch)
  local status = redis.call("HMGET", keys.status(ctx.ns, ch), "leased", "behind")
  local due = timers.due_at(ctx.ns, "lease", ch)
  if status[1] == "0" or (due and due <= ctx.now) then
    return "channel " .. ch .. " is stale"
  end
  return status[2] == "1" and "what comes of channel " .. ch .. " is older than its lease" or nil
end

-- The next points of a channel. The order of a large hash is the server's own, so it is in the replay log.
local function next_points(base, cursor)
  local found
  local noted = replay.fact("points|" .. base .. "|" .. cursor, function()
    found = redis.call("HSCAN", base, cursor, "COUNT", CHUNK)
    return (cursor ~= "0" or found[1] ~= "0") and found or nil
  end)
  return noted or found or { "0", redis.call("HGETALL", base) }
end

local function mark_chunk(ctx, ch, kind, cursor, quality, at)
  local base = ctx.ns .. "comsrv:" .. ch .. ":" .. (kind == "X" and "text" or kind)
  local reply = next_points(base, cursor)
  local section = { ids = {}, values = {}, quality = {} }
  local points = (ctx.graph.owners["comsrv:" .. ch] or {})[kind] or {}
  local any = false
  for i = 1, #reply[2], 2 do
    local id = reply[2][i]
    section.quality[id] = quality
    any = true
    local slot = points[id]
    if slot then
      slot.quality, slot.at = quality, at
      ctx.touched[#ctx.touched + 1] = slot
    end
  end
  if any then
    calculations.store_sections(ctx, ch, { [kind] = section }, at)
  end
  return reply[1]
end

--- Mark a channel's points, 500 at a time; the rest follows by timer at the same instant.
function M.mark(ctx, ch, quality, at)
  for i = 1, #KINDS do
    local cursor = mark_chunk(ctx, ch, KINDS[i], "0", quality, at)
    if cursor ~= "0" then
      timers.set(ctx.ns, at, "stale", ch .. "|" .. KINDS[i] .. "|" .. cursor .. "|" .. quality)
    end
  end
end

--- The timer of M.mark: the next 500.
function M.mark_on(ctx, id, due)
  local ch, kind, cursor, quality = string.match(id, "^([^|]+)|(%u)|(%d+)|(.*)$")
  if redis.call("HGET", keys.status(ctx.ns, ch), "leased") == "1" then
    return
  end
  local following = mark_chunk(ctx, ch, kind, cursor, quality, due)
  if following ~= "0" then
    timers.set(ctx.ns, due, "stale", ch .. "|" .. kind .. "|" .. following .. "|" .. quality)
  end
end

--- End a lease: every point of the channel becomes bad:stale.
function M.lapse(ctx, ch, at, state)
  local status = keys.status(ctx.ns, ch)
  if redis.call("HGET", status, "leased") ~= "1" then
    return
  end
  redis.call("HSET", status, "leased", "0", "state", state or "stale", "since_ms", string.format("%.0f", at))
  timers.cancel(ctx.ns, "lease", ch)
  if state then
    system_alarms.at_rest(ctx, ch, at)
  else
    streams.event(ctx.ns, at, "lease_lapsed", "channel " .. ch)
    system_alarms.channel(ctx, ch, "stale", "no comsrv polls it", at)
  end
  M.mark(ctx, ch, "bad:stale", at)
end

--- The slot of a point, when anything depends on it.
function M.slot(ctx, ch, kind, id)
  local kinds = ctx.graph.owners["comsrv:" .. ch]
  return kinds and kinds[kind] and kinds[kind][id]
end

--- Put one value of one point into the image: a confirmed command, a substitution. `kind` X is a text.
function M.put(ctx, ch, kind, id, text, quality)
  local slot = slots.slot(ctx.graph, "comsrv:" .. ch, kind, id)
  ctx.graph.fresh = {}
  slot.quality, slot.at = quality, ctx.now
  if text and kind == "X" then
    slot.value, slot.text = text, cjson.encode(text)
  elseif text then
    slot.value, slot.text = tonumber(text), text
  end
  local section = { ids = {}, values = {}, quality = {} }
  if text then
    section.ids[1], section.values[1] = id, text
  end
  if quality then
    section.quality[id] = quality
  end
  calculations.store_sections(ctx, ch, { [kind] = section }, ctx.now)
  ctx.touched[#ctx.touched + 1] = slot
end

return M
