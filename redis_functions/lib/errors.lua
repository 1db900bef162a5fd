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
  return redis.error_reply(M.text(caught))
end

return M
