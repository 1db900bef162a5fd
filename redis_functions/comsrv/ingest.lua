-- The process image: one call a polled block, atomically and in this order: due timers, epoch and
-- sequence, values with quality and time, models, rules and alarms, history, publication, counters.
local args = require("lib.args")
local call = require("core.call")
local engine = require("core.engine")
local errors = require("lib.errors")
local history = require("core.history")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local publish = require("core.publish")

local M = {}

local MAX_POINTS = 500
local KIND = { T = true, S = true, C = true, A = true }
local ORIGIN = { poll = true, event = true, backfill = true }
local RECORDED = { T = true, S = true }

local function decode(text)
  if text == nil or #text > args.MAX_DOCUMENT then
    errors.fail("LIMIT", "a document of at most " .. args.MAX_DOCUMENT .. " bytes is needed")
  end
  local ok, document = pcall(string.byte(text) == 123 and cjson.decode or cmsgpack.unpack, text)
  if not ok or type(document) ~= "table" then
    errors.fail("INVALID", "the document is neither JSON nor msgpack")
  end
  for name, value in pairs(document) do
    if value == cjson.null then
      document[name] = nil
    end
  end
  return document
end

local function check_quality(path, quality)
  if type(quality) ~= "table" then
    errors.fail("INVALID", path .. ".quality must map point ids to texts")
  end
  for id, text in pairs(quality) do
    if not string.find(tostring(id), "^[1-9]%d*$") then
      errors.fail("INVALID", path .. ".quality has an id that is no number: " .. tostring(id))
    end
    if type(text) ~= "string" or not (string.find(text, "^bad:[%w_]+$") or string.find(text, "^uncertain:[%w_]+$")) then
      errors.fail("INVALID", path .. ".quality of " .. id .. " must be bad:<reason> or uncertain:<reason>")
    end
  end
end

-- The values of a section are checked as one text: a pattern over the joined list takes a tenth of
-- the time of a match a value. NaN, infinity, exponents and hexadecimal can't pass.
local function check_section(path, section)
  if type(section) ~= "table" or not KIND[section.type] then
    errors.fail("INVALID", path .. ".type must be T, S, C or A")
  end
  section.ids, section.values = section.ids or {}, section.values or {}
  section.quality = section.quality or {}
  local ids, values = section.ids, section.values
  if type(ids) ~= "table" or type(values) ~= "table" or #ids ~= #values then
    errors.fail("INVALID", path .. " needs as many values as ids")
  end
  if #ids > 0 then
    local joined = table.concat(ids, ",") .. ","
    if string.gsub(joined, "[1-9]%d*,", "") ~= "" then
      errors.fail("INVALID", path .. ".ids must be point numbers")
    end
    joined = table.concat(values, ",") .. ","
    if string.gsub(joined, "%-?%d+%.%d%d%d%d%d%d,", "") ~= "" then
      errors.fail("INVALID", path .. ".values must be texts with six decimals")
    end
    if type(ids[1]) ~= "string" then
      for i = 1, #ids do
        ids[i] = tostring(ids[i])
      end
    end
  end
  check_quality(path, section.quality)
  return #ids
end

local function check_events(events)
  for i = 1, #events do
    local event = events[i]
    local path = "events[" .. (i - 1) .. "]"
    if type(event) ~= "table" or not KIND[event[1]] or not string.find(tostring(event[2]), "^[1-9]%d*$") then
      errors.fail("INVALID", path .. " must be [type, id, source_at_ms, value, quality]")
    end
    event[2] = tostring(event[2])
    args.integer(event[3], path .. "[2]", 0, 9007199254740991)
    if not string.find(tostring(event[4]), "^%-?%d+%.%d%d%d%d%d%d$") then
      errors.fail("INVALID", path .. "[3] must be a text with six decimals")
    end
    event[5] = event[5] ~= "" and event[5] ~= cjson.null and event[5] or nil
  end
end

