-- The groups that read the history queue: who still wants an entry, who joins, who leaves.
local history = require("core.history")
local keys = require("lib.keys")
local ledger = require("core.ledger")

local M = {}

-- The group of the store. It exists before any other, so that no other group's
-- acknowledgement deletes what the store has not seen.
M.STORE = "hissrv"
M.SWEEP = 500

--- Make a group where it is missing, and the store's; it reads from `from` on ("0" all, "$" what is new).
function M.ensure(queue, group, from)
  redis.pcall("XGROUP", "CREATE", queue, M.STORE, "0", "MKSTREAM")
  if group ~= M.STORE then
    redis.pcall("XGROUP", "CREATE", queue, group, from, "MKSTREAM")
  end
end

--- Take a group away. What waited for it alone is swept by the calls that follow.
function M.leave(queue, group)
  redis.pcall("XGROUP", "DESTROY", queue, group)
end

--- The groups beside one (all without it): { name, last }.
function M.others(queue, group)
  local others = {}
  if redis.call("EXISTS", queue) == 0 then
    return others
  end
  local groups = redis.call("XINFO", "GROUPS", queue)
  for i = 1, #groups do
    local name, last
    for j = 1, #groups[i], 2 do
      if groups[i][j] == "name" then
        name = groups[i][j + 1]
      elseif groups[i][j] == "last-delivered-id" then
        last = groups[i][j + 1]
      end
    end
    if name ~= group then
      others[#others + 1] = { name = name, last = last }
    end
  end
  return others
end

-- Entry ids compare by their two numbers.
local function after(one, two)
  local ms1, seq1 = string.match(one, "^(%d+)-(%d+)$")
  local ms2, seq2 = string.match(two, "^(%d+)-(%d+)$")
  ms1, ms2 = tonumber(ms1), tonumber(ms2)
  return ms1 > ms2 or (ms1 == ms2 and tonumber(seq1) > tonumber(seq2))
end

--- True while one of the groups has not acknowledged an entry.
function M.wanted_by(queue, groups, id)
  for i = 1, #groups do
    if after(id, groups[i].last) or #redis.call("XPENDING", queue, groups[i].name, id, id, 1) > 0 then
      return true
    end
  end
  return false
end

--- Let go of the oldest entries that nobody wants: a group that left was the last to read them.
function M.sweep(ns)
  local queue = keys.history_queue(ns)
  local groups = M.others(queue)
  local oldest = #groups > 0 and redis.call("XRANGE", queue, "-", "+", "COUNT", 1) or {}
  if not oldest[1] or M.wanted_by(queue, groups, oldest[1][1]) then
    return
  end
  local found = redis.call("XRANGE", queue, "-", "+", "COUNT", M.SWEEP)
  local written, failed = {}, {}
  for i = 1, #found do
    if not M.wanted_by(queue, groups, found[i][1]) then
      local into = redis.call("SREM", keys.history_failed(ns), found[i][1]) == 1 and failed or written
      into[#into + 1] = found[i]
    end
  end
  ledger.of_all(ns, { written = (history.remove(ns, written)), dead_lettered = (history.remove(ns, failed)) })
end

return M
