-- Lists walk an index with a limit and a cursor, never a whole set at once.
local args = require("lib.args")
local json = require("lib.json")
local keys = require("lib.keys")

local M = {}

M.MAX_LIMIT = 1000

-- Sorted ids by key, with the token of the definitions that they are of; for speed alone.
local MAX_KEPT = 16
local kept, kept_count = {}, 0

--- A page of a sorted set, newest first. `take(id)` returns the item's JSON, or nil to leave it out.
-- The cursor is the rank to go on from; `filter.limit` counts items that were taken.
function M.newest(key, filter, take)
  local limit = args.integer(filter.limit, "limit", 1, M.MAX_LIMIT, 100)
  local rank = args.integer(filter.cursor, "cursor", 0, 9007199254740991, 0)
  local items, looked = {}, 0
  while #items < limit and looked < 10 * M.MAX_LIMIT do
    local ids = redis.call("ZREVRANGE", key, rank, rank + limit - 1)
    if #ids == 0 then
      return M.page(items, nil)
    end
    for i = 1, #ids do
      rank, looked = rank + 1, looked + 1
      local item = take(ids[i])
      if item then
        items[#items + 1] = item
        if #items == limit then
          break
        end
      end
    end
  end
  local more = redis.call("ZCARD", key) > rank
  return M.page(items, more and rank or nil)
end

local function sort_ids(key)
  local ids = redis.call("SMEMBERS", key)
  table.sort(ids)
  return ids
end

-- The place of the first id behind a cursor.
local function place_after(ids, cursor)
  local low, high = 1, #ids + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if ids[middle] > cursor then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local function page_of(ids, filter, take)
  local limit = args.integer(filter.limit, "limit", 1, M.MAX_LIMIT, 100)
  local items = {}
  for i = place_after(ids, args.text(filter.cursor, "cursor", 64) or ""), #ids do
    if #items == limit then
      return M.page(items, ids[i - 1])
    end
    local item = take(ids[i])
    if item then
      items[#items + 1] = item
    end
  end
  return M.page(items, nil)
end

--- A page of a set of ids in the order of their text.
-- The set is sorted whole, so it is for what there are hundreds of.
function M.sorted(key, filter, take)
  return page_of(sort_ids(key), filter, take)
end

--- A page of the set of definitions of a kind, of which there are thousands: their ids are sorted once, and anew after
-- a change of any definition (core/graph.lua).
function M.definitions(ns, key, filter, take)
  local token = redis.call("GET", keys.generation(ns))
  local known = kept[key]
  if not known or not token or known.token ~= token or #known.ids ~= redis.call("SCARD", key) then
    if not known and kept_count == MAX_KEPT then
      kept, kept_count = {}, 0
    end
    kept_count = kept_count + (kept[key] and 0 or 1)
    known = { token = token, ids = sort_ids(key) }
    kept[key] = known
  end
  return page_of(known.ids, filter, take)
end

--- The reply of every list.
function M.page(items, cursor)
  return json.object({ "items", json.list(items), "cursor", cursor and json.text(cursor) or "null" })
end

return M