local function check(document)
  if not ORIGIN[document.origin or "poll"] then
    errors.fail("INVALID", "origin must be poll, event or backfill")
  end
  if type(document.seq) ~= "number" or type(document.block) ~= "string" or #document.block > 64 then
    errors.fail("INVALID", "seq must be a number and block a text of at most 64 bytes")
  end
  args.integer(document.at_ms, "at_ms", 0, 9007199254740991)
  local count = 0
  document.sections = document.sections or {}
  for i = 1, #document.sections do
    count = count + check_section("sections[" .. (i - 1) .. "]", document.sections[i])
  end
  document.events = document.events or {}
  check_events(document.events)
  if count + #document.events > MAX_POINTS then
    errors.fail("LIMIT", "a call takes at most " .. MAX_POINTS .. " points, not " .. (count + #document.events))
  end
end

-- Points that a person substituted keep the substitute; the device's values are left out.
local function without_substituted(ctx, ch, section)
  local found = redis.call("HKEYS", keys.substituted(ctx.ns, ch))
  local held = {}
  for i = 1, #found do
    held[found[i]] = true
  end
  local ids, values = {}, {}
  for i = 1, #section.ids do
    if not held[section.type .. ":" .. section.ids[i]] then
      ids[#ids + 1] = section.ids[i]
      values[#values + 1] = section.values[i]
    end
  end
  for id in pairs(section.quality) do
    if held[section.type .. ":" .. id] then
      section.quality[id] = nil
    end
  end
  section.ids, section.values = ids, values
end

local function store_quality(ctx, ch, section, at_text)
  local key = keys.values_quality(ctx.ns, ch, section.type)
  local quality = section.quality
  if redis.call("EXISTS", key) == 1 and #section.ids > 0 then
    redis.call("HDEL", key, unpack(section.ids))
  end
  if next(quality) == nil then
    return 0
  end
  local valued = {}
  for i = 1, #section.ids do
    valued[section.ids[i]] = true
  end
  local flat, instants, only = {}, {}, 0
  for id, text in pairs(quality) do
    flat[#flat + 1], flat[#flat + 2] = id, text
    if not valued[id] then
      instants[#instants + 1], instants[#instants + 2] = id, at_text
      only = only + 1
    end
  end
  redis.call("HSET", key, unpack(flat))
  if only > 0 then
    redis.call("HSET", keys.values_at(ctx.ns, ch, section.type), unpack(instants))
  end
  return only
end

local function store_values(ctx, ch, section, at_text)
  local ids, values = section.ids, section.values
  local pairs_, instants = {}, {}
  for i = 1, #ids do
    local id = ids[i]
    local j = 2 * i
    pairs_[j - 1], pairs_[j] = id, values[i]
    instants[j - 1], instants[j] = id, at_text
  end
  if #ids > 0 then
    redis.call("HSET", keys.values(ctx.ns, ch, section.type), unpack(pairs_))
    redis.call("HSET", keys.values_at(ctx.ns, ch, section.type), unpack(instants))
  end
end

-- Tell the slots that anything depends on.
local function touch(ctx, ch, section, at)
  local owner = ctx.graph.owners["comsrv:" .. ch]
  local slots = owner and owner[section.type]
  if not slots or next(slots) == nil then
    return
  end
  local ids, values, quality, touched = section.ids, section.values, section.quality, ctx.touched
  local n = #touched
  for i = 1, #ids do
    local slot = slots[ids[i]]
    if slot then
      slot.value, slot.text, slot.at, slot.quality = tonumber(values[i]), values[i], at, quality[ids[i]]
      n = n + 1
      touched[n] = slot
    end
  end
  for id, text in pairs(quality) do
    local slot = slots[id]
    if slot and slot.quality ~= text then
      slot.quality, slot.at = text, at
      n = n + 1
      touched[n] = slot
    end
  end
end

local function store_section(ctx, ch, section, at, body)
  if redis.call("EXISTS", keys.substituted(ctx.ns, ch)) == 1 then
    without_substituted(ctx, ch, section)
    body = nil
  end
  local at_text = string.format("%.0f", at)
  store_values(ctx, ch, section, at_text)
  local only = store_quality(ctx, ch, section, at_text)
  touch(ctx, ch, section, at)
  if #section.ids + only > 0 then
    publish.channel(ctx, ch, section.type, at, body or publish.members(section.ids, section.values, section.quality))
  end
  return #section.ids + only
end

-- Events all reach the rules in source order; the newest of a point enters the image.
local function store_events(ctx, ch, events)
  for i = 1, #events do
    local kind, id, at, value, quality = unpack(events[i], 1, 5)
    local section = { type = kind, ids = { id }, values = { value }, quality = quality and { [id] = quality } or {} }
    local newest = tonumber(redis.call("HGET", keys.values_at(ctx.ns, ch, kind), id) or 0) <= at
    if newest then
      store_section(ctx, ch, section, at, nil)
      engine.settle(ctx, at)
    end
  end
  return #events
end

local function count(ctx, counters, stored)
  local ledger = keys.ledger(ctx.ns)
  if stored > 0 then
    redis.call("HINCRBY", ledger, "stored", stored)
  end
  for name, value in pairs(counters or {}) do
    if type(value) == "table" then
      for reason, number in pairs(value) do
        redis.call("HINCRBY", ledger, name .. ":" .. reason, number)
      end
    else
      redis.call("HINCRBY", ledger, name, value)
    end
  end
end

--- Refuse counters that are no deltas of the ledger.
local function check_counters(counters)
  if counters == nil then
    return
  end
  local function number(value, what)
    args.integer(value, what, 0, 1e12)
  end
  for name, value in pairs(counters) do
    if name == "polled" or name == "unchanged" or name == "late" then
      number(value, "counters." .. name)
    elseif name == "rejected" and type(value) == "table" then
      for reason, delta in pairs(value) do
        if not args.valid_id(reason) then
          errors.fail("INVALID", "counters.rejected has a reason that is no word")
        end
        number(delta, "counters.rejected." .. reason)
      end
    else
      errors.fail("INVALID", "counters." .. tostring(name) .. " is unknown; there are polled, unchanged, rejected, late")
    end
  end
end
M.check_counters = check_counters
M.count = count

local function recorded(document)
  local samples = #document.events
  for i = 1, #document.sections do
    local section = document.sections[i]
    if RECORDED[section.type] then
      samples = samples + #section.ids
      local valued = {}
      if next(section.quality) then
        for j = 1, #section.ids do
          valued[section.ids[j]] = true
        end
      end
      for id in pairs(section.quality) do
        if not valued[id] then
          samples = samples + 1
        end
      end
    end
  end
  return samples
end

local function apply(ctx, ch, document, texts, answered)
  local stored = 0
  if document.origin ~= "backfill" then
    for i = 1, #document.sections do
      stored = stored + store_section(ctx, ch, document.sections[i], document.at_ms, texts[i + 1])
    end
    if #ctx.touched > 0 then
      engine.settle(ctx, document.at_ms)
    end
    stored = stored + store_events(ctx, ch, document.events)
    if answered then
      redis.call("HSET", keys.seen(ctx.ns, ch), document.block, string.format("%.0f", document.at_ms))
    end
  end
  return stored
end

-- `blob` is the document as it goes to history; `answered` says that the device did.
local function take(ns, ch, document, blob, texts, answered)
  check(document)
  check_counters(document.counters)
  local ctx = call.begin(ns, document.now_ms)
  local status = redis.call("HMGET", keys.status(ns, ch), "epoch", "leased", "lease_ms")
  local current = tonumber(status[1] or 0) == document.epoch
  local sequence = keys.sequence(ns, ch)
  -- A repeat is a repeat also when the lease lapsed meanwhile: a client that lost the reply must learn it.
  if current and document.seq <= tonumber(redis.call("HGET", sequence, document.block) or -1) then
    return '{"seq":' .. (ctx.graph.image or "0") .. ',"repeat":true}'
  end
  if not current or status[2] ~= "1" then
    leases.check_lease(ctx, ch, document.epoch)
  end
  local samples = recorded(document)
  call.accept(ctx)
  redis.call("HSET", sequence, document.block, string.format("%.0f", document.seq))
  leases.extend(ctx, ch, tonumber(status[3]))
  local stored = apply(ctx, ch, document, texts, answered)
  history.append(ns, ctx.image, ch, blob, samples)
  count(ctx, document.counters, stored)
  return '{"seq":' .. ctx.image .. ',"repeat":false}'
end

--- Take one polled block into the process image.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, seq, now_ms, origin, channel, block, at_ms, previous_at_ms, sections, events, counters}, msgpack or JSON
-- ARGV[2+] text of section i for publishing: "points":{...},"quality":{...} (optional; made here otherwise)
-- Returns  {seq: image number, repeat: true when (epoch, seq) was had already}
-- Errors   CONFLICT  a newer epoch holds the channel
--          STATE     the lease lapsed, claim again
--          INVALID   a field is wrong; nothing is stored
--          LIMIT     more than 500 points
-- Writes   comsrv:{ch}:{T|S|C|A} with :ts and :q, comsrv:{ch}:seen, modsrv:{id}:measurement, alarms, rules, hissrv:queue
function M.ingest(ns, id, argv)
  return take(ns, args.channel(id), decode(argv[1]), argv[1], argv, true)
end

--- Change the quality of points alone, as when a device does not answer.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, seq, now_ms, block, at_ms, quality: "bad:timeout", sections: [{type, ids}], counters?}
-- Returns  as comsrv_ingest
-- Errors   as comsrv_ingest
-- Writes   comsrv:{ch}:{T|S|C|A}:q and all that follows
function M.set_quality(ns, id, argv)
  local document = decode(argv[1])
  if type(document.quality) ~= "string" then
    errors.fail("INVALID", "quality must be a text such as bad:timeout")
  end
  local sections = {}
  for i, section in ipairs(document.sections or {}) do
    local marks = {}
    for _, point in ipairs(type(section.ids) == "table" and section.ids or {}) do
      marks[tostring(point)] = document.quality
    end
    sections[i] = { type = section.type, ids = {}, values = {}, quality = marks }
  end
  document.quality, document.sections = nil, sections
  local blob = cmsgpack.pack(document)
  return take(ns, args.channel(id), document, blob, {}, false)
end

return M
