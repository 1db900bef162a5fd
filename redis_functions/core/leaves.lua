-- One condition, checked and compiled to a leaf.
local calendar = require("core.calendar")
local sources = require("core.sources")

local M = {}

M.MAX = 256
M.MAX_MS = 31 * 86400000

-- Comparisons have a small number, so that the hot path compares numbers.
M.CODES = { [">"] = 1, [">="] = 2, ["<"] = 3, ["<="] = 4, ["=="] = 5, ["!="] = 6 }
M.OPERATORS = {
  "==", "!=", ">", ">=", "<", "<=", "in", "between", "changed", "rising", "falling", "rate", "quality", "no_data",
}
M.AGGREGATES = { "mean", "min", "max", "count" }

local function set(list)
  local found = {}
  for i = 1, #list do
    found[list[i]] = true
  end
  return found
end

local KNOWN_OPERATOR = set(M.OPERATORS)
local KNOWN_AGGREGATE = set(M.AGGREGATES)
local KNOWN_FIELD = set({
  "source", "operator", "value", "for_ms", "hysteresis", "within_ms", "window_ms", "direction", "aggregate", "when",
  "coverage",
})
local HAS_HYSTERESIS = set({ ">", ">=", "<", "<=", "between", "rate", "deviation" })
M.CHANGES = set({ "changed", "rising", "falling" })
local DIRECTION = set({ "rising", "falling", "both" })
local MAX_TEXT = 256
local OF_TEXTS = set({ "==", "!=", "in", "changed", "quality", "no_data" })
local OF_STATES = set({ "==", "!=", "in", "changed" })
local OF_WHEN = set({ "==", "!=", ">", ">=", "<", "<=" })

local function finite(value)
  return type(value) == "number" and value == value and value ~= math.huge and value ~= -math.huge
end

local function number_list(value, count)
  if type(value) ~= "table" or #value == 0 or (count and #value ~= count) then
    return false
  end
  for i = 1, #value do
    if not finite(value[i]) then
      return false
    end
  end
  return true
end

-- Text points are compared with texts, or with each other.
local function check_text_value(leaf, say)
  local value = leaf.value
  if leaf.operator == "in" then
    for i = 1, type(value) == "table" and #value or 1 do
      if type(value) ~= "table" or type(value[i]) ~= "string" or #value[i] > MAX_TEXT then
        return say("value", "must be a list of texts of at most " .. MAX_TEXT .. " bytes")
      end
    end
    if #value == 0 then
      say("value", "must be a list of texts of at most " .. MAX_TEXT .. " bytes")
    end
  elseif type(value) == "table" then
    if not sources.is_text_reference(value.source) then
      say("value.source", "is no reference of a text")
    end
  elseif type(value) ~= "string" or #value > MAX_TEXT then
    say("value", "must be a text of at most " .. MAX_TEXT .. " bytes")
  end
end

-- A state is one of its words; some words stand for several states.
local function check_state_value(leaf, say)
  local words = sources.WORDS[leaf.state]
  local list = leaf.operator == "in" and leaf.value or { leaf.value }
  leaf.words, leaf.negated, leaf.code = {}, leaf.operator == "!=", nil
  if type(list) ~= "table" or #list == 0 then
    return say("value", "must be a list of " .. sources.NAMES[leaf.state])
  end
  for i = 1, #list do
    local stands = words[list[i]]
    if not stands then
      return say("value", "must be one of " .. sources.NAMES[leaf.state])
    end
    for k = 1, #stands do
      leaf.words[stands[k]] = true
    end
  end
end

local QUALITIES = set({ "good", "bad", "uncertain", "missing" })

local CHECKS = {
  ["in"] = function(leaf, say)
    if not number_list(leaf.value) then
      say("value", "must be a list of numbers")
    end
  end,
  between = function(leaf, say)
    if not number_list(leaf.value, 2) or leaf.value[1] > leaf.value[2] then
      say("value", "must be [low, high]")
    end
  end,
  quality = function(leaf, say)
    local word, reason = string.match(type(leaf.value) == "string" and leaf.value or "", "^(%l+)(.*)$")
    local named = (word == "bad" or word == "uncertain") and string.find(reason, "^:[%l%d_]+$")
    if not word or not QUALITIES[word] or (reason ~= "" and not named) then
      say("value", "must be good, bad, uncertain or missing, or with a reason, as bad:stale")
    end
  end,
  no_data = function(leaf, say)
    if type(leaf.value) ~= "number" or leaf.value < 0 then
      say("value", "must be the milliseconds without data")
    end
  end,
  rate = function(leaf, say)
    if not finite(leaf.value) or leaf.value <= 0 then
      say("value", "must be the change, above 0")
    end
  end,
}

