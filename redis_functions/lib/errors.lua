-- Errors start with a code; anything without one is a defect of ours and says INTERNAL.
local M = {}

--- Stop the call with a code and a message. Nothing may have been written before.
function M.fail(code, message)
  error({ code = code, message = message })
end

--- Several problems of one document at once.
function M.fail_all(problems)
  if #problems > 0 then
    M.fail("INVALID", table.concat(problems, "; "))
  end
end

--- Turn whatever pcall caught into an error reply of one line.
function M.reply(caught)
  local text
  if type(caught) == "table" and caught.code then
    text = caught.code .. " " .. caught.message
  elseif type(caught) == "table" and caught.err then
    text = "INTERNAL " .. caught.err
  else
    text = "INTERNAL " .. tostring(caught)
  end
  return redis.error_reply((string.gsub(text, "[\r\n]+", " ")))
end

return M
