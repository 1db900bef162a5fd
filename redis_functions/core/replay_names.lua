-- Who is meant by an id in a recorded call, where the replay has another definition.
--
-- Ids are counted in each call, so with another definition those that follow in a call would be others. An alarm or a
-- command that a call makes then and now (an alarm of the same origin, a command of the same source to the same point)
-- has the id it had then; one that is only made now has an id that none had. Where an alarm was raised then and is
-- not here, because it is open still or was raised at another time, who acknowledges it means the open one of its
-- origin.
local keys = require("lib.keys")

local M = {}

local SEPARATOR = "\31"
-- No call counts so far.
local FIRST = 1000

local function fields_of(text)
  local parts, from = {}, 1
  while true do
    local to = string.find(text, SEPARATOR, from, true)
    parts[#parts + 1] = string.sub(text, from, to and to - 1)
    if not to then
      break
    end
    from = to + 1
  end
  local fields = {}
  for i = 2, #parts - 1, 2 do
    fields[parts[i]] = parts[i + 1]
  end
  return parts[1], fields
end

local function add(names, name, id)
  names[name] = names[name] or {}
  table.insert(names[name], id)
end

--- What a recorded call made: a name -> its ids in order; `outputs` is what it wrote to the journals, packed.
function M.read(ns, outputs)
  local names = {}
  local texts = outputs ~= "" and cmsgpack.unpack(outputs) or {}
  for i = 1, #texts do
    local journal, fields = fields_of(texts[i])
    if journal == keys.alarm_journal("") and fields.event == "raised" then
      if fields.origin ~= "" then
        redis.call("HSET", keys.replay_names(ns), fields.alarm, fields.origin)
      end
      add(names, "alarm|" .. fields.origin, fields.alarm)
    elseif journal == keys.operations("") and fields.what == "command" and fields.state == "queued" then
      add(names, "command|" .. fields.by .. "|" .. fields.point, fields.id)
    end
  end
  return names
end

--- The id of what is made now: the one it had then, or one that none had.
function M.take(ns, names, name, counted)
  local found = names[name] and table.remove(names[name], 1)
  if found then
    return found
  end
  local number = redis.call("HINCRBY", keys.replay_names(ns), "count", 1)
  return string.match(counted, "^(.*%-)%d+$") .. string.format("%.0f", FIRST + number)
end

-- The alarm of a replay that is meant by the id of a recorded one.
local function meant(ns, id)
  local status, origin = unpack(redis.call("HMGET", keys.alarm(ns, id), "status", "origin"))
  if status and status ~= "Resolved" then
    return id
  end
  origin = redis.call("HGET", keys.replay_names(ns), id) or origin
  return origin and redis.call("HGET", keys.alarms_open(ns), origin) or id
end

--- The key and the arguments of a recorded call, with who is meant by them.
function M.translate(ns, function_name, key, argv)
  local id = key and string.match(key, "al%-%d+%-%d+$")
  if id then
    key = ns .. meant(ns, id)
  end
  if function_name == "acknowledge_alarms_batch" then
    argv[1] = string.gsub(argv[1], '"(al%-%d+%-%d+)"', function(one)
      return '"' .. meant(ns, one) .. '"'
    end)
  end
  return key, argv
end

return M
