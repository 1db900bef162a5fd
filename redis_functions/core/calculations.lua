-- Points that are made here: calculated from others, or marked; written, published and queued like polled ones.
local expression = require("core.expression")
local history = require("core.history")
local json = require("lib.json")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local publish = require("core.publish")

local M = {}

-- A circle of calculated points would never settle.
local MAX_CALCULATIONS = 2000

local function calculate(calc)
  return expression.evaluate(calc.program, function(i)
    local input = calc.inputs[i]
    if input.quality then
      return nil
    end
    return input.value
  end)
end

local function note_calculated(ctx, calc)
  local section = ctx.calculated[calc.ch]
  if not section then
    section = { T = { ids = {}, values = {}, quality = {} }, S = { ids = {}, values = {}, quality = {} } }
    ctx.calculated[calc.ch] = section
  end
  local slot = calc.slot
  local kind = section[slot.kind]
  if slot.quality then
    kind.quality[slot.id] = slot.quality
  else
    kind.ids[#kind.ids + 1] = slot.id
    kind.values[#kind.values + 1] = slot.text
  end
end

-- A channel that nobody holds stays stale, whatever its inputs do; a claim calculates it anew.
local function rests(ctx, calc)
  return calc.slot.quality == "bad:stale" and redis.call("HGET", keys.status(ctx.ns, calc.ch), "leased") ~= "1"
end

--- Calculate what follows from the slots in ctx.touched; M.store writes it.
function M.run(ctx, at)
  local position, done = 1, 0
  while position <= #ctx.touched do
    local calcs = ctx.touched[position].calcs
    position = position + 1
    for i = 1, calcs and #calcs or 0 do
      local calc = calcs[i]
      local value, reason = calculate(calc)
      local text = value and numbers.format(value)
      local quality = not value and ("bad:" .. reason) or nil
      local slot = calc.slot
      done = done + 1
      local differs = quality ~= slot.quality or (text and text ~= slot.text)
      if differs and done <= MAX_CALCULATIONS and not rests(ctx, calc) then
        slot.quality = quality
        if text then
          slot.value, slot.text = tonumber(text), text
        end
        slot.at = at
        note_calculated(ctx, calc)
        ctx.touched[#ctx.touched + 1] = slot
      end
    end
  end
end

--- Calculate all of a channel's points again: its definition or its lease is new.
function M.recalculate(ctx, ch)
  for _, calc in pairs(ctx.graph.calcs["comsrv:" .. ch] or {}) do
    -- One without an input is reached as its own.
    ctx.touched[#ctx.touched + 1] = calc.inputs[1] or { calcs = { calc } }
  end
end

local function store_section(ctx, ch, kind, section, at)
  local at_text = string.format("%.0f", at)
  local base = "comsrv:" .. ch .. ":" .. (kind == "X" and "text" or kind)
  local values, instants = {}, {}
  for i = 1, #section.ids do
    values[2 * i - 1], values[2 * i] = section.ids[i], section.values[i]
    instants[2 * i - 1], instants[2 * i] = section.ids[i], at_text
  end
  if #values > 0 then
    redis.call("HSET", ctx.ns .. base, unpack(values))
    redis.call("HSET", ctx.ns .. base .. ":ts", unpack(instants))
    redis.call("HDEL", ctx.ns .. base .. ":q", unpack(section.ids))
  end
  for id, quality in pairs(section.quality) do
    redis.call("HSET", ctx.ns .. base .. ":q", id, quality)
    redis.call("HSET", ctx.ns .. base .. ":ts", id, at_text)
  end
end

local function section_json(kind, section)
  return '{"type":"' .. kind .. '","ids":' .. (#section.ids > 0 and cjson.encode(section.ids) or "[]")
    .. ',"values":' .. (#section.values > 0 and cjson.encode(section.values) or "[]")
    .. ',"quality":' .. cjson.encode(section.quality) .. "}"
end

-- A value together with its quality is one sample.
local function count_samples(section)
  local valued, samples = {}, #section.ids
  for i = 1, #section.ids do
    valued[section.ids[i]] = true
  end
  for id in pairs(section.quality) do
    samples = samples + (valued[id] and 0 or 1)
  end
  return samples
end

--- Write, publish and queue sections that were made here (calculated points, staleness).
function M.store_sections(ctx, ch, sections, at)
  local parts, samples = {}, 0
  for _, kind in ipairs({ "T", "S", "C", "A", "X" }) do
    local section = sections[kind]
    if section and (#section.ids > 0 or next(section.quality)) then
      store_section(ctx, ch, kind, section, at)
      local shown = kind == "X" and json.texts(section.values) or section.values
      publish.channel(ctx, ch, kind, at, publish.members(section.ids, shown, section.quality))
      if kind == "T" or kind == "S" then
        samples = samples + count_samples(section)
        parts[#parts + 1] = section_json(kind, section)
      end
    end
  end
  if samples > 0 then
    local document = '{"channel":' .. ch .. ',"origin":"event","at_ms":' .. string.format("%.0f", at) .. ',"sections":['
      .. table.concat(parts, ",") .. "]}"
    history.append(ctx, ch, { { document, samples } })
  end
end

--- Write what M.run gathered.
function M.store(ctx, at)
  for ch, sections in pairs(ctx.calculated) do
    M.store_sections(ctx, ch, sections, at)
  end
  ctx.calculated = {}
end

return M
