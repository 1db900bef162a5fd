-- An alarm definition, checked and compiled to a watcher: a one-leaf condition with delays, and, where the
-- definition says when it is suppressed, a second watcher for that.
local args = require("lib.args")
local conditions = require("core.conditions")
local numbers = require("lib.numbers")
local templates = require("alarmsrv.templates")

local M = {}

M.LEVELS = { "Critical", "Major", "Minor", "Warning", "Info" }
M.DETECTORS = {
  "HiHi", "Hi", "Lo", "LoLo", "State", "Deviation", "Rate", "Discrepancy", "Stuck", "NoData", "Quality",
}
M.MAX_MS = 86400000
-- How long a point may be without data or without a change, at most.
local MAX_QUIET_MS = 31 * M.MAX_MS
M.MAX_TAGS, M.MAX_TAG = 100, 320

local OPERATOR = {
  HiHi = ">", Hi = ">", Lo = "<", LoLo = "<", State = "==", Rate = "rate", Stuck = "stuck",
  Deviation = "deviation", Discrepancy = "deviation", Quality = "quality", NoData = "no_data",
}
-- The place of a limit among those of a point: a lower one may not be above a higher one.
M.RANK = { LoLo = 1, Lo = 2, Hi = 3, HiHi = 4 }
-- OPC UA's severity, 1 to 1000, where a definition says none.
M.PRIORITY = { Critical = 900, Major = 700, Minor = 500, Warning = 300, Info = 100 }
M.NEEDS_ACK = { Critical = true, Major = true, Minor = true }
local HAS_BAND = { HiHi = true, Hi = true, Lo = true, LoLo = true, Deviation = true, Discrepancy = true, Rate = true }
local DIRECTION = { rising = true, falling = true, both = true }
local FIELD_OF = { other = { Deviation = true, Discrepancy = true }, window_ms = { Rate = true }, direction = { Rate = true } }
-- Before every rule: an alarm is raised suppressed, not suppressed after it was raised.
local SUPPRESSION_FIRST = 2000000

local KNOWN = {
  id = true, name = true, source = true, detector = true, limit = true, other = true, window_ms = true, direction = true,
  deadband = true, deadband_percent = true, on_delay_ms = true, off_delay_ms = true, latching = true,
  ack_required = true, level = true, priority = true, message = true, tags = true, area = true, equipment = true,
  group = true, set = true, suppress_when = true, suppresses = true, realarm_ms = true, max_shelve_ms = true,
  guidance = true, enabled = true, version = true, author = true, reason = true, hash = true,
  requires_approval = true, created_at_ms = true, updated_at_ms = true,
}

local TYPES = {
  latching = "boolean", ack_required = "boolean",
  enabled = "boolean", version = "number", suppress_when = "table", suppresses = "table",
}

local LIMITS = {
  name = { 0, 256, "text" }, message = { 0, templates.MAX_TITLE, "text" }, area = { 0, 64, "text" },
  on_delay_ms = { 0, M.MAX_MS }, off_delay_ms = { 0, M.MAX_MS }, realarm_ms = { 1000, 31 * M.MAX_MS },
  max_shelve_ms = { 0, M.MAX_MS }, priority = { 1, 1000 }, window_ms = { 100, M.MAX_MS },
}

local GUIDANCE = { cause = true, consequence = true, action = true, time_to_respond_ms = true }

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