local function check_change(leaf, say)
  if leaf.value ~= nil then
    say("value", "does not go with " .. leaf.operator)
  end
  if leaf.for_ms then
    say("for_ms", "does not go with " .. leaf.operator .. ": a change has no duration; give within_ms")
  end
  leaf.measure = "change"
end

local function check_value(leaf, say)
  local operator, value = leaf.operator, leaf.value
  if M.CHANGES[operator] then
    return check_change(leaf, say)
  elseif leaf.state then
    return check_state_value(leaf, say)
  elseif sources.is_text_reference(leaf.source) and operator ~= "quality" and operator ~= "no_data" then
    return check_text_value(leaf, say)
  elseif CHECKS[operator] and not leaf.ours then
    return CHECKS[operator](leaf, say)
  elseif type(value) == "table" then
    if not sources.is_reference(value.source) then
      say("value.source", "is no reference")
    end
  elseif type(value) == "boolean" then
    leaf.value = value and 1 or 0
  elseif not finite(value) then
    say("value", "must be a finite number")
  end
end

-- A duration, or nil; 0 is none where `low` is 0.
local function check_ms(document, name, low, high, say)
  local value = document[name]
  if value == nil then
    return nil
  elseif type(value) ~= "number" or value < low or value > high or value ~= math.floor(value) then
    say(name, "must be a whole number of milliseconds" .. (low > 0 and " from " .. low or "") .. ", at most "
      .. string.format("%.0f", high / 86400000) .. " days")
    return nil
  end
  return value > 0 and value or nil
end

local function check_options(document, leaf, say)
  leaf.for_ms = leaf.for_ms or check_ms(document, "for_ms", 0, M.MAX_MS, say)
  leaf.within_ms = check_ms(document, "within_ms", 0, M.MAX_MS, say)
  leaf.window_ms = check_ms(document, "window_ms", 1000, M.MAX_MS, say)
  if leaf.within_ms and not M.CHANGES[document.operator] then
    say("within_ms", "goes with changed, rising and falling only")
  end
  if document.direction ~= nil and (document.operator ~= "rate" or not DIRECTION[document.direction]) then
    say("direction", "must be rising, falling or both, and goes with rate only")
  end
  if document.window_ms ~= nil and document.operator ~= "rate" and document.aggregate == nil then
    say("window_ms", "goes with rate and with an aggregate only")
  end
  if document.hysteresis ~= nil and (not finite(document.hysteresis) or document.hysteresis < 0
    or not HAS_HYSTERESIS[document.operator]) then
    say("hysteresis", "must be a number from 0, with >, >=, <, <=, between or rate")
  end
end

-- What is counted, as {operator, value}, and as a text.
local function check_when(when, say)
  if when == nil then
    return nil, ""
  elseif type(when) ~= "table" or not OF_WHEN[when.operator] or not finite(when.value) then
    say("when", "must be {operator, value}: one of ==, !=, >, >=, <, <= and a number")
    return nil, ""
  end
  for name in pairs(when) do
    if name ~= "operator" and name ~= "value" then
      say("when." .. tostring(name), "is unknown")
    end
  end
  return { code = M.CODES[when.operator], value = when.value }, when.operator .. string.format("%.6f", when.value)
end

