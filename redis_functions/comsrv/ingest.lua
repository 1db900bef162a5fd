-- The process image: one call a polled block, atomically and in this order: due timers, epoch and
-- sequence, values with quality and time, models, rules and alarms, history, publication, counters.
-- Blocks of a channel that wait may come in one call, which costs less than a call each; they are
-- taken one after the other, each at its own instant.
local args = require("lib.args")
local blocks = require("comsrv.blocks")
local call = require("core.call")
local clock = require("core.clock")
local engine = require("core.engine")
local errors = require("lib.errors")
local history = require("core.history")
local json = require("lib.json")
local keys = require("lib.keys")
local leases = require("comsrv.leases")
local ledger = require("core.ledger")
local publish = require("core.publish")
local replay = require("core.replay")

local M = {}

local RECORDED = { T = true, S = true }
-- What a section's text begins with, and no document.
local QUOTE = 34
-- Section type -> the type in the hash's name, where it is another.
local HASH = { X = "text" }

-- Points that a person substituted keep the substitute; the device's values are left out.
-- Returns how many were.
local function leave_out_substituted(ctx, ch, section)
  local found = redis.call("HKEYS", keys.substituted(ctx.ns, ch))
  local held = {}
  for i = 1, #found do
    held[found[i]] = true
  end
  local before = #section.ids + section.only
  local ids, values = {}, {}
  for i = 1, #section.ids do
    local id = section.ids[i]
    if held[section.type .. ":" .. id] then
      section.quality[id] = nil
    else
      ids[#ids + 1] = id
      values[#values + 1] = section.values[i]
    end
  end
  for id in pairs(section.quality) do
    if held[section.type .. ":" .. id] then
      section.quality[id] = nil
      section.only = section.only - 1
    end
  end
  section.ids, section.values = ids, values
  return before - #ids - section.only
end

local function store_quality(ctx, ch, section, at_text)
  local name = HASH[section.type] or section.type
  local key = keys.values_quality(ctx.ns, ch, name)
  local quality = section.quality
  if #section.ids > 0 and redis.call("EXISTS", key) == 1 then
    redis.call("HDEL", key, unpack(section.ids))
  end
  if next(quality) == nil then
    return
  end
  local valued = {}
  if section.only > 0 then
    for i = 1, #section.ids do
      valued[section.ids[i]] = true
    end
  end
  local flat, instants = {}, {}
  for id, text in pairs(quality) do
    flat[#flat + 1], flat[#flat + 2] = id, text
    if section.only > 0 and not valued[id] then
      instants[#instants + 1], instants[#instants + 2] = id, at_text
    end
  end
  redis.call("HSET", key, unpack(flat))
  if section.only > 0 then
    redis.call("HSET", keys.values_at(ctx.ns, ch, name), unpack(instants))
  end
end

-- What HSET is given, held from call to call: two lists that grow anew with each block cost a twentieth of a call.
local held_values, held_instants = {}, {}

local function store_values(ctx, ch, section, at_text)
  local ids, values = section.ids, section.values
  local count = 2 * #ids
  if count == 0 then
    return
  end
  for i = 1, #ids do
    local id, j = ids[i], 2 * i
    held_values[j - 1], held_values[j] = id, values[i]
    held_instants[j - 1], held_instants[j] = id, at_text
  end
  local name = HASH[section.type] or section.type
  redis.call("HSET", keys.values(ctx.ns, ch, name), unpack(held_values, 1, count))
  redis.call("HSET", keys.values_at(ctx.ns, ch, name), unpack(held_instants, 1, count))
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
  local to_number = tonumber
  local shown = values
  if section.type == blocks.TEXT then
    to_number, shown = tostring, json.texts(values)
  end
  for i = 1, #ids do
    local slot = slots[ids[i]]
    if slot then
      slot.value, slot.text, slot.at, slot.quality = to_number(values[i]), shown[i], at, quality[ids[i]]
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
    ctx.left_out = ctx.left_out + leave_out_substituted(ctx, ch, section)
    body = nil
  end
  local stored = #section.ids + section.only
  if stored == 0 then
    return 0
  end
  -- A heartbeat says the same again: nothing changes and nothing follows, but it is published and recorded.
  if not section.again then
    local at_text = string.format("%.0f", at)
    store_values(ctx, ch, section, at_text)
    store_quality(ctx, ch, section, at_text)
    touch(ctx, ch, section, at)
  end
  if replay.replayed() then
    -- Nobody listens to what is published.
    return stored
  end
  if not body then
    local shown = section.type == blocks.TEXT and json.texts(section.values) or section.values
    body = publish.members(section.ids, shown, section.quality)
  end
  publish.channel(ctx, ch, section.type, at, body)
  return stored
end

-- An instant later than this was written before the machine's clock went back.
local function is_newest(ctx, ch, kind, id, at)
  local stored = tonumber(redis.call("HGET", keys.values_at(ctx.ns, ch, kind), id) or 0)
  return stored <= at or stored > ctx.now + clock.TOLERANCE_MS
end

-- The section of one event; a bad one says nothing of the value, so the last good one stays.
local function section_of(kind, id, value, quality)
  local bad = quality and string.find(quality, "^bad:")
  return {
    type = kind, ids = bad and {} or { id }, values = bad and {} or { value },
    quality = quality and { [id] = quality } or {}, only = bad and 1 or 0,
  }
end

-- Events all reach the rules in source order; the newest of a point enters the image. What a person has
-- substituted is left out. Returns how many counted.
local function store_events(ctx, ch, events)
  local substituted = #events > 0 and redis.call("EXISTS", keys.substituted(ctx.ns, ch)) == 1
  local taken = 0
  for i = 1, #events do
    local kind, id, at, value, quality = unpack(events[i], 1, 5)
    if substituted and redis.call("HEXISTS", keys.substituted(ctx.ns, ch), kind .. ":" .. id) == 1 then
      ctx.left_out = ctx.left_out + 1
    else
      taken = taken + 1
      if is_newest(ctx, ch, kind, id, at) then
        store_section(ctx, ch, section_of(kind, id, value, quality), at, nil)
        engine.settle(ctx, at)
      else
        engine.glimpse(ctx, leases.slot(ctx, ch, kind, id), value, quality, at)
      end
    end
  end
  return taken
end

local function count(ctx, ch, counters, stored)
  if stored > 0 then
    ledger.add(ctx.ns, ch, "stored", stored)
  end
  for name, value in pairs(counters or {}) do
    if type(value) == "table" then
      for reason, number in pairs(value) do
        ledger.add(ctx.ns, ch, name .. ":" .. reason, number)
      end
    elseif value > 0 then
      ledger.add(ctx.ns, ch, name, value)
    end
  end
end

M.count = count

local function recorded(document)
  local samples = #document.events
  for i = 1, #document.sections do
    local section = document.sections[i]
    if RECORDED[section.type] then
      samples = samples + #section.ids + section.only
    end
  end
  return samples
end

local function apply(ctx, ch, document, texts)
  local stored = 0
  for i = 1, #document.sections do
    stored = stored + store_section(ctx, ch, document.sections[i], document.at_ms, texts[i])
  end
  if #ctx.touched > 0 then
    engine.settle(ctx, document.at_ms)
  end
  stored = stored + store_events(ctx, ch, document.events)
  if ctx.left_out > 0 then
    ledger.add(ctx.ns, ch, "rejected:substituted", ctx.left_out)
  end
  return stored
end

-- What of a block goes to history, and its samples: as it came, but for points that a person has
-- substituted. Their history is the substitute, recorded when it was set, until it ends.
local function to_history(ctx, ch, document, blob, samples)
  if ctx.left_out == 0 then
    return { blob, samples }
  end
  local events = {}
  for i = 1, #document.events do
    local event = document.events[i]
    if redis.call("HEXISTS", keys.substituted(ctx.ns, ch), event[1] .. ":" .. event[2]) == 0 then
      events[#events + 1] = event
    end
  end
  document.events = events
  samples = recorded(document)
  for i = 1, #document.sections do
    document.sections[i].only = nil
  end
  return { cmsgpack.pack(document), samples }
end

-- The blocks that were not had before, and their (block, sequence) for the key.
local function unheard(sequence, found)
  local names = {}
  for i = 1, #found do
    names[i] = found[i].document.block
  end
  local last, fresh, flat = redis.call("HMGET", sequence, unpack(names)), {}, {}
  local taken = {}
  for i = 1, #found do
    local name, seq = names[i], found[i].document.seq
    if seq > (taken[name] or tonumber(last[i] or -1)) then
      taken[name] = seq
      fresh[#fresh + 1] = found[i]
      flat[#flat + 1], flat[#flat + 2] = name, string.format("%.0f", seq)
    end
  end
  return fresh, flat
end

-- Take blocks of one channel and epoch: a list of { document, blob, texts }. `blob` is the document as
-- it goes to history; `answered` says that the device did.
local function take(ns, ch, found, answered)
  blocks.check_all(ch, found)
  local epoch = found[1].document.epoch
  local ctx = call.begin(ns, found[1].document.now_ms)
  local status = redis.call("HMGET", keys.status(ns, ch), "epoch", "leased", "lease_ms", "behind", "resend")
  local current = tonumber(status[1] or 0) == epoch
  local sequence = keys.sequence(ns, ch)
  local fresh, flat = unheard(sequence, found)
  -- A repeat is a repeat also when the lease lapsed meanwhile: a client that lost the reply must learn it.
  if current and #fresh == 0 then
    return '{"seq":' .. (ctx.graph.image or "0") .. ',"repeat":true}'
  end
  if not current or status[2] ~= "1" then
    leases.check_lease(ctx, ch, epoch)
  end
  call.accept(ctx)
  redis.call("HSET", sequence, unpack(flat))
  local lease_ms = tonumber(status[3])
  leases.extend(ctx, ch, lease_ms)
  if (fresh[1].document.origin or "poll") == "poll" then
    local behind = ctx.now - fresh[1].document.at_ms > lease_ms
    if behind ~= (status[4] == "1") then
      leases.fall_behind(ctx, ch, behind)
    end
  end
  local stored, seen, queue = 0, {}, {}
  for i = 1, #fresh do
    local document = fresh[i].document
    local samples = recorded(document)
    ctx.left_out = 0
    if document.origin == "backfill" then
      stored = stored + fresh[i].points
    else
      stored = stored + apply(ctx, ch, document, fresh[i].texts)
    end
    -- What a device pushes of its own accord is no answer of a block.
    if document.origin == nil or document.origin == "poll" then
      seen[#seen + 1], seen[#seen + 2] = document.block, string.format("%.0f", document.at_ms)
    end
    queue[i] = to_history(ctx, ch, document, fresh[i].blob, samples)
  end
  if answered and #seen > 0 then
    redis.call("HSET", keys.seen(ns, ch), unpack(seen))
  end
  history.append(ctx, ch, queue)
  for i = 1, #fresh do
    count(ctx, ch, fresh[i].document.counters, i == 1 and stored or 0)
  end
  local resend = ""
  if status[5] then
    redis.call("HDEL", keys.status(ns, ch), "resend")
    resend = ',"resend":true'
  end
  return call.finish(ctx, '{"seq":' .. ctx.image .. ',"repeat":false' .. resend .. "}")
end

local function is_text(argv, i)
  return i > 1 and string.byte(argv[i]) == QUOTE
end

--- The documents among the arguments, without the texts.
function M.documents(argv)
  local found = {}
  for i = 1, #argv do
    if not is_text(argv, i) then
      found[#found + 1] = argv[i]
    end
  end
  return found
end

-- The blocks of a call: each document, and behind it the texts of its sections.
local function read(argv)
  local found = {}
  for i = 1, math.max(#argv, 1) do
    local text = argv[i]
    if is_text(argv, i) then
      local texts = found[#found].texts
      texts[#texts + 1] = text
    else
      local document = blocks.decode(text)
      if document.quality ~= nil then
        errors.fail("INVALID", "quality belongs into the sections")
      end
      found[#found + 1] = { document = document, blob = text, texts = {} }
    end
  end
  return found
end

--- Take one polled block into the process image, or several of a channel at once.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, seq, now_ms, origin, channel, block, at_ms, previous_at_ms, sections, events, counters}, msgpack or JSON
-- ARGV[2+] text of section i for publishing: "points":{...},"quality":{...} (optional; made here otherwise);
--          then the next document of the same epoch and its texts, and so on
-- Returns  {seq: image number, repeat: true when all of it was had already, by block, epoch and seq,
--           resend: true where every point must be sent again, absent where not}
-- Errors   CONFLICT  a newer epoch holds the channel
--          STATE     the lease lapsed, claim again
--          INVALID   a field is wrong; nothing is stored
--          LIMIT     more than 500 points or 16 blocks
-- Writes   comsrv:{ch}:{T|S|C|A|text} with :ts and :q, comsrv:{ch}:seen, modsrv:{id}:measurement, alarms, rules, hissrv:queue
-- Example  FCALL comsrv_ingest 1 1001 '{"epoch":1,"seq":1,"block":"b","at_ms":1,"sections":[{"type":"T","ids":["1"],"values":["81.000000"]}]}'
function M.ingest(ns, id, argv)
  return take(ns, args.channel(id), read(argv), true)
end

--- Change the quality of points alone, as when a device does not answer.
--
-- KEYS[1]  channel
-- ARGV[1]  {epoch, seq, now_ms, block, at_ms, quality: "bad:timeout", sections: [{type, ids}], counters?}
-- Returns  as comsrv_ingest
-- Errors   as comsrv_ingest
-- Writes   comsrv:{ch}:{T|S|C|A|text}:q and all that follows
-- Example  FCALL comsrv_set_quality 1 1001 '{"epoch":1,"seq":2,"block":"b","at_ms":1,"quality":"bad:timeout","sections":[{"type":"T","ids":["1"]}]}'
function M.set_quality(ns, id, argv)
  local document = blocks.decode(argv[1])
  if type(document.quality) ~= "string" then
    errors.fail("INVALID", "quality must be a text such as bad:timeout")
  end
  local sections = {}
  for i, section in ipairs(type(document.sections) == "table" and document.sections or {}) do
    local ids = type(section) == "table" and type(section.ids) == "table" and section.ids
    if not ids then
      errors.fail("INVALID", "sections[" .. (i - 1) .. "] must be {type, ids}")
    end
    local marks = {}
    for _, point in ipairs(ids) do
      marks[tostring(point)] = document.quality
    end
    sections[i] = { type = section.type, ids = {}, values = {}, quality = marks }
  end
  document.quality, document.sections = nil, sections
  local blob = cmsgpack.pack(document)
  return take(ns, args.channel(id), { { document = document, blob = blob, texts = {} } }, false)
end

return M