local function check_guidance(guidance, problems)
  if guidance == nil or type(guidance) == "string" then
    return
  elseif type(guidance) ~= "table" then
    problems[#problems + 1] = "guidance must be an object of cause, consequence, action, time_to_respond_ms"
    return
  end
  for name, value in pairs(guidance) do
    if not GUIDANCE[name] then
      problems[#problems + 1] = "guidance." .. tostring(name) .. " is unknown"
    elseif name == "time_to_respond_ms" then
      if type(value) ~= "number" or value < 0 or value ~= math.floor(value) then
        problems[#problems + 1] = "guidance.time_to_respond_ms must be a whole number of milliseconds"
      end
    elseif type(value) ~= "string" or #value > 2048 then
      problems[#problems + 1] = "guidance." .. name .. " must be a text of at most 2048 bytes"
    end
  end
end

--- Note what is wrong with an alarm's tags, or those that a route wants.
function M.check_tags(tags, problems)
  if type(tags) ~= "table" or (next(tags) ~= nil and #tags == 0) then
    problems[#problems + 1] = "tags must be a list of texts"
    return
  elseif #tags > M.MAX_TAGS then
    problems[#problems + 1] = "tags has " .. #tags .. " items, at most " .. M.MAX_TAGS .. " are taken"
  end
  for i = 1, math.min(#tags, M.MAX_TAGS) do
    if type(tags[i]) ~= "string" or #tags[i] > M.MAX_TAG then
      problems[#problems + 1] = "tags[" .. (i - 1) .. "] must be a text of at most " .. M.MAX_TAG .. " bytes"
    end
  end
end

--- True for a name that alarms can be suppressed by (alarmsrv/marks.lua).
function M.is_name(text)
  if type(text) ~= "string" then
    return false
  end
  local kind, rest = string.match(text, "^(%l+):(.*)$")
  if kind == "alarm" or kind == "group" or kind == "equipment" then
    return args.valid_id(rest)
  elseif kind == "rule" then
    return string.find(rest, "^[%w_%-]+#%d+$") ~= nil
  end
  return kind == "comsrv" and (string.find(rest, "^[1-9]%d*$") ~= nil or string.find(rest, "^[1-9]%d*:unit:[%w_%-]+$") ~= nil)
end

local function check_suppresses(document, problems)
  local list = document.suppresses
  if type(list) ~= "table" then
    return
  end
  if #list > 32 or (next(list) ~= nil and #list == 0) then
    problems[#problems + 1] = "suppresses must be a list of at most 32 names"
    return
  end
  for i = 1, #list do
    if not M.is_name(list[i]) then
      problems[#problems + 1] = "suppresses[" .. (i - 1) .. "] must be alarm:{definition}, group:{group}, equipment:{equipment}, "
        .. "comsrv:{channel} or comsrv:{channel}:unit:{unit}"
    elseif list[i] == "alarm:" .. tostring(document.id) then
      problems[#problems + 1] = "suppresses[" .. (i - 1) .. "] is the definition itself"
    end
  end
end

local function check_event(document, problems)
  if document.level ~= "Info" then
    return
  end
  for _, name in ipairs({ "ack_required", "latching", "realarm_ms", "max_shelve_ms" }) do
    if document[name] and document[name] ~= 0 then
      problems[#problems + 1] = name .. " does not go with level Info: it is an event, and asks for nothing"
    end
  end
end

local function check_common(document, problems)
  for name in pairs(document) do
    if not KNOWN[name] then
      problems[#problems + 1] = tostring(name) .. " is unknown"
    end
  end
  args.check_types(document, TYPES, "", problems)
  if not M.PRIORITY[document.level] then
    problems[#problems + 1] = "level must be one of " .. table.concat(M.LEVELS, ", ")
  end
  args.check_limits(document, LIMITS, "", problems)
  for _, name in ipairs({ "group", "equipment", "set" }) do
    if document[name] ~= nil and not args.valid_id(document[name]) then
      problems[#problems + 1] = name .. " must match [A-Za-z0-9_-], 1 to 64 characters"
    end
  end
  if document.tags ~= nil then
    M.check_tags(document.tags, problems)
  end
  check_guidance(document.guidance, problems)
  check_suppresses(document, problems)
  check_event(document, problems)
end

-- A limit that no value passes, or no point is quiet for, is a slip.
local function check_reach(document, problems)
  local detector, limit = document.detector, document.limit
  for _, name in ipairs({ "limit", "deadband" }) do
    local value = document[name]
    if type(value) == "number" and not numbers.finite(value) then
      problems[#problems + 1] = name .. " must be a number from -2^53 to 2^53: no value is beyond"
    end
  end
  if (detector == "NoData" or detector == "Stuck") and type(limit) == "number" and limit > 0
    and (limit ~= math.floor(limit) or limit > MAX_QUIET_MS) then
    problems[#problems + 1] = "limit must be a whole number of milliseconds, at most 31 days"
  end
  if document.other ~= nil and document.other == document.source then
    problems[#problems + 1] = "other is the source itself"
  end
end

-- What belongs to some detectors only.
local function check_detector(document, problems)
  local detector, limit = document.detector, document.limit
  for name, detectors in pairs(FIELD_OF) do
    if document[name] ~= nil and not detectors[detector] then
      problems[#problems + 1] = name .. " does not go with detector " .. detector
    end
  end
  if detector == "Deviation" or detector == "Discrepancy" then
    if not (detector == "Discrepancy" and limit == nil) and (type(limit) ~= "number" or limit < 0) then
      problems[#problems + 1] = "limit must be a number from 0"
    end
  elseif (detector == "Rate" or detector == "Stuck") and (type(limit) ~= "number" or limit <= 0) then
    problems[#problems + 1] = "limit must be "
      .. (detector == "Rate" and "the change" or "the milliseconds without a change") .. ", above 0"
  end
  if document.direction ~= nil and not DIRECTION[document.direction] then
    problems[#problems + 1] = "direction must be rising, falling or both"
  end
  check_reach(document, problems)
end

-- The deadband in the unit of the value, nil for none.
local function band_of(document, problems)
  local band, percent = document.deadband, document.deadband_percent
  if percent ~= nil then
    if band ~= nil then
      problems[#problems + 1] = "deadband_percent does not go beside deadband"
    elseif type(percent) ~= "number" or percent < 0 or percent > 100 then
      problems[#problems + 1] = "deadband_percent must be 0 to 100"
    elseif type(document.limit) ~= "number" or document.limit == 0 then
      problems[#problems + 1] = "deadband_percent is of the limit, which must be a number other than 0"
    else
      band = math.abs(document.limit) * percent / 100
    end
  end
  if band == nil or band == 0 then
    return nil
  end
  if not HAS_BAND[document.detector] then
    problems[#problems + 1] = "deadband does not go with detector " .. tostring(document.detector)
    return nil
  end
  return band
end

-- The tree is ours, so its paths are put into the definition's words; for_ms was checked as on_delay_ms.
local function translate(found, problems)
  for i = 1, #found do
    local problem = string.gsub(found[i], "^conditions%[0%]%.", "")
    if string.sub(problem, 1, 6) ~= "for_ms" then
      problem = string.gsub(problem, "^value%.source", "other")
      problems[#problems + 1] = (string.gsub(string.gsub(problem, "^value", "limit"), "^hysteresis", "deadband"))
    end
  end
end

local function compile_leaf(document, problems)
  local operator = OPERATOR[document.detector]
  local leaf = { source = document.source, operator = operator, value = leaf_value(document) }
  leaf.hysteresis = band_of(document, problems)
  if (document.on_delay_ms or 0) ~= 0 and operator ~= "no_data" then
    leaf.for_ms = document.on_delay_ms
  end
  local root, leaves, found = conditions.compile({ leaf }, operator)
  translate(found, problems)
  local compiled = leaves[1]
  if compiled and operator == "deviation" then
    compiled.deviation = document.limit or 0
    -- A new command has the whole time to be followed.
    compiled.restarts = document.detector == "Discrepancy"
  elseif compiled and (operator == "rate" or operator == "stuck") then
    compiled.measure = operator
    compiled.window_ms, compiled.direction = document.window_ms or 60000, document.direction or "both"
  end
  return root, leaves
end

local function suppression(document, problems)
  if type(document.suppress_when) ~= "table" then
    return nil
  end
  local root, leaves, found = conditions.compile(document.suppress_when)
  for i = 1, #found do
    problems[#problems + 1] = (string.gsub(found[i], "^conditions", "suppress_when"))
  end
  return {
    kind = "suppress", name = document.id, root = root, leaves = leaves, document = document,
    enabled = document.enabled ~= false, priority = SUPPRESSION_FIRST,
  }
end

-- What a transition writes of the definition, ready as texts.
local function kept_of(document)
  return {
    level = document.level, source = document.source, group = document.group, area = document.area,
    equipment = document.equipment, version = document.version and string.format("%.0f", document.version),
    tags = document.tags and next(document.tags) and cjson.encode(document.tags) or nil,
    priority = string.format("%.0f", document.priority or M.PRIORITY[document.level]),
    realarm_ms = document.realarm_ms and string.format("%.0f", document.realarm_ms),
  }
end

--- Compile a definition. Returns the watcher and every problem found.
function M.compile(document)
  local problems = {}
  check_common(document, problems)
  local root, leaves
  if OPERATOR[document.detector] then
    check_detector(document, problems)
    root, leaves = compile_leaf(document, problems)
  else
    problems[#problems + 1] = "detector " .. cjson.encode(document.detector or "") .. " is unknown; there are "
      .. table.concat(M.DETECTORS, ", ")
  end
  local also = suppression(document, problems)
  local template = templates.compile(document.message, "message", problems)
  if #problems > 0 then
    table.sort(problems)
    return nil, problems
  end
  if not document.message and not document.name and M.RANK[document.detector] then
    template = templates.of_limit(document)
  end
  local ack = document.ack_required
  if ack == nil then
    ack = M.NEEDS_ACK[document.level] == true
  end
  local kept = kept_of(document)
  return {
    kind = "alarm", name = document.id, root = root, leaves = leaves, document = document, kept = kept, also = also,
    -- After the rules of the same priority: a command does not wait behind alarms.
    enabled = document.enabled ~= false, priority = tonumber(kept.priority) / 10000 - 1, ack_required = ack,
    off_ms = (document.off_delay_ms or 0) > 0 and document.off_delay_ms or nil, template = template,
    title = document.message or document.name or (document.detector .. " " .. document.source),
  }, problems
end

return M
