-- Lists walk an index with a limit and a cursor, never a whole set at once.
local args = require("lib.args")
local json = require("lib.json")

local M = {}

M.MAX_LIMIT = 1000

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

--- A page of a set of ids in the order of their text.
-- The set is sorted whole, so it is for definitions (thousands), not for what happens (millions).
function M.sorted(key, filter, take)
  local limit = args.integer(filter.limit, "limit", 1, M.MAX_LIMIT, 100)
  local after = args.text(filter.cursor, "cursor", 64) or ""
  local ids = redis.call("SMEMBERS", key)
  table.sort(ids)
  local items = {}
  for i = 1, #ids do
    if ids[i] > after then
      if #items == limit then
        return M.page(items, ids[i - 1])
      end
      local item = take(ids[i])
      if item then
        items[#items + 1] = item
      end
    end
  end
  return M.page(items, nil)
end

--- The reply of every list.
function M.page(items, cursor)
  return json.object({ "items", json.list(items), "cursor", cursor and json.text(cursor) or "null" })
end

return M
