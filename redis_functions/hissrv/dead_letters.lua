-- Dead letters: what could not be recorded, with the reason, so that it may be tried again.
local args = require("lib.args")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local ledger = require("core.ledger")

local M = {}

M.MAX_DEAD_LETTERS = 1000
M.MAX_DEAD_BYTES = 16384
M.MAX_LETTERS = 200

--- A field of an entry as XRANGE gives it, "0" where it has none.
function M.field(entry, name)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return "0"
end

--- Add a dead letter: { entry, group, reason, at, image, channel, samples, document, stores? }.
-- `stores` names those that refused a sample; without it none of them has what it holds.
function M.post(ns, letter)
  local fields = {
    "entry", letter.entry, "group", letter.group, "reason", letter.reason, "at_ms", string.format("%.0f", letter.at),
    "image", letter.image, "channel", letter.channel, "samples", letter.samples,
    "document", string.sub(letter.document, 1, M.MAX_DEAD_BYTES),
  }
  if letter.stores then
    fields[#fields + 1], fields[#fields + 2] = "stores", letter.stores
  end
  redis.call("XADD", keys.dead_letters(ns), "*", unpack(fields))
end

--- Keep the newest; what goes is counted.
function M.trim(ns)
  if redis.call("XLEN", keys.dead_letters(ns)) > M.MAX_DEAD_LETTERS then
    local gone = redis.call("XTRIM", keys.dead_letters(ns), "MAXLEN", M.MAX_DEAD_LETTERS)
    redis.call("HINCRBY", keys.history_size(ns), "dead_letters_gone", gone)
  end
end

--- The letters of refused samples in a document, checked.
function M.of(document)
  local letters = document.letters or {}
  if type(letters) ~= "table" or #letters > M.MAX_LETTERS then
    errors.fail("INVALID", "letters must be a list of at most " .. M.MAX_LETTERS)
  end
  for i = 1, #letters do
    local path = "letters[" .. (i - 1) .. "]."
    if type(letters[i]) ~= "table" then
      errors.fail("INVALID", path .. " must be an object")
    end
    for name, longest in pairs({ entry = 64, channel = 64, reason = 512, document = M.MAX_DEAD_BYTES }) do
      if not args.text(letters[i][name], path .. name, longest) then
        errors.fail("INVALID", path .. name .. " is missing")
      end
    end
    args.text(letters[i].stores, path .. "stores", 512)
  end
  return letters
end

--- Move what a queue entry holds to the dead letters.
function M.give_up(ns, group, item, reason, now)
  local found = redis.call("XRANGE", keys.history_queue(ns), item.id, item.id)
  if found[1] then
    local entry = found[1]
    M.post(ns, {
      entry = item.id, group = group, reason = reason, at = now, image = M.field(entry, "i"),
      channel = M.field(entry, "c"), samples = item.samples, document = M.field(entry, "d"),
    })
    M.trim(ns)
  end
end

--- Say that a dead letter is in the store after all: it goes, and its samples count as written.
--
-- `filtered` of them, left out by a mapping, count as dropped:mapping.
--
-- ARGV[1]  {id, filtered?}
-- Returns  {id, samples}
-- Errors   NOTFOUND  no such dead letter: it was resolved before, or newer ones took its place
-- Writes   hissrv:dead_letters, hissrv:ledger:{store}, voltage:ledger
-- Example  FCALL dead_letter_resolve 0 '{"id":"1700000000000-0"}'
function M.resolve(ns, _, argv)
  local document = args.document(argv[1])
  local id = args.text(document.id, "id", 64)
  if not id or not string.find(id, "^%d+%-%d+$") then
    errors.fail("INVALID", "id must be a dead letter's, as 1700000000000-0")
  end
  local filtered = args.integer(document.filtered, "filtered", 0, 9007199254740991, 0)
  local found = redis.call("XRANGE", keys.dead_letters(ns), id, id)
  if not found[1] then
    errors.fail("NOTFOUND", "dead letter " .. id)
  end
  local samples = tonumber(M.field(found[1], "samples"))
  filtered = math.min(filtered, samples)
  redis.call("XDEL", keys.dead_letters(ns), id)
  local moved = { dead_lettered = -samples, written = samples - filtered, ["dropped:mapping"] = filtered }
  local refused = M.field(found[1], "stores")
  ledger.of_all(ns, moved, refused ~= "0" and refused or nil)
  return json.object({ "id", json.text(id), "samples", json.integer(samples) })
end

return M
