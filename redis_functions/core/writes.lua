-- What a call writes once at its end: members of indexes and fields of hashes that many transitions touch.
--
-- A storm costs one command a key instead of one an alarm, and of what was put in and taken out again only the last
-- counts. It lives for one call: the guard (redis_functions/api.lua) writes it, whatever the call came to, so that an
-- index and the head of the journal are never behind the records. Until then the keys are as they were.
local M = {}

-- Lua passes no more than 8,000 arguments at once.
local CHUNK = 2000

local gathered = {}

local function found_of(kind, key)
  local found = gathered[key]
  if not found then
    found = { kind = kind, values = {} }
    gathered[key] = found
    gathered[#gathered + 1] = key
  end
  return found.values
end

local function note(kind, key, member, value)
  found_of(kind, key)[member] = value
end

--- Put a member into a set, or take it out.
function M.member(key, member, present)
  note("set", key, member, present)
end

--- Give a member of a sorted set its score; false takes it out.
function M.score(key, member, score)
  note("zset", key, member, score)
end

--- Give a field of a hash its value; false takes it away. A list is joined when it is written.
function M.field(key, field, value)
  note("hash", key, field, value)
end

--- Count a field of a hash up, or down.
function M.count(key, field, step)
  local values = found_of("count", key)
  values[field] = (values[field] or 0) + step
end

local function put_set(put, member)
  put[#put + 1] = member
end

local function put_score(put, member, score)
  put[#put + 1], put[#put + 2] = score, member
end

local function put_field(put, field, value)
  put[#put + 1], put[#put + 2] = field, type(value) == "table" and table.concat(value, ",") or value
end

local KINDS = {
  set = { "SADD", "SREM", put_set }, zset = { "ZADD", "ZREM", put_score }, hash = { "HSET", "HDEL", put_field },
}

local function send(command, key, arguments)
  for start = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, start, math.min(start + CHUNK - 1, #arguments)))
  end
end

local function send_counts(key, values)
  for field, step in pairs(values) do
    if step ~= 0 then
      redis.call("HINCRBY", key, field, step)
    end
  end
end

local function send_members(found, key)
  local kind, put, gone = KINDS[found.kind], {}, {}
  for member, value in pairs(found.values) do
    if value then
      kind[3](put, member, value)
    else
      gone[#gone + 1] = member
    end
  end
  send(kind[1], key, put)
  send(kind[2], key, gone)
end

--- Write what was gathered, key by key in the order of their first touch.
function M.flush()
  if #gathered == 0 then
    return
  end
  local all = gathered
  gathered = {}
  for i = 1, #all do
    local found = all[all[i]]
    if found.kind == "count" then
      send_counts(all[i], found.values)
    else
      send_members(found, all[i])
    end
  end
end

return M
