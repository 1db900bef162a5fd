-- The replay log: what went into every call that changed something, so that the same calls can be made again.
--
-- An entry of the stream holds, in this order,
--   h  image before the call|images it took, "!" where it was refused|instant|function|KEYS[1]|first digits of the
--      library's digest
--   a  its one argument, as it came; or m, its arguments as a msgpack list
--   x  what it learned from outside of the keys, as a msgpack map (nothing, mostly)
--   o  what it wrote to the journals, as a msgpack list of texts (nothing, mostly)
-- The guard (api.lua) writes it after the call. What a function's registration says:
--   reads   it is never in the log
--   apart   what it writes decides nothing of the journals (history, jobs, networks, messages, this log): not in the
--           log, but where it says otherwise by M.effect
--   idle    most calls of it change nothing: in the log is what took an image number, or says so by M.effect
--   matters what picks the arguments that matter; the others are for publishing
-- All others are in the log wherever they were not refused; what timers did stands also where they were.
-- Where a replay runs, the same guard and the same functions run; only the instant and what came from outside are
-- the entry's.
local errors = require("lib.errors")
local keys = require("lib.keys")
local replay_names = require("core.replay_names")

local M = {}

-- What an entry costs beside its fields.
M.ENTRY_BYTES = 96

local CHUNK = 16
-- Room is made for so many times the bytes that came, at most: a log whose cap was lowered shrinks step by step.
local HASTE = 4
local MAX_CALLS = 10000
local SEPARATOR = "\31"
local DIGEST = "@DIGEST@"

-- The call at hand; each call begins with an empty one.
-- kept      the log's cap in bytes, false while nobody keeps it, nil while nobody looked
-- effect    it must be in the log
-- before    the image number it began with, `taken` how many it took, `at` its instant, `server` one it goes by
--           beside it
-- facts     what it learned from outside, outputs what it wrote to the journals
-- replayed  { at, facts } where it is made again; `names` is what it made then, where a definition is another one
local call = {}

--- A call begins.
function M.begin()
  call = {}
end

--- The graph was opened; and whether anybody keeps the log.
function M.opened(graph, kept)
  call.kept = kept
  call.before = graph.image
  call.graph = graph
end

--- The call has an effect that a replay needs.
function M.effect()
  call.effect = true
end

--- The call is about what no replay needs: it leaves no entry.
function M.apart()
  call.apart = true
end

--- The call took an image number.
function M.accepted()
  call.effect = true
  call.taken = (call.taken or 0) + 1
end

--- The call's instant.
function M.instant(at)
  call.at = at
end

--- Redis' own clock, for core/clock.lua alone.
function M.clock_ms()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

--- Redis' own clock, or what was noted instead; the same all through a call, and in a replay as it was.
function M.server_ms()
  local replayed = call.replayed
  if replayed then
    return replayed.facts.server or replayed.at
  end
  call.server = call.server or M.clock_ms()
  return call.server
end

--- An instant that the call goes by beside the clock's.
function M.noted(at)
  call.server = at
  return at
end

--- The entry that is made again, or nil: { at, facts }.
function M.replayed()
  return call.replayed
end

--- True where the call at hand puts a definition in the place of the one that was.
function M.changes()
  return call.replayed ~= nil and call.replayed.facts.changed == true
end

--- True where a definition (`rule:r1`) was put there, and stays whatever was done about it then.
function M.stays(ns, name)
  return call.replayed ~= nil and not M.changes() and redis.call("GET", keys.replay_private(ns)) == name
end

--- What the call learns from outside of the keys: asked now, and in a replay what was learned then (nil where nothing was).
function M.fact(name, ask)
  local replayed = call.replayed
  if replayed then
    return replayed.facts[name]
  end
  local found = ask()
  if found ~= nil then
    call.effect = true
    call.facts = call.facts or {}
    call.facts[name] = found
  end
  return found
end

--- True where somebody wants to know what is written to the journals.
function M.listens()
  return call.kept or call.replayed ~= nil
end

--- The id of an alarm or a command that the call makes. `name` says which it is (core/replay_names.lua).
function M.id(ns, name, counted)
  local names = call.replayed and call.replayed.names
  return names and replay_names.take(ns, names, name, counted) or counted
end

