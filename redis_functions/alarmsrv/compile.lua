-- An alarm definition, checked and compiled to a watcher: a one-leaf condition with delays.
local args = require("lib.args")
local conditions = require("core.conditions")

local M = {}

M.LEVELS = { "Critical", "Major", "Minor", "Warning", "Info" }
M.DETECTORS = { "HiHi", "Hi", "Lo", "LoLo", "State", "Deviation", "Discrepancy", "Quality", "NoData" }

local OPERATOR = {
  HiHi = ">", Hi = ">", Lo = "<", LoLo = "<", State = "==",
  Deviation = "deviation", Discrepancy = "deviation", Quality = "quality", NoData = "no_data",
}
local LEVEL = { Critical = true, Major = true, Minor = true, Warning = true, Info = true }
local NEEDS_ACK = { Critical = true, Major = true, Minor = true }
local KNOWN = {
  id = true, name = true, source = true, detector = true, limit = true, other = true, deadband = true,
  on_delay_ms = true, off_delay_ms = true, latching = true, ack_required = true, level = true, message = true,
  tags = true, guidance = true, enabled = true, version = true, author = true, reason = true, hash = true,
  created_at_ms = true, updated_at_ms = true,
}

local TYPES = {
  name = "string", message = "string", guidance = "string", tags = "table", latching = "boolean", ack_required = "boolean",
  enabled = "boolean", version = "number",
}

local function leaf_value(document)
  local detector = document.detector
  if detector == "Quality" then
    return document.limit or "bad"
  elseif detector == "NoData" then
    return document.limit or 0
  elseif detector == "Deviation" or detector == "Discrepancy" then
    return { source = document.other }
  end
  return document.limit
end

local function check_delay(document, name, problems)
  local value = document[name]
  if value ~= nil and (type(value) ~= "number" or value < 0 or value > 86400000) then
    problems[#problems + 1] = name .. " must be 0 to 86400000"
  end
end

--- Compile a definition. Returns the watcher and every problem found.
function M.compile(document)
  local problems = {}
  for name in pairs(document) do
    if not KNOWN[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, TYPES, "", problems)
  local operator = OPERATOR[document.detector]
  if not operator then
    problems[#problems + 1] = "detector must be one of " .. table.concat(M.DETECTORS, ", ")
    return nil, problems
  end
  if not LEVEL[document.level] then
    problems[#problems + 1] = "level must be one of " .. table.concat(M.LEVELS, ", ")
  end
  check_delay(document, "on_delay_ms", problems)
  check_delay(document, "off_delay_ms", problems)
  if operator == "deviation" and type(document.limit) ~= "number" then
    problems[#problems + 1] = "limit must be a number"
  end
  local leaf = { source = document.source, operator = operator, value = leaf_value(document) }
  if document.deadband ~= nil and document.deadband ~= 0 then
    leaf.hysteresis = document.deadband
  end
  if (document.on_delay_ms or 0) ~= 0 and operator ~= "no_data" then
    leaf.for_ms = document.on_delay_ms
  end
  local root, leaves, found = conditions.compile({ leaf }, "deviation")
  for i = 1, #found do
    -- The tree is ours, so its paths are put into the definition's words; for_ms was checked as on_delay_ms.
    local problem = string.gsub(found[i], "^conditions%[0%]%.", "")
    if string.sub(problem, 1, 6) ~= "for_ms" then
      problems[#problems + 1] = (string.gsub(string.gsub(problem, "^value", "limit"), "^hysteresis", "deadband"))
    end
  end
  table.sort(problems)
  if leaves[1] and operator == "deviation" then
    leaves[1].deviation = document.limit
  end
  local ack = document.ack_required
  if ack == nil then
    ack = NEEDS_ACK[document.level] == true
  end
  local watcher = {
    kind = "alarm", name = document.id, root = root, leaves = leaves, document = document,
    enabled = document.enabled ~= false, priority = 0, ack_required = ack,
    off_ms = (document.off_delay_ms or 0) > 0 and document.off_delay_ms or nil,
  }
  return watcher, problems
end

return M