-- An aggregate over a window is a point of its own, which the operator compares (core/aggregates.lua).
local function check_aggregate(document, leaf, say)
  if document.aggregate == nil then
    for _, name in ipairs({ "when", "coverage" }) do
      if document[name] ~= nil then
        say(name, "goes with an aggregate only")
      end
    end
    return
  end
  if not KNOWN_AGGREGATE[document.aggregate] then
    return say("aggregate", "must be one of " .. table.concat(M.AGGREGATES, ", "))
  end
  if not sources.is_reference(document.source) then
    say("aggregate", "is of numbers only")
  end
  if not M.CODES[document.operator] and document.operator ~= "between" and document.operator ~= "in" then
    say("operator", "of an aggregate must be one of ==, !=, >, >=, <, <=, in, between")
  end
  if document.window_ms == nil then
    say("window_ms", "is missing: an aggregate is over a window")
  end
  if document.when ~= nil and document.aggregate ~= "count" then
    say("when", "goes with count only")
  end
  local when, text = check_when(document.when, say)
  local coverage = document.coverage == nil and 0.5 or document.coverage
  if not finite(coverage) or coverage < 0 or coverage > 1 then
    say("coverage", "must be a share from 0 to 1")
    coverage = 0.5
  end
  local window = string.format("%.0f", leaf.window_ms or 1000) .. ":" .. tostring(document.source) .. (when and "|" .. text or "")
  leaf.special = true
  leaf.aggregate = { of = document.aggregate, window = window, window_ms = leaf.window_ms, when = when, coverage = coverage }
  leaf.watch = document.aggregate .. ":" .. string.format("%.3f", coverage) .. ":" .. window
end

local function check_source(document, leaf, out, say)
  local operator = document.operator
  leaf.state = sources.state_kind(document.source)
  leaf.special = leaf.state and true or nil
  local text = sources.is_text_reference(document.source)
  if not leaf.state and not text and not sources.is_reference(document.source) then
    say("source", cjson.encode(document.source or "") .. " is no reference (service:owner:T|S|C|A:point, comsrv:channel:X:point,"
      .. " alarm:definition, rule:rule, command:channel:A|C:point)")
  end
  if not KNOWN_OPERATOR[operator] and operator ~= out.operator then
    say("operator", "must be one of " .. table.concat(M.OPERATORS, ", "))
    return false
  elseif leaf.state and not OF_STATES[operator] then
    say("operator", "of a state must be ==, !=, in or changed")
    return false
  elseif text and not OF_TEXTS[operator] then
    say("operator", "of a text must be ==, !=, in, changed, quality or no_data")
    return false
  end
  return true
end

-- A window of time is a point of its own: 1 while it is open.
local function compile_time(document, out, say)
  for name in pairs(document) do
    if name ~= "time" then
      say(tostring(name), "does not belong beside time")
    end
  end
  local window = calendar.compile(document.time, say)
  local ref = window and window.ref or "time:"
  if window then
    out.windows = out.windows or {}
    out.windows[ref] = window
  end
  return { source = ref, operator = "==", value = 1, code = 5, special = true, window = window, said = document.time }
end

local function compile_point(document, out, say)
  for name in pairs(document) do
    if not KNOWN_FIELD[name] then
      say(tostring(name), "is unknown")
    end
  end
  local leaf = {
    source = document.source, operator = document.operator, value = document.value,
    code = M.CODES[document.operator], hysteresis = document.hysteresis, ours = document.operator == "rate" and out.operator == "rate",
  }
  local known = check_source(document, leaf, out, say)
  check_options(document, leaf, say)
  if known then
    check_value(leaf, say)
  end
  if document.operator == "no_data" and type(document.value) == "number" then
    leaf.for_ms = document.value > 0 and document.value or nil
  elseif document.operator == "rate" then
    leaf.measure, leaf.window_ms, leaf.direction = "rate", leaf.window_ms or 60000, document.direction or "both"
  end
  check_aggregate(document, leaf, say)
  return leaf
end

--- Compile one condition into out.leaves; what is wrong goes to out.problems, with the path.
function M.compile(document, path, out)
  local function say(field, what)
    out.problems[#out.problems + 1] = path .. "." .. field .. " " .. what
  end
  local leaf = document.time ~= nil and compile_time(document, out, say) or compile_point(document, out, say)
  leaf.path = path
  out.leaves[#out.leaves + 1] = leaf
  leaf.index = #out.leaves
  if #out.leaves == M.MAX + 1 then
    out.problems[#out.problems + 1] = path .. " is past " .. M.MAX .. " conditions"
  end
  return leaf
end

return M
