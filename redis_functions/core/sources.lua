-- What a condition may look at: points, texts, and states of alarms, rules and commands.
local M = {}

-- What is no service: the first word of states and windows of time.
M.OWN = { alarm = true, rule = true, command = true, time = true }

--- True when a text is the reference of a point.
function M.is_reference(text)
  if type(text) ~= "string" then
    return false
  end
  local service, owner, _, point = string.match(text, "^([%w_%-]+):([%w_%-]+):([TSCA]):([1-9]%d*)$")
  if service then
    if M.OWN[service] then
      return false
    end
    return service ~= "comsrv" or (string.find(owner, "^[1-9]%d*$") ~= nil and #point <= 9)
  end
  return string.find(text, "^modsrv:[%w_%-]+:[%w_%-]+$") ~= nil
end

--- True when a text is the reference of a text point.
function M.is_text_reference(text)
  return type(text) == "string" and string.find(text, "^comsrv:[1-9]%d*:X:[1-9]%d*$") ~= nil
    and #string.match(text, "%d*$") <= 9
end

--- What a state is of: "alarm" (alarm:{definition}, rule:{rule}#{action}), "rule" (rule:{rule}) or
-- "command" (command:{channel}:{A|C}:{point}: the newest command of the point); nil for anything else.
function M.state_kind(text)
  if type(text) ~= "string" or #text > 96 then
    return nil
  elseif string.find(text, "^alarm:[%w_%-]+$") or string.find(text, "^rule:[%w_%-]+#[1-9]%d?$") then
    return "alarm"
  elseif string.find(text, "^rule:[%w_%-]+$") then
    return "rule"
  end
  return string.find(text, "^command:[1-9]%d*:[AC]:[1-9]%d*$") and "command" or nil
end

--- The words of each kind of state; a few stand for several states.
M.WORDS = {
  alarm = {
    Normal = { "Normal" }, New = { "New" }, Acknowledged = { "Acknowledged" }, Returned = { "Returned" },
    active = { "New", "Acknowledged" }, unacknowledged = { "New", "Returned" },
  },
  rule = { off = { "off" }, idle = { "idle" }, active = { "active" } },
  command = {
    none = { "none" }, queued = { "queued" }, sent = { "sent" }, acknowledged = { "acknowledged" },
    verified = { "verified" }, rejected = { "rejected" }, failed = { "failed" }, mismatch = { "mismatch" },
    expired = { "expired" }, superseded = { "superseded" }, pending = { "queued", "sent" },
  },
}
M.NAMES = {
  alarm = "Normal, New, Acknowledged, Returned, active, unacknowledged", rule = "off, idle, active",
  command = "none, queued, sent, pending, acknowledged, verified, rejected, failed, mismatch, expired, superseded",
}

return M
