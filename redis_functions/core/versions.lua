-- Versions of definitions: rules, alarm definitions, models, mappings and the rest change through here alone.
--
-- A stored document carries its version, author, reason, hash and instants; they are set here, whatever the
-- caller's document says. What was before is kept in voltage:versions:{kind}:{id}: fields "about:{n}" (what
-- happened, who, why, when) and "said:{n}" (the document without those members), and the first and last
-- number. A definition that never changed has no such key.
local args = require("lib.args")
local clock = require("core.clock")
local errors = require("lib.errors")
local json = require("lib.json")
local keys = require("lib.keys")
local order = require("lib.order")
local replay = require("core.replay")

local M = {}

-- What is kept of each definition, and of how many that are deleted.
M.KEPT = 50
M.KEPT_BYTES = 262144
M.KEPT_GONE = 1000

local KINDS = {
  rule = { noun = "rule", key = keys.rule },
  alarm_definition = { noun = "alarm definition", key = keys.definition },
  alarm_route = { noun = "alarm route", key = keys.alarm_route },
  calendar = { noun = "calendar", key = keys.rule_calendar },
  model = { noun = "model", key = keys.model },
  template = { noun = "template", key = keys.template },
  mapping = { noun = "mapping", key = keys.mapping },
  network = { noun = "network", key = keys.network },
  route = { noun = "route", key = keys.route },
}

local METADATA = { version = true, author = true, reason = true, hash = true, created_at_ms = true, updated_at_ms = true }

-- ---------------------------------------------------------------- what a definition says

