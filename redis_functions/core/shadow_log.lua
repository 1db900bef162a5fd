-- What a shadow and the active one beside it did, in one stream, so that they can be compared.
local effects = require("rulesrv.effects")
local json = require("lib.json")
local keys = require("lib.keys")
local templates = require("alarmsrv.templates")

local M = {}

M.KEPT = 5000

local function text_of(on)
  return on and "1" or "0"
end

-- `on` is how the one that the entry is about stands now; the other stands as it does.
local function append(ctx, shadow, who, event, on, item)
  local graph = ctx.graph
  local key = keys.shadow_log(ctx.ns, shadow.of_kind, shadow.of)
  local active = graph.watchers[shadow.beside]
  local version = active and active.document.version
  redis.call(
    "XADD", key, "*", "who", who, "event", event, "at_ms", string.format("%.0f", item.at),
    "active", text_of(who == "active" and on or (who ~= "active" and active and active.active)),
    "shadow", text_of(who == "shadow" and on or (who ~= "shadow" and shadow.active)),
    "version", version and string.format("%.0f", version) or "", "inputs", item.inputs, "would", item.would or "[]"
  )
  if redis.call("XLEN", key) > M.KEPT then
    redis.call("XTRIM", key, "MAXLEN", M.KEPT)
  end
end

--- Note how the active one stands when a comparison begins.
function M.began(ctx, shadow, at)
  append(ctx, shadow, "shadow", "began", false, { at = at, inputs = "[]" })
end

local function would_of(ctx, watcher, item)
  if (watcher.of_kind or watcher.kind) == "rule" then
    local outcomes = {}
    for i = 1, #(watcher.document.actions or {}) do
      outcomes[i] = effects.rehearse(ctx, watcher, i, item)
    end
    return json.list(outcomes)
  end
  local title = templates.render(ctx, watcher, item)
  return json.list({ json.object({
    "type", '"alarm"', "would", json.text("raise " .. watcher.document.level .. ": " .. title),
  }) })
end

--- Note a transition of a shadow, or of what has one. `item` is { on, at, inputs, text, quality, good }.
function M.note(ctx, watcher, item)
  local event = item.on and "on" or "off"
  item.would = item.on and would_of(ctx, watcher, item) or nil
  if watcher.kind == "shadow" then
    append(ctx, watcher, "shadow", event, item.on, item)
  else
    append(ctx, ctx.graph.shadowed[watcher.id], "active", event, item.on, item)
  end
end

return M
