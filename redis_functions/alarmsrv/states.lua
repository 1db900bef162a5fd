-- The states of an alarm and every way from one to another: one table, that the code follows and the
-- documentation is made of (docs/alarms.md). What is in no row is refused with STATE.
--
-- A row is { from, event, when, to, journal, why }. Of the rows of a state and an event the first whose
-- `when` holds counts; a row without `to` refuses, with `why`; one without `journal` changes nothing.
local M = {}

-- Its life. Normal: no alarm is open. `begin` and `end` are those of the condition.
M.LIFE = {
  { "Normal", "begin", nil, "New", "raised" },
  { "New", "begin", nil, "New", "recurred" },
  { "New", "end", "latching", "Returned latched", "latched" },
  { "New", "end", "ack_required", "Returned", "returned" },
  { "New", "end", nil, "Resolved", "resolved" },
  { "New", "acknowledge", "event", nil, nil, "an Info is an event: nobody acknowledges it" },
  { "New", "acknowledge", nil, "Acknowledged", "acknowledged" },
  { "New", "resolve", "stands", nil, nil, "its condition stands" },
  { "New", "resolve", nil, "Resolved", "resolved" },
  { "New", "realarm", nil, "New", "realarmed" },
  { "Acknowledged", "begin", nil, "Acknowledged", "recurred" },
  { "Acknowledged", "end", "latching", "Acknowledged latched", "latched" },
  { "Acknowledged", "end", nil, "Resolved", "resolved" },
  { "Acknowledged", "acknowledge", nil, "Acknowledged" },
  { "Acknowledged", "resolve", "stands", nil, nil, "its condition stands" },
  { "Acknowledged", "resolve", nil, "Resolved", "resolved" },
  { "Acknowledged", "realarm", nil, "New", "realarmed" },
  { "Returned", "begin", nil, "New", "recurred" },
  { "Returned", "end", nil, "Returned" },
  { "Returned", "acknowledge", nil, "Resolved", "acknowledged" },
  { "Returned", "resolve", nil, "Resolved", "resolved" },
  { "Returned latched", "begin", nil, "New", "recurred" },
  { "Returned latched", "end", nil, "Returned latched" },
  { "Returned latched", "acknowledge", nil, "Acknowledged latched", "acknowledged" },
  { "Returned latched", "resolve", nil, "Resolved", "resolved" },
  { "Acknowledged latched", "begin", nil, "New", "recurred" },
  { "Acknowledged latched", "end", nil, "Acknowledged latched" },
  { "Acknowledged latched", "acknowledge", nil, "Acknowledged latched" },
  { "Acknowledged latched", "resolve", nil, "Resolved", "resolved" },
  { "Resolved", "resolve", nil, "Resolved" },
}

-- Shelved by an operator: for a time, or one shot, until the condition ends. Both have a maximum.
M.SHELVING = {
  { "unshelved", "shelve", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "unshelved", "shelve", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "unshelved", "shelve", nil, "timed", "shelved" },
  { "unshelved", "shelve_once", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "unshelved", "shelve_once", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "unshelved", "shelve_once", "ended", nil, nil, "its condition has ended" },
  { "unshelved", "shelve_once", nil, "one_shot", "shelved" },
  { "unshelved", "unshelve", nil, "unshelved" },
  { "timed", "shelve", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "timed", "shelve", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "timed", "shelve", nil, "timed", "shelved" },
  { "timed", "shelve_once", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "timed", "shelve_once", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "timed", "shelve_once", "ended", nil, nil, "its condition has ended" },
  { "timed", "shelve_once", nil, "one_shot", "shelved" },
  { "timed", "unshelve", nil, "unshelved", "unshelved" },
  { "timed", "expire", nil, "unshelved", "unshelved" },
  { "one_shot", "shelve", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "one_shot", "shelve", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "one_shot", "shelve", nil, "timed", "shelved" },
  { "one_shot", "shelve_once", "event", nil, nil, "an Info is an event: nobody shelves it" },
  { "one_shot", "shelve_once", "unshelvable", nil, nil, "its definition does not let it be shelved" },
  { "one_shot", "shelve_once", nil, "one_shot", "shelved" },
  { "one_shot", "unshelve", nil, "unshelved", "unshelved" },
  { "one_shot", "expire", nil, "unshelved", "unshelved" },
  { "one_shot", "end", nil, "unshelved", "unshelved" },
}

-- Suppressed by design: by hand, by its condition, by its group, its equipment, or the channel or unit of its point.
M.SUPPRESSION = {
  { "unsuppressed", "suppress", nil, "suppressed", "suppressed" },
  { "unsuppressed", "unsuppress", nil, "unsuppressed" },
  { "suppressed", "suppress", nil, "suppressed" },
  { "suppressed", "unsuppress", "by_design", nil, nil, "what suppresses it stands" },
  { "suppressed", "unsuppress", nil, "unsuppressed", "unsuppressed" },
}

-- Out of service for maintenance.
M.SERVICE = {
  { "in_service", "take_out", nil, "out_of_service", "out_of_service" },
  { "in_service", "return", nil, "in_service" },
  { "out_of_service", "take_out", nil, "out_of_service" },
  { "out_of_service", "return", "by_design", nil, nil, "its group or equipment is out of service" },
  { "out_of_service", "return", nil, "in_service", "in_service" },
}

-- Rows by state and event. Built while the library loads, where there is nothing but the language.
local function by_state(rows)
  local found = {}
  for i = 1, #rows do
    local from, event = rows[i][1], rows[i][2]
    found[from] = found[from] or {}
    found[from][event] = found[from][event] or {}
    local list = found[from][event]
    list[#list + 1] = rows[i]
  end
  return found
end

local LIFE, SHELVING = by_state(M.LIFE), by_state(M.SHELVING)
local SUPPRESSION, SERVICE = by_state(M.SUPPRESSION), by_state(M.SERVICE)

local function row_of(machine, from, event, facts)
  local rows = machine[from] and machine[from][event]
  for i = 1, rows and #rows or 0 do
    if not rows[i][3] or facts[rows[i][3]] then
      return rows[i]
    end
  end
  return nil
end

--- The row of an event in a machine ("life", "shelving", "suppression", "service"), or nil. `facts` are the `when`s that hold.
function M.life(from, event, facts)
  return row_of(LIFE, from, event, facts)
end

function M.shelving(from, event, facts)
  return row_of(SHELVING, from, event, facts)
end

function M.suppression(from, event, facts)
  return row_of(SUPPRESSION, from, event, facts)
end

function M.service(from, event, facts)
  return row_of(SERVICE, from, event, facts)
end

--- Where a record is in its life; nil is Normal.
function M.of(alarm)
  if not alarm then
    return "Normal"
  end
  return alarm.latched == "1" and (alarm.status .. " latched") or alarm.status
end

--- Status and latched flag of a state of life.
function M.split(state)
  if state == "Returned latched" then
    return "Returned", "1"
  elseif state == "Acknowledged latched" then
    return "Acknowledged", "1"
  end
  return state, nil
end

return M
