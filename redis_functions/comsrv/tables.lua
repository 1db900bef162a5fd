-- A channel's point tables: what its document declares, and what becomes of points that go.
local args = require("lib.args")
local errors = require("lib.errors")
local expression = require("core.expression")
local keys = require("lib.keys")
local limits = require("comsrv.limits")

local M = {}

M.KINDS = { "T", "S", "C", "A" }
local MAX_POINTS = 20000
local WRITABLE = { C = true, A = true }
local KIND = { T = true, S = true, C = true, A = true }
-- Texts that are read stand in the table of T, texts that are written in that of A. Both share the ids of T, and have
-- hashes of their own.
local TEXT = { string = true, text = true }

local function check_list(list, path)
  if type(list) ~= "table" or (next(list) ~= nil and #list == 0) then
    errors.fail("INVALID", path .. " must be a list")
  end
  return list
end

local function limit(point, name, path)
  return point[name] ~= nil and args.number(point[name], path .. "." .. name) or nil
end

-- What others need to know of a point without reading the whole document: the unit that answers for it, and its unit.
local function facts_of(point)
  local mapping = type(point.mapping) == "table" and point.mapping or {}
  local slave = type(mapping.slave_id) == "number" and string.format("%.0f", mapping.slave_id) or ""
  return slave .. "|" .. (type(point.unit) == "string" and point.unit or "")
end

local function examine_point(found, kind, id, point, path)
  found.facts[#found.facts + 1] = kind .. ":" .. id
  found.facts[#found.facts + 1] = facts_of(point)
  if point.program ~= nil then
    local problem = WRITABLE[kind] and "only T and S points are calculated" or expression.problem(point.program)
    if problem then
      errors.fail("INVALID", path .. ".program: " .. problem)
    end
    found.programs[kind .. ":" .. id] = point.program
  end
  if WRITABLE[kind] then
    local low, high = limit(point, "min", path), limit(point, "max", path)
    if low and high and low > high then
      errors.fail("INVALID", path .. ".min is above its max")
    end
    local flat = found.writable
    local options, text = limits.options(point, low, high, path), TEXT[point.data_type] or false
    if text then
      limits.check_text_point(low, high, options, path)
    end
    flat[#flat + 1] = kind .. ":" .. id
    flat[#flat + 1] = limits.encode(kind, text, low, high, options)
  end
end

--- Check the points of a document: { ids = { T = { ["1"] = true } }, programs, writable = { point, limits, ... } }.
function M.examine(document)
  local found = { ids = { T = {}, S = {}, C = {}, A = {}, X = {} }, programs = {}, writable = {}, facts = {} }
  local points = args.object(document.points, "points")
  local total = 0
  for kind, list in pairs(points) do
    if not KIND[kind] then
      errors.fail("INVALID", "points." .. tostring(kind) .. " is unknown; there are T, S, C, A")
    end
    total = total + #check_list(list, "points." .. kind)
  end
  if total > MAX_POINTS then
    errors.fail("LIMIT", "a channel has at most " .. MAX_POINTS .. " points, not " .. total)
  end
  for _, kind in ipairs(M.KINDS) do
    for i, point in ipairs(points[kind] or {}) do
      local path = "points." .. kind .. "[" .. (i - 1) .. "]"
      if type(point) ~= "table" then
        errors.fail("INVALID", path .. " must be an object")
      end
      local id = args.point(point.id)
      if found.ids[kind][id] or (kind == "T" and found.ids.X[id]) then
        errors.fail("INVALID", path .. ".id " .. id .. " is there twice")
      end
      if kind == "A" and TEXT[point.data_type] then
        if found.ids.T[id] or found.ids.X[id] then
          errors.fail("INVALID", path .. ".id " .. id .. " is a telemetry point's; texts share their numbers")
        end
        found.ids.X[id] = true
      end
      found.ids[kind == "T" and TEXT[point.data_type] and "X" or kind][id] = true
      examine_point(found, kind, id, point, path)
    end
  end
  return found
end

--- Keep what calls need of the tables: programs of calculated points, limits of those that are written.
function M.store(ns, ch, found)
  redis.call("DEL", keys.programs(ns, ch), keys.writable(ns, ch), keys.points(ns, ch))
  for start = 1, #found.facts, 1000 do
    redis.call("HSET", keys.points(ns, ch), unpack(found.facts, start, math.min(start + 999, #found.facts)))
  end
  for point, program in pairs(found.programs) do
    redis.call("HSET", keys.programs(ns, ch), point, cjson.encode(program))
  end
  for start = 1, #found.writable, 1000 do
    redis.call("HSET", keys.writable(ns, ch), unpack(found.writable, start, math.min(start + 999, #found.writable)))
  end
end

-- Whatever watches the point sees it missing.
local function forget(ctx, ch, kind, id)
  local owner = ctx.graph.owners["comsrv:" .. ch]
  local slot = owner and owner[kind][id]
  if slot then
    slot.value, slot.text, slot.quality, slot.at = nil, nil, nil, nil
    ctx.touched[#ctx.touched + 1] = slot
  end
end

--- Take points out of the image: all of a channel that are not in `kept` ({ T = { ["1"] = true } }).
function M.forget(ctx, ch, kept)
  for _, kind in ipairs({ "T", "S", "C", "A", "X" }) do
    local name = kind == "X" and "text" or kind
    local hashes = {
      keys.values(ctx.ns, ch, name), keys.values_at(ctx.ns, ch, name), keys.values_quality(ctx.ns, ch, name),
    }
    -- An instant is there for each value and each quality.
    local found = redis.call("HKEYS", hashes[2])
    for i = 1, #found do
      if not kept[kind][found[i]] then
        for j = 1, #hashes do
          redis.call("HDEL", hashes[j], found[i])
        end
        forget(ctx, ch, kind, found[i])
      end
    end
  end
end

return M
