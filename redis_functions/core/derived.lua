-- Points that come of others: those of models, which are other names of a channel's, and calculated ones.
local keys = require("lib.keys")
local slots = require("core.slots")
local specials = require("core.specials")
local wiring = require("core.wiring")

local M = {}

local function add_target(graph, model, name, ref, action)
  local service, owner, kind, id = string.match(ref, "^([%w_%-]+):([%w_%-]+):([TSCA]):(%d+)$")
  local slot = slots.slot(graph, service .. ":" .. owner, kind, id)
  slot.targets = slot.targets or {}
  local member = '"' .. name .. '":'
  table.insert(slot.targets, { model = model, name = name, json = member, json_next = "," .. member, action = action })
  return slot
end

--- Put a model in: its names become other names of the points they are mapped to. M.rewire follows.
-- `expansion` is { data = { name = ref }, action = { name = ref } }.
function M.put_model(graph, model, expansion)
  M.drop_model(graph, model)
  local names = {}
  graph.models[model] = names
  for name, ref in pairs(expansion.data or {}) do
    names[name] = add_target(graph, model, name, ref, false)
  end
  for name, ref in pairs(expansion.action or {}) do
    names[name] = add_target(graph, model, name, ref, true)
  end
  specials.load_fresh(graph)
end

--- Take a model's names away from their points.
function M.drop_model(graph, model)
  local names = graph.models[model]
  if not names then
    return
  end
  graph.models[model] = nil
  for _, slot in pairs(names) do
    -- Two names may mean one point: its targets may be gone by the second.
    local targets = slot.targets or {}
    for i = #targets, 1, -1 do
      if targets[i].model == model then
        table.remove(targets, i)
      end
    end
    if #targets == 0 then
      slot.targets = nil
    end
  end
end

local function stored_programs(ns, ch)
  local found = redis.call("HGETALL", keys.programs(ns, ch))
  local programs = {}
  for i = 1, #found, 2 do
    programs[found[i]] = cjson.decode(found[i + 1])
  end
  return programs
end

local function reads_one(calc, models)
  for ref in string.gmatch(calc.refs, "%S+") do
    if models[string.match(ref, "^modsrv:([^:]+):") or ""] then
      return true
    end
  end
  return false
end

--- Put the calculated points of a channel in; `programs` is { ["T:5"] = program }, without it what is stored.
function M.put_programs(graph, ch, programs)
  local owner = "comsrv:" .. ch
  for _, calc in pairs(graph.calcs[owner] or {}) do
    for i = 1, #calc.inputs do
      local calcs = calc.inputs[i].calcs or {}
      for j = #calcs, 1, -1 do
        if calcs[j] == calc then
          table.remove(calcs, j)
        end
      end
    end
  end
  graph.calcs[owner] = {}
  for point, program in pairs(programs or stored_programs(graph.ns, ch)) do
    local kind, id = string.match(point, "^([TS]):(%d+)$")
    local calc = { slot = slots.slot(graph, owner, kind, id), program = {}, inputs = {}, ch = ch, refs = "" }
    for i = 1, #program do
      calc.program[i] = program[i]
      if program[i][1] == "ref" then
        local input = slots.resolve(graph, program[i][2])
        calc.inputs[#calc.inputs + 1] = input
        calc.program[i] = { "ref", #calc.inputs }
        calc.refs = calc.refs .. " " .. program[i][2]
        input.calcs = input.calcs or {}
        table.insert(input.calcs, calc)
      end
    end
    graph.calcs[owner][point] = calc
  end
  specials.load_fresh(graph)
end

--- Point what names the points of `models` ({ [id] = true }) at what they mean now.
-- Returns the watchers concerned in the order of their ids, and the channels whose points are calculated anew.
function M.rewire(graph, models)
  local watchers, channels, seen = {}, {}, {}
  for model in pairs(models) do
    for id, watcher in pairs(graph.named[model] or {}) do
      if not seen[id] then
        seen[id] = true
        wiring.rewire(graph, watcher)
        if watcher.enabled then
          watchers[#watchers + 1] = watcher
        end
      end
    end
  end
  table.sort(watchers, function(a, b) return a.id < b.id end)
  for _, calcs in pairs(graph.calcs) do
    for _, calc in pairs(calcs) do
      if reads_one(calc, models) then
        channels[#channels + 1] = calc.ch
        break
      end
    end
  end
  for i = 1, #channels do
    M.put_programs(graph, channels[i])
  end
  specials.load_fresh(graph)
  return watchers, channels
end

return M
