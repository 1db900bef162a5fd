-- Slots: the points that anything depends on, with their last values.
local M = {}

local CHUNK = 1000

-- How the hot path looks at a leaf that is no comparison (core/engine.lua).
M.QUIET, M.COLD, M.BETWEEN = 7, 8, 9

-- What a leaf said last, as a number.
M.UNKNOWN = 2

function M.said(truth)
  return (truth == nil and M.UNKNOWN) or (truth and 1 or 0)
end

--- A leaf that decides alone and remembers nothing says another thing: all else that its point keeps of it stays.
function M.say(leaf, truth)
  local hot = leaf.place and leaf.slot and leaf.slot.hot
  if hot then
    hot[3 * leaf.place] = M.said(truth)
  end
end

--- Make what a leaf's point keeps of it for speed again, when it is looked at next.
function M.cool(leaf)
  local hot = leaf.place and leaf.slot and leaf.slot.hot
  if hot then
    hot[3 * leaf.place - 2] = M.COLD
  end
end

local function new_slot(graph, owner, kind, id)
  local slot = { ref = owner .. ":" .. kind .. ":" .. id, owner = owner, kind = kind, id = id }
  graph.fresh[#graph.fresh + 1] = slot
  return slot
end

--- The slot of `owner` ("comsrv:1001"), kind and id; made when it is new.
function M.slot(graph, owner, kind, id)
  local kinds = graph.owners[owner]
  if not kinds then
    kinds = { T = {}, S = {}, C = {}, A = {}, X = {} }
    graph.owners[owner] = kinds
  end
  local slot = kinds[kind][id]
  if not slot then
    slot = new_slot(graph, owner, kind, id)
    kinds[kind][id] = slot
  end
  return slot
end

--- The slot a reference means; a model's point is the point it is mapped to.
function M.resolve(graph, ref)
  local service, owner, kind, id = string.match(ref, "^([%w_%-]+):([%w_%-]+):([TSCAX]):(%d+)$")
  if service then
    return M.slot(graph, service .. ":" .. owner, kind, id)
  end
  local model, name = string.match(ref, "^modsrv:([%w_%-]+):([%w_%-]+)$")
  local names = graph.models[model]
  if names and names[name] then
    return names[name]
  end
  -- Not mapped (yet): unknown until a model brings it.
  return { ref = ref }
end

--- Read the values of slots from their hashes.
function M.load_values(ns, slots)
  local groups = {}
  for i = 1, #slots do
    local slot = slots[i]
    local name = slot.owner .. ":" .. (slot.kind == "X" and "text" or slot.kind)
    groups[name] = groups[name] or {}
    table.insert(groups[name], slot)
  end
  for name, members in pairs(groups) do
    for start = 1, #members, CHUNK do
      local ids = {}
      for i = start, math.min(start + CHUNK - 1, #members) do
        ids[#ids + 1] = members[i].id
      end
      local values = redis.call("HMGET", ns .. name, unpack(ids))
      local at = redis.call("HMGET", ns .. name .. ":ts", unpack(ids))
      local quality = redis.call("HMGET", ns .. name .. ":q", unpack(ids))
      for i = 1, #ids do
        local slot = members[start + i - 1]
        if slot.kind == "X" then
          -- What shows a value writes its text, so that of a text is JSON.
          slot.value = values[i] or nil
          slot.text = values[i] and cjson.encode(values[i]) or nil
        else
          slot.value = values[i] and tonumber(values[i]) or nil
          slot.text = values[i] or nil
        end
        slot.at = at[i] and tonumber(at[i]) or nil
        slot.quality = quality[i] or nil
      end
    end
  end
end

--- Read the values of slots that were made since.
function M.load_fresh(graph)
  if #graph.fresh > 0 and not graph.building then
    M.load_values(graph.ns, graph.fresh)
    graph.fresh = {}
  end
end

return M
