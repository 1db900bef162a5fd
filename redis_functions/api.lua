-- The library `voltage`: every domain's functions, each behind the one guard.
local args = require("lib.args")
local errors = require("lib.errors")
local graphs = require("core.graph")
local alarmsrv = require("alarmsrv.api")
local core = require("core.api")
local comsrv = require("comsrv.api")
local hissrv = require("hissrv.api")
local jobs = require("jobs.api")
local modsrv = require("modsrv.api")
local netsrv = require("netsrv.api")
local rulesrv = require("rulesrv.api")

local domains = { core, comsrv, hissrv, modsrv, rulesrv, alarmsrv, netsrv, jobs }

-- A coded refusal comes before anything is written, so what is compiled stays true; after a
-- defect nobody knows, and it is compiled anew.
local function guard(run)
  return function(call_keys, argv)
    local ok, reply = pcall(function()
      local ns, id = args.split(call_keys[1])
      return run(ns, id, argv)
    end)
    if ok then
      return reply
    end
    if type(reply) ~= "table" or not reply.code then
      graphs.forget()
    end
    return errors.reply(reply)
  end
end

for i = 1, #domains do
  local domain = domains[i]
  for j = 1, #domain do
    redis.register_function({
      function_name = domain[j].name,
      callback = guard(domain[j].run),
      flags = domain[j].reads and { "no-writes" } or { "allow-oom" },
    })
  end
end
