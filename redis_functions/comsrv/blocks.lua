-- A block's document: decoded and checked whole before anything is written.
local args = require("lib.args")
local errors = require("lib.errors")
local strings = require("lib.texts")

local M = {}

M.MAX_POINTS = 500
M.MAX_BLOCKS = 16
local MAX_INSTANT = 9007199254740991
local KIND = { T = true, S = true, C = true, A = true }
-- Sections of texts are told apart from those of numbers by their type.
M.TEXT = "X"
local ORIGIN = { poll = true, event = true, backfill = true }
local KNOWN = {
  epoch = true, seq = true, now_ms = true, origin = true, channel = true, block = true, at_ms = true,
  previous_at_ms = true, sections = true, events = true, counters = true, quality = true,
}
local KNOWN_IN_SECTION = { type = true, ids = true, values = true, quality = true, again = true }

local function invalid(text)
  errors.fail("INVALID", text)
end

--- Decode a document, msgpack or JSON.
function M.decode(text)
  if text == nil then
    invalid("a document is missing")
  end
  if #text > args.MAX_DOCUMENT then
    errors.fail("LIMIT", "the document has " .. #text .. " bytes, at most " .. args.MAX_DOCUMENT .. " are taken")
  end
  local ok, document = pcall(string.byte(text) == 123 and args.decode or cmsgpack.unpack, text)
  if not ok or type(document) ~= "table" then
    invalid("the document is neither JSON nor msgpack")
  end
  for name, value in pairs(document) do
    if value == cjson.null then
      document[name] = nil
    elseif not KNOWN[name] then
      invalid(tostring(name) .. " is unknown")
    end
  end
  return document
end

local function list(value, what)
  if value == nil then
    return {}
  end
  if type(value) ~= "table" or (next(value) ~= nil and #value == 0) then
    invalid(what .. " must be a list")
  end
  return value
end

-- A list of texts is checked as one joined text, each item matching `pattern` (which ends with a
-- comma): a third of the time of a match an item. The count keeps an item from being two.
local function check_texts(texts, pattern, longest, what)
  local ok, joined = pcall(table.concat, texts, ",")
  if not ok then
    invalid(what)
  end
  joined = joined .. ","
  local rest, count = string.gsub(joined, pattern, "")
  if rest ~= "" or count ~= #texts then
    invalid(what)
  end
  for i = 1, count do
    -- A number that would pass becomes a text too.
    local text = texts[i] .. ""
    texts[i] = text
    if #text > longest then
      invalid(what)
    end
  end
  return joined
end

local function check_ids(ids, path)
  check_texts(ids, "[1-9]%d*,", 9, path .. ".ids must be point numbers from 1 to 999999999")
end

-- NaN, infinity, exponents and hexadecimal can't pass; -9007199254740992.000000 has 24 characters.
local function check_values(values, path)
  local joined = check_texts(values, "%-?%d+%.%d%d%d%d%d%d,", 24, path .. ".values must be texts with six decimals within 2^53")
  if string.find(joined, "-0.000000", 1, true) then
    invalid(path .. ".values has a negative zero")
  end
end

local function check_string_values(values, path)
  for i = 1, #values do
    local text = values[i]
    if type(text) ~= "string" or #text > strings.MAX or not strings.is_utf8(text) then
      invalid(path .. ".values must be texts of at most " .. strings.MAX .. " bytes of UTF-8")
    end
  end
end

local function is_quality(text)
  return type(text) == "string" and #text <= 64
    and (string.find(text, "^bad:[%w_]+$") or string.find(text, "^uncertain:[%w_]+$"))
end

local function check_quality(path, quality)
  if type(quality) ~= "table" then
    invalid(path .. ".quality must map point ids to texts")
  end
  local count = 0
  for id, text in pairs(quality) do
    if type(id) ~= "string" or #id > 9 or not string.find(id, "^[1-9]%d*$") then
      invalid(path .. ".quality has an id that is no point number: " .. tostring(id))
    end
    if not is_quality(text) then
      invalid(path .. ".quality of " .. id .. " must be bad:<reason> or uncertain:<reason>")
    end
    count = count + 1
  end
  return count
end

-- Leaves in section.only the number of points that have a quality and no new value.
local function check_section(path, section)
  if type(section) ~= "table" or not (KIND[section.type] or section.type == M.TEXT) then
    invalid(path .. ".type must be T, S, C, A or X")
  end
  for name in pairs(section) do
    if not KNOWN_IN_SECTION[name] then
      invalid(path .. "." .. tostring(name) .. " is unknown")
    end
  end
  local ids, values = list(section.ids, path .. ".ids"), list(section.values, path .. ".values")
  local quality = section.quality or {}
  if section.again ~= nil and type(section.again) ~= "boolean" then
    invalid(path .. ".again must be true or false")
  end
  section.ids, section.values, section.quality = ids, values, quality
  if #ids ~= #values then
    invalid(path .. " needs as many values as ids")
  end
  if #ids > 0 then
    check_ids(ids, path)
    if section.type == M.TEXT then
      check_string_values(values, path)
    else
      check_values(values, path)
    end
  end
  section.only = check_quality(path, quality)
  if section.only > 0 then
    local marked = section.only
    for i = 1, #ids do
      if quality[ids[i]] then
        marked = marked - 1
      end
    end
    section.only = marked
  end
  return #ids + section.only
end

local function check_event(event, path)
  if type(event) ~= "table" or not KIND[event[1]] then
    invalid(path .. " must be [type, id, source_at_ms, value, quality]")
  end
  event[2] = args.point(event[2])
  event[3] = args.integer(event[3], path .. "[2]", 0, MAX_INSTANT)
  event[4] = { event[4] }
  check_values(event[4], path .. "[3]")
  event[4] = event[4][1]
  if event[5] == "" or event[5] == cjson.null then
    event[5] = nil
  elseif event[5] ~= nil and not is_quality(event[5]) then
    invalid(path .. "[4] must be empty, bad:<reason> or uncertain:<reason>")
  end
end

-- In source order; events of one instant stay as they came.
local function check_events(events)
  local order = {}
  for i = 1, #events do
    check_event(events[i], "events[" .. (i - 1) .. "]")
    order[events[i]] = i
  end
  table.sort(events, function(a, b)
    if a[3] ~= b[3] then
      return a[3] < b[3]
    end
    return order[a] < order[b]
  end)
end

local function check_delta(value, what)
  args.integer(value, what, 0, 1e12)
end

--- Refuse counters that are no deltas of the ledger.
function M.check_counters(counters)
  if counters == nil then
    return
  end
  if type(counters) ~= "table" then
    invalid("counters must be an object")
  end
  for name, value in pairs(counters) do
    if name == "polled" or name == "unchanged" or name == "late" then
      check_delta(value, "counters." .. name)
    elseif (name == "rejected" or name == "lost") and type(value) == "table" then
      for reason, delta in pairs(value) do
        if not args.valid_id(reason) then
          invalid("counters." .. name .. " has a reason that is no word")
        end
        check_delta(delta, "counters." .. name .. "." .. reason)
      end
    else
      invalid("counters." .. tostring(name) .. " is unknown; there are polled, unchanged, rejected, late, lost")
    end
  end
end

-- Check a document of a channel whole. Returns the number of its points.
local function check(ch, document)
  if not ORIGIN[document.origin or "poll"] then
    invalid("origin must be poll, event or backfill")
  end
  if document.channel ~= nil and args.channel(document.channel) ~= ch then
    invalid("channel " .. tostring(document.channel) .. " is not the key's channel " .. ch)
  end
  if type(document.block) ~= "string" or #document.block == 0 or #document.block > 64 then
    invalid("block must be a text of 1 to 64 bytes")
  end
  document.epoch = args.integer(document.epoch, "epoch", 0, MAX_INSTANT)
  document.seq = args.integer(document.seq, "seq", 0, MAX_INSTANT)
  document.at_ms = args.integer(document.at_ms, "at_ms", 0, MAX_INSTANT)
  document.sections = list(document.sections, "sections")
  document.events = list(document.events, "events")
  local count = #document.events
  for i = 1, #document.sections do
    count = count + check_section("sections[" .. (i - 1) .. "]", document.sections[i])
  end
  check_events(document.events)
  M.check_counters(document.counters)
  return count
end

--- Check the documents of a call whole; leaves in each of `found` the number of its points.
function M.check_all(ch, found)
  local count = 0
  for i = 1, #found do
    local each = found[i]
    each.points = check(ch, each.document)
    count = count + each.points
    if each.document.epoch ~= found[1].document.epoch then
      invalid("the blocks of a call have one epoch")
    end
  end
  if count > M.MAX_POINTS then
    errors.fail("LIMIT", "a call takes at most " .. M.MAX_POINTS .. " points, not " .. count)
  elseif #found > M.MAX_BLOCKS then
    errors.fail("LIMIT", "a call takes at most " .. M.MAX_BLOCKS .. " blocks, not " .. #found)
  end
end

return M
