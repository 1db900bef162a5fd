-- Errors start with a code; anything without one is a defect of ours and says INTERNAL.
local M = {}

--- Stop the call with a code and a message. Nothing may have been written before.
function M.fail(code, message)
  error({ code = code, message = message })
end

--- Several problems of one document at once. Each begins with the path of its field.
function M.fail_all(problems)
  if #problems > 0 then
    error({ code = "INVALID", message = table.concat(problems, "; "), problems = problems })
  end
end

--- Whatever pcall caught, as a text of one line.
function M.text(caught)
  local text
  if type(caught) == "table" and caught.code then
    text = caught.code .. " " .. caught.message
  elseif type(caught) == "table" and caught.err then
    text = "INTERNAL " .. caught.err
  else
    text = "INTERNAL " .. tostring(caught)
  end
  return (string.gsub(text, "[\r\n]+", " "))
end

--- Turn whatever pcall caught into an error reply.
function M.reply(caught)
  local problems = type(caught) == "table" and caught.problems
  if not problems then
    return redis.error_reply(M.text(caught))
  end
  -- Two spaces stand between two problems, and a list ends with one: people see nothing of it, and a program
  -- (libs/redis/refusals.py) knows where each problem begins.
  local apart = {}
  for i = 1, #problems do
    apart[i] = string.gsub(problems[i], ";  +", "; ")
  end
  return redis.error_reply(M.text({ code = caught.code, message = table.concat(apart, ";  ") .. " " }))
end

return M
