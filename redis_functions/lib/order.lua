-- Order where it shows: that of `pairs` is arbitrary.
local M = {}

--- The names in a table, sorted.
function M.names(map)
  local found = {}
  for name in pairs(map) do
    found[#found + 1] = name
  end
  table.sort(found)
  return found
end

return M