-- One text for all documents that say the same, whatever the order of their members.
local function canonical(value, without)
  if type(value) == "number" then
    return string.format("%.17g", value)
  elseif type(value) ~= "table" then
    return type(value) == "string" and cjson.encode(value) or tostring(value)
  end
  local parts = {}
  if #value > 0 then
    for i = 1, #value do
      parts[i] = canonical(value[i])
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for _, name in ipairs(order.names(value)) do
    if not (without and without[name]) then
      parts[#parts + 1] = cjson.encode(name) .. ":" .. canonical(value[name])
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function digest(document)
  return string.sub(redis.sha1hex(canonical(document, METADATA)), 1, 16)
end

-- ---------------------------------------------------------------- the caller's side

--- Who changes a definition and why: {by?, reason?, read?, version?, existing?, now_ms?}, or only an instant.
-- `version` is the one the caller saw (0: none may be there); `existing` that there must be one; `read` the hash of what
-- was read, where the reason came with it.
function M.change(text)
  if text == nil or text == "" or string.find(text, "^%-?%d") then
    return { by = "redis", now_ms = text ~= "" and text or nil }
  end
  local given = args.document(text)
  return {
    by = args.text(given.by, "by", 128) or "redis", reason = args.text(given.reason, "reason", 500),
    read = args.text(given.read, "read", 64),
    version = given.version ~= nil and args.integer(given.version, "version", 0, 9007199254740991) or nil,
    existing = given.existing == true, now_ms = given.now_ms,
  }
end

--- What no replay needs is brought back without a trace in its log, too.
function M.mark(kind)
  if KINDS[kind].apart then
    replay.apart()
  end
end

--- The kind a document names, and the definition's id.
function M.named(id, document)
  local kind = args.choice(document.kind, "kind", order.names(KINDS))
  M.mark(kind)
  return kind, args.id(id, KINDS[kind].noun), KINDS[kind].noun
end

--- A definition as it is stored: its text and its document; nil where there is none that can be read.
function M.present(ns, kind, id)
  local text = redis.call("GET", KINDS[kind].key(ns, id))
  local ok, document = pcall(args.document, text or nil)
  if ok then
    return text, document
  end
end

-- What the caller takes for granted must be so.
local function expect(kind, id, before, change)
  local name = KINDS[kind].noun .. " " .. id
  if before == nil and (change.existing or (change.version or 0) > 0) then
    errors.fail("NOTFOUND", name)
  elseif before and change.version == 0 then
    errors.fail("CONFLICT", name .. " exists")
  elseif before and change.version and change.version ~= (before.version or 0) then
    errors.fail("CONFLICT", string.format("%s has version %.0f, not %.0f", name, before.version or 0, change.version))
  end
  if before and before.requires_approval == true and not change.approved_by and not replay.changes() then
    errors.fail("STATE", name .. " requires approval: propose the change, and another person approves it")
  end
end

-- ---------------------------------------------------------------- what is kept

local function about(number, action, change, now, hash)
  return json.object({
    "version", json.integer(number), "action", json.text(action), "author", json.text(change.by),
    "reason", change.reason and json.text(change.reason), "approved_by", change.approved_by and json.text(change.approved_by),
    "of_version", change.of_version and json.integer(change.of_version), "hash", hash and json.text(hash),
    "at_ms", json.integer(now),
  })
end

-- What is known of a version from its own document: it was the first, or older than what is kept.
local function about_document(document)
  local version = document.version or 0
  return about(version, version <= 1 and "created" or "changed", {
    by = document.author or "", reason = document.reason,
  }, document.updated_at_ms or 0, document.hash)
end

local function forget_oldest(key)
  local found = redis.call("HMGET", key, "first", "last", "bytes")
  local first, last, bytes = tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
  while first < last and (last - first > M.KEPT or bytes > M.KEPT_BYTES) do
    bytes = bytes - redis.call("HSTRLEN", key, "said:" .. string.format("%.0f", first))
    redis.call("HDEL", key, "about:" .. string.format("%.0f", first), "said:" .. string.format("%.0f", first))
    first = first + 1
  end
  redis.call("HSET", key, "first", string.format("%.0f", first), "bytes", string.format("%.0f", bytes))
end

local function forget_gone(ns)
  local gone = keys.versions_gone(ns)
  local surplus = redis.call("ZCARD", gone) - M.KEPT_GONE
  local found = surplus > 0 and redis.call("ZRANGE", gone, 0, surplus - 1) or {}
  for i = 1, #found do
    local kind, id = string.match(found[i], "^([^:]+):(.*)$")
    redis.call("DEL", keys.versions(ns, kind, id))
    redis.call("ZREM", gone, found[i])
  end
end

-- Note a new version, and keep what it takes the place of. A definition that never changed keeps nothing.
local function keep(ns, kind, id, before, noted)
  local key = keys.versions(ns, kind, id)
  local number = string.format("%.0f", noted.number)
  local known = redis.call("HGET", key, "last")
  if not before and not known then
    return
  end
  redis.call("HSET", key, "about:" .. number, noted.about, "last", number)
  if before then
    local was = string.format("%.0f", before.document.version or 0)
    local said = json.without(before.text, METADATA)
    redis.call("HSETNX", key, "about:" .. was, about_document(before.document))
    redis.call("HSETNX", key, "first", was)
    redis.call("HSET", key, "said:" .. was, said)
    redis.call("HINCRBY", key, "bytes", #said)
  end
  forget_oldest(key)
end

local function next_number(ns, kind, id, before)
  local last = tonumber(redis.call("HGET", keys.versions(ns, kind, id), "last") or 0)
  return math.max(last, before and before.version or 0) + 1
end

-- ---------------------------------------------------------------- changing

local function stamped(said, number, change, hash, created, now)
  return json.with(json.without(said, METADATA), {
    "version", json.integer(number), "author", json.text(change.by), "reason", change.reason and json.text(change.reason),
    "hash", json.text(hash), "created_at_ms", json.integer(created), "updated_at_ms", json.integer(now),
  })
end

-- A document that was read says why it was as it is: that is no reason for the next change.
local function is_old(ns, kind, id, before, read, reason)
  if before and before.hash == read then
    return before.reason == reason
  end
  local key = keys.versions(ns, kind, id)
  local kept = redis.call("HMGET", key, "first", "last")
  for number = tonumber(kept[1] or 1), tonumber(kept[1] and kept[2] or 0) do
    local text = redis.call("HGET", key, "about:" .. string.format("%.0f", number))
    local known = text and cjson.decode(text) or {}
    if known.hash == read and known.reason == reason then
      return true
    end
  end
  return false
end

local function reason_of(ns, kind, id, before, document, change)
  local reason, read = change.reason, change.read
  if not reason then
    reason, read = args.text(document.reason, "reason", 500), document.hash
  end
  return not (read and reason and is_old(ns, kind, id, before, read, reason)) and reason or nil
end

--- Create or change a definition. One that says what it said already stays as it is, and makes no version.
function M.put(ns, kind, id, text, change, action)
  id = args.id(id, KINDS[kind].noun)
  local document = args.document(text)
  if not string.find(text, "^%s*{") then
    errors.fail("INVALID", "the document must be a JSON object")
  elseif document.requires_approval ~= nil and type(document.requires_approval) ~= "boolean" then
    errors.fail("INVALID", "requires_approval must be true or false")
  end
  local before_text, before = M.present(ns, kind, id)
  if replay.stays(ns, kind .. ":" .. id) then
    return before_text
  end
  expect(kind, id, before, change)
  local said = json.with_id(text, document, id)
  document.id = document.id or id
  local hash = digest(document)
  -- The hash beside it is looked at first; a rule that another one switched says otherwise by now.
  if before and before.hash == hash and digest(before) == hash then
    return before_text
  end
  change.reason = reason_of(ns, kind, id, before, document, change)
  local now = clock.instant(ns, change.now_ms)
  local number = next_number(ns, kind, id, before)
  local created = before and tonumber(before.created_at_ms) or now
  local given = change.now_ms and string.format("%.0f", now) or nil
  local reply = KINDS[kind].put(ns, id, { stamped(said, number, change, hash, created, now), given })
  action = action or (before and "changed" or "created")
  keep(ns, kind, id, before and { text = before_text, document = before }, {
    number = number, about = about(number, action, change, now, hash),
  })
  redis.call("ZREM", keys.versions_gone(ns), kind .. ":" .. id)
  return reply
end

--- Delete a definition: that is a version, too, and what was before it is kept for a while.
function M.remove(ns, kind, id, change)
  id = args.id(id, KINDS[kind].noun)
  local text, document = M.present(ns, kind, id)
  if replay.stays(ns, kind .. ":" .. id) then
    return text
  elseif text then
    expect(kind, id, document, change)
  end
  local now = clock.instant(ns, change.now_ms)
  local number = next_number(ns, kind, id, document)
  local reply = KINDS[kind].remove(ns, id, { change.now_ms and string.format("%.0f", now) or nil })
  keep(ns, kind, id, text and { text = text, document = document }, {
    number = number, about = about(number, "deleted", change, now),
  })
  redis.call("ZADD", keys.versions_gone(ns), string.format("%.0f", now), kind .. ":" .. id)
  forget_gone(ns)
  return reply
end

--- Switch a definition on or off.
function M.switch(ns, kind, id, enabled, change)
  id = args.id(id, KINDS[kind].noun)
  local text, document = M.present(ns, kind, id)
  if not text then
    errors.fail("NOTFOUND", KINDS[kind].noun .. " " .. id)
  elseif (document.enabled ~= false) == enabled then
    return text
  end
  local switched = json.with(json.without(text, { enabled = true }), { "enabled", tostring(enabled) })
  return M.put(ns, kind, id, switched, change, enabled and "enabled" or "disabled")
end

--- The function that is registered: an upsert or a deletion (redis_functions/api.lua) with its versions kept.
function M.kept(entry)
  if entry.puts then
    KINDS[entry.puts].put, KINDS[entry.puts].apart = entry.run, entry.apart
    return function(ns, id, argv)
      return M.put(ns, entry.puts, id, argv[1], M.change(argv[2]))
    end
  elseif entry.removes then
    KINDS[entry.removes].remove = entry.run
    return function(ns, id, argv)
      return M.remove(ns, entry.removes, id, M.change(argv[1]))
    end
  end
  return entry.run
end

-- ---------------------------------------------------------------- reading and going back

--- The versions of a definition, newest first; also of one that is deleted.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind: rule|alarm_definition|alarm_route|calendar|model|template|mapping|network|route}
-- Returns  {items: [{version, action, author, reason?, approved_by?, of_version?, at_ms, hash?}], cursor: null}
-- Errors   NOTFOUND  no such definition, and none that is remembered
-- Example  FCALL definition_versions 1 r1 '{"kind":"rule"}'
function M.list(ns, id, argv)
  local kind, noun
  kind, id, noun = M.named(id, args.document(argv[1]))
  local found = redis.call("HMGET", keys.versions(ns, kind, id), "first", "last")
  local text, document = M.present(ns, kind, id)
  local items = {}
  if found[1] then
    for number = tonumber(found[2]), tonumber(found[1]), -1 do
      items[#items + 1] = redis.call("HGET", keys.versions(ns, kind, id), "about:" .. string.format("%.0f", number)) or nil
    end
  elseif text then
    items[1] = about_document(document)
  else
    errors.fail("NOTFOUND", noun .. " " .. id)
  end
  return json.object({ "items", json.list(items), "cursor", "null" })
end

-- The text of a version as it was said, and what is known of it.
local function version_of(ns, kind, id, number)
  local key, field = keys.versions(ns, kind, id), string.format("%.0f", number)
  local text, document = M.present(ns, kind, id)
  if text and (document.version or 0) == number then
    return json.without(text, METADATA), redis.call("HGET", key, "about:" .. field) or about_document(document)
  end
  local found = redis.call("HMGET", key, "said:" .. field, "about:" .. field)
  if found[2] then
    return found[1], found[2]
  end
  local kept = redis.call("HMGET", key, "first", "last")
  errors.fail("NOTFOUND", string.format(
    "version %.0f of %s %s%s", number, KINDS[kind].noun, id,
    kept[1] and ("; there are " .. kept[1] .. " to " .. kept[2]) or ""
  ))
end

--- One version of a definition.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind, version}
-- Returns  as definition_versions, and `definition`: what it said; null of a deletion
-- Errors   NOTFOUND  no such version, or it is not kept any more
-- Example  FCALL definition_version 1 r1 '{"kind":"rule","version":1}'
function M.get(ns, id, argv)
  local document = args.document(argv[1])
  local kind
  kind, id = M.named(id, document)
  local said, known = version_of(ns, kind, id, args.integer(document.version, "version", 0, 9007199254740991))
  return json.with(known, { "definition", said or "null" })
end

--- Bring a version back: it becomes the newest one. A deleted definition comes back so, too.
--
-- KEYS[1]  definition
-- ARGV[1]  {kind, version, by?, reason?, expected? (the version that is there now), now_ms?}
-- Returns  the definition
-- Errors   NOTFOUND  no such version, or it is not kept any more
--          STATE     the version is a deletion; or the definition requires approval
--          CONFLICT  the definition has another version than expected
--          INVALID   what it said is not valid any more
-- Writes   as its upsert function
-- Example  FCALL definition_rollback 1 r1 '{"kind":"rule","version":1,"by":"ann","reason":"as it was"}'
function M.rollback(ns, id, argv)
  local document = args.document(argv[1])
  local kind
  kind, id = M.named(id, document)
  local number = args.integer(document.version, "version", 0, 9007199254740991)
  return M.bring_back(ns, kind, id, number, {
    by = args.text(document.by, "by", 128) or "redis", reason = args.text(document.reason, "reason", 500),
    version = document.expected ~= nil and args.integer(document.expected, "expected", 0, 9007199254740991) or nil,
    now_ms = document.now_ms,
  })
end

--- What a version said; STATE where it was a deletion.
function M.said(ns, kind, id, number)
  return version_of(ns, kind, id, number)
    or errors.fail("STATE", string.format("version %.0f of %s %s is its deletion", number, KINDS[kind].noun, id))
end

--- Put what a version said in the place of the present one.
function M.bring_back(ns, kind, id, number, change)
  change.of_version = number
  return M.put(ns, kind, id, M.said(ns, kind, id, number), change, "rolled_back")
end

--- True where a document says what is stored already.
function M.same(text, before)
  return digest(args.document(text)) == digest(before)
end

return M