--- An entry was written to a journal; `text` is its names and values in their order, joined by SEPARATOR.
function M.output(key, text)
  local outputs = call.outputs or {}
  call.outputs = outputs
  outputs[#outputs + 1] = key .. SEPARATOR .. text
end

local function size_of(fields)
  local bytes = M.ENTRY_BYTES
  for i = 2, #fields, 2 do
    bytes = bytes + #fields[i]
  end
  return bytes
end

-- The oldest entries go, and it is said which: a replay over the gap is not exact.
local function make_room(ns, excess, came)
  local key, freed, gone, last = keys.replay(ns), 0, 0, nil
  repeat
    local found = redis.call("XRANGE", key, "-", "+", "COUNT", CHUNK)
    local ids = {}
    for i = 1, #found do
      ids[i] = found[i][1]
      freed = freed + size_of(found[i][2])
    end
    if #ids > 0 then
      gone, last = gone + redis.call("XDEL", key, unpack(ids)), ids[#ids]
    end
  until #ids == 0 or freed >= excess or freed >= HASTE * came
  if last then
    local size = keys.replay_size(ns)
    redis.call("HINCRBY", size, "bytes", -freed)
    redis.call("HINCRBY", size, "dropped", gone)
    redis.call("HSET", size, "dropped_to", last)
  end
end

--- Append the call to the log, where somebody keeps it and it had an effect. `spec` is its registration.
function M.log(spec, ns, key, argv, ok)
  if not call.effect and (not ok or spec.apart or call.apart or spec.idle) then
    return
  end
  local kept = call.kept
  if kept == nil then
    kept = redis.call("GET", keys.replay_kept(ns))
  end
  if not kept then
    return
  end
  -- What is not kept to the last (core/measures.lua) was forgotten when the graph was read from the keys.
  if call.graph and call.graph.anew then
    call.graph.anew = nil
    call.facts = call.facts or {}
    call.facts.anew = true
  end
  if call.at and call.server and call.server ~= call.at then
    call.facts = call.facts or {}
    call.facts.server = call.server
  end
  local head = (call.before or "") .. "|" .. (call.taken or 0) .. (ok and "|" or "!|")
    .. string.format("%.0f", call.at or call.server or M.clock_ms()) .. "|" .. spec.name .. "|" .. (key or "")
    .. "|" .. string.sub(DIGEST, 1, 8)
  -- What is only for publishing is left out.
  local words = spec.matters and spec.matters(argv) or argv
  local fields
  if #words == 1 then
    fields = { "h", head, "a", words[1] }
  else
    fields = { "h", head, "m", cmsgpack.pack(words) }
  end
  if call.facts then
    fields[#fields + 1], fields[#fields + 2] = "x", cmsgpack.pack(call.facts)
  end
  if call.outputs then
    fields[#fields + 1], fields[#fields + 2] = "o", cmsgpack.pack(call.outputs)
  end
  local bytes = size_of(fields)
  redis.call("XADD", keys.replay(ns), "*", unpack(fields))
  local excess = redis.call("HINCRBY", keys.replay_size(ns), "bytes", bytes) - tonumber(kept)
  if excess > 0 then
    make_room(ns, excess, bytes)
  end
end

-- Make a recorded call again. api.lua puts what writes by its name into M.specs, and into M.run what calls it:
-- run(spec, key, argv) gives true and the reply, or false and the error.
-- Returns what it wrote to the journals (packed, "" for nothing), its refusal, and whether it was refused then.
local function again(ns, entry, changed)
  local before, refused, at, name, key = string.match(entry[1], "^(%d*)|%d+(!?)|(%d+)|([%w_]+)|(.*)|%x+$")
  local spec = M.specs[name]
  if not spec then
    return "", "INVALID there is no function " .. tostring(name) .. " that writes", refused == "!"
  end
  local argv = entry[2] ~= "" and { entry[2] } or cmsgpack.unpack(entry[3])
  call = { replayed = { at = tonumber(at), facts = entry[4] ~= "" and cmsgpack.unpack(entry[4]) or {}, before = before } }
  key = key ~= "" and key or nil
  if changed then
    call.replayed.names = replay_names.read(ns, entry[5])
    key, argv = replay_names.translate(ns, name, key, argv)
  end
  local ok, reply = M.run(spec, key, argv)
  local outputs = call.outputs and cmsgpack.pack(call.outputs) or ""
  return outputs, not ok and errors.text(reply) or nil, refused == "!"
end

--- Make recorded calls again, in a Redis of the replay's own.
--
-- The instants and what came from outside are those recorded. It is refused where `voltage:replay:private`
-- is not set: it never runs on a site.
--
-- KEYS[1]  the namespace, `{plant7}:` (optional)
-- ARGV[1]  [[h, a, m, x, o], ...] as they stand in voltage:replay, a msgpack list
-- Returns  [[number of the call from 1, what it wrote to the journals as a msgpack list, its refusal or ""], ...]
--          of the calls that did not write the same, or were not refused alike
-- Errors   STATE    this Redis is not a replay's
--          INVALID  the calls are no msgpack list
-- Writes   what the calls write
-- Example  FCALL replay_apply 0 ''
function M.apply(ns, _, argv)
  local private = redis.call("GET", keys.replay_private(ns))
  if not private then
    errors.fail("STATE", "this Redis is not a replay's own")
  end
  local changed = string.find(private, ":", 1, true) ~= nil
  local ok, entries = pcall(cmsgpack.unpack, argv[1])
  if not ok or type(entries) ~= "table" or #entries > MAX_CALLS then
    errors.fail("INVALID", "the calls must be a msgpack list of at most " .. MAX_CALLS)
  end
  local differ = {}
  for i = 1, #entries do
    local outputs, problem, refused = again(ns, entries[i], changed)
    if outputs ~= entries[i][5] or (problem ~= nil) ~= refused then
      differ[#differ + 1] = { i, outputs, problem or "" }
    end
  end
  call = {}
  return differ
end

return M
