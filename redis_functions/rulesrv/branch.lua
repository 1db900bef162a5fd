-- Which conditions decided: the smallest part of the tree that makes it true, false or unknown.
local M = {}

local function gather(node, truth_of, wanted, found)
  if node.kind == nil then
    found[#found + 1] = node.path
    return
  elseif node.kind == "not" then
    local below = wanted
    if wanted ~= nil then
      below = not wanted
    end
    return gather(node[1], truth_of, below, found)
  end
  local decisive = node.kind == "any"
  for i = 1, #node do
    if truth_of(node[i]) == wanted then
      gather(node[i], truth_of, wanted, found)
      if wanted == decisive then
        -- One is enough, and the first one is named.
        return
      end
    end
  end
end

-- The truth of a node from the truths of its leaves.
local function truth_of(node, leaf_truth)
  if node.kind == nil then
    return leaf_truth(node)
  elseif node.kind == "not" then
    local below = truth_of(node[1], leaf_truth)
    if below == nil then
      return nil
    end
    return not below
  end
  local decisive, unknown = node.kind == "any", false
  for i = 1, #node do
    local truth = truth_of(node[i], leaf_truth)
    if truth == decisive then
      return decisive
    end
    unknown = unknown or truth == nil
  end
  if unknown then
    return nil
  end
  return not decisive
end
M.truth = truth_of

--- The paths of the conditions that decided, from the truths of the leaves.
function M.decided(root, leaf_truth)
  local found = {}
  local function of_node(node)
    return truth_of(node, leaf_truth)
  end
  gather(root, of_node, of_node(root), found)
  return found
end

--- The paths of the conditions that decided, in the order of the document. `peek(leaf, last_good)` says what a leaf
-- says that was not evaluated since its rule was read.
function M.paths(watcher, peek)
  if watcher.only then
    return { watcher.only.path }
  end
  return M.decided(watcher.root, function(leaf)
    if watcher.unseen then
      return peek(leaf, watcher.last_good, nil)
    end
    return leaf.truth
  end)
end

return M
