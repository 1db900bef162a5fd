-- What a rule does when it fires and when its condition ends, and the record of it.
local alarms = require("alarmsrv.alarms")
local conflicts = require("rulesrv.conflicts")
local effects = require("rulesrv.effects")
local json = require("lib.json")
local keys = require("lib.keys")
local numbers = require("lib.numbers")
local streams = require("lib.streams")

local M = {}

-- Ids and words of ours need no escaping; a rule fires in the middle of an ingest, so this is short.
local function record(ctx, watcher, item, what, outcomes)
  local at = numbers.whole(item.at)
  local known = watcher.known
  if not known then
    local version = watcher.document.version
    known = { name = json.text(watcher.document.name), version = version and string.format("%.0f", version) or "" }
    watcher.known = known
  end
  streams.append(
    ctx.ns, keys.firings(ctx.ns), "rule", watcher.name, "event", what, "at_ms", at, "seq", ctx.image,
    "version", known.version, "inputs", item.inputs, "branch", item.branch or "[]", "actions", outcomes
  )
  redis.call(
    "PUBLISH", keys.triggered(ctx.ns),
    '{"rule":"' .. watcher.name .. '","name":' .. known.name .. ',"event":"' .. what
      .. '","at_ms":' .. at .. ',"seq":' .. ctx.image .. ',"inputs":' .. item.inputs .. ',"branch":' .. (item.branch or "[]")
      .. ',"actions":' .. outcomes .. "}"
  )
end

--- Carry out a rule's actions and record the firing with what each came to.
-- An item that is `stopped` (a cascade too deep) only says so.
function M.fire(ctx, watcher, item)
  local outcomes = {}
  for i, action in ipairs(watcher.document.actions or {}) do
    if item.stopped then
      outcomes[i] = json.object({ "type", json.text(action.type), "problem", json.text(item.stopped) })
    else
      outcomes[i] = effects.carry_out(ctx, watcher, i, item)
    end
  end
  local text = json.list(outcomes)
  record(ctx, watcher, item, "fired", text)
  return text
end

--- Mark the alarms of a rule or a definition uncertain while its condition is unknown.
function M.mark_uncertain(ctx, watcher, uncertain, at)
  if watcher.kind == "alarm" then
    alarms.mark_uncertain(ctx, watcher.id, uncertain, at)
    return
  elseif watcher.kind == "suppress" then
    return
  end
  for i, action in ipairs(watcher.document.actions or {}) do
    if action.type == "create_alarm" then
      alarms.mark_uncertain(ctx, effects.origin(watcher, i), uncertain, at)
    end
  end
end

--- The condition ended: the alarms the rule raised return, and what it commanded is another rule's to command again.
-- `item_of(watcher, at)` gives the moment as another rule sees it.
function M.clear(ctx, watcher, item, item_of)
  for i, action in ipairs(watcher.document.actions or {}) do
    if action.type == "create_alarm" then
      alarms.condition_ended(ctx, effects.origin(watcher, i), item.at, item)
    end
  end
  record(ctx, watcher, item, "cleared", "[]")
  if item.stopped or not watcher.commands then
    return
  end
  local order, heirs = conflicts.heirs(ctx, watcher)
  for i = 1, #order do
    local heir, outcomes = order[i], {}
    local its = item_of(heir, item.at)
    for _, index in ipairs(heirs[heir]) do
      outcomes[#outcomes + 1] = effects.carry_out(ctx, heir, index, its)
    end
    record(ctx, heir, its, "resumed", json.list(outcomes))
  end
end

return M
