-- What a call may carry out, and what waits: past 10 transitions only states change, the rest drains by tick, in order.
local keys = require("lib.keys")

local M = {}

-- One costs some 40 us and the call around them 200 to 300: so many keep it under a millisecond.
M.TRANSITIONS = 10
-- A tick that carries out what waits does nothing else, and the next one follows at once.
M.A_TICK = 8
-- So many transitions share an item at most.
local PACK = 50

--- True when one more transition may act in this call. Once something waits, all that follows waits behind it.
function M.admit(ctx)
  if ctx.held_back then
    return false
  elseif ctx.behind == nil then
    ctx.behind = redis.call("EXISTS", keys.deferred(ctx.ns)) == 1
  end
  if ctx.behind or ctx.transitions >= M.TRANSITIONS then
    ctx.behind = true
    return false
  end
  ctx.transitions = ctx.transitions + 1
  return true
end

local function waiting_of(ctx)
  ctx.waiting = ctx.waiting or { n = 0 }
  return ctx.waiting
end

--- Let an item wait; M.flush follows at the end of the call.
function M.wait(ctx, item)
  local waiting = waiting_of(ctx)
  waiting.n, waiting.pack = waiting.n + 1, nil
  waiting[waiting.n] = item
end

--- Let a transition wait of which nothing else is to be known. Those of one instant share an item: in a storm there
-- are thousands.
function M.wait_turned(ctx, id, on, at, text, quality)
  local waiting = waiting_of(ctx)
  local pack, filled = waiting.pack, waiting.filled
  if not pack or pack.at ~= at or filled == 4 * PACK then
    pack, filled = { at = at, turned = {} }, 0
    M.wait(ctx, pack)
    waiting.pack = pack
  end
  local turned = pack.turned
  turned[filled + 1], turned[filled + 2], turned[filled + 3], turned[filled + 4] = id, on, text or "", quality or ""
  waiting.filled = filled + 4
end

-- The items of a list, those that share one by themselves.
local function apart(items)
  local found = {}
  for i = 1, #items do
    local turned = items[i].turned
    if not turned then
      found[#found + 1] = items[i]
    end
    for k = 1, turned and #turned or 0, 4 do
      local text, quality = turned[k + 2], turned[k + 3]
      found[#found + 1] = {
        watcher = turned[k], on = turned[k + 1], at = items[i].at,
        text = text ~= "" and text or nil, quality = quality ~= "" and quality or nil, plain = true,
      }
    end
  end
  return found
end

local function wait_again(ctx, item)
  if item.plain then
    M.wait_turned(ctx, item.watcher, item.on, item.at, item.text, item.quality)
  else
    M.wait(ctx, item)
  end
end

local function texts_of(waiting)
  local texts = {}
  for i = 1, waiting.n do
    texts[i] = cjson.encode(waiting[i])
  end
  return texts
end

--- What was held back in a pass, where this call may carry it out; nil where it goes on waiting.
function M.held_back(ctx)
  ctx.held_back = false
  local waiting = ctx.waiting
  if not waiting or ctx.behind then
    return nil
  end
  local items = apart(waiting)
  if #items > M.TRANSITIONS - ctx.transitions then
    ctx.behind = true
    return nil
  end
  ctx.waiting = nil
  return items
end

--- Write what waits to the list, in one command a thousand.
function M.flush(ctx)
  local waiting = ctx.waiting
  if not waiting then
    return
  end
  ctx.waiting = nil
  local texts = texts_of(waiting)
  for start = 1, #texts, 1000 do
    redis.call("RPUSH", keys.deferred(ctx.ns), unpack(texts, start, math.min(start + 999, #texts)))
  end
end

--- Put items from `first` on back to where they were taken from.
function M.put_back(ns, items, first)
  local rest = {}
  for i = first, #items do
    wait_again(rest, items[i])
  end
  local texts = rest.waiting and texts_of(rest.waiting) or {}
  for i = #texts, 1, -1 do
    redis.call("LPUSH", keys.deferred(ns), texts[i])
  end
end

--- Take the first `count` of what waits from the list.
function M.take(ns, count)
  local found = {}
  while #found < count do
    local text = redis.call("LPOP", keys.deferred(ns))
    if not text then
      break
    end
    local items, room = apart({ cjson.decode(text) }), count - #found
    for i = 1, math.min(room, #items) do
      found[#found + 1] = items[i]
    end
    M.put_back(ns, items, room + 1)
  end
  return found
end

--- Forget what waits of a watcher; returns how much it was.
function M.forget(ns, id)
  local key, mark, dropped = keys.deferred(ns), cjson.encode(id), 0
  local texts = redis.call("LRANGE", key, 0, -1)
  for i = 1, #texts do
    if string.find(texts[i], mark, 1, true) then
      local items, kept = apart({ cjson.decode(texts[i]) }), {}
      for k = 1, #items do
        if items[k].watcher == id then
          dropped = dropped + 1
        else
          wait_again(kept, items[k])
        end
      end
      -- What is empty goes after the loop: until then each has its place.
      redis.call("LSET", key, i - 1, kept.waiting and cjson.encode(kept.waiting[1]) or "")
    end
  end
  if dropped > 0 then
    redis.call("LREM", key, 0, "")
  end
  return dropped
end

return M
