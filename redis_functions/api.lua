-- The library `voltage`: every domain's functions, each behind the one guard.
local args = require("lib.args")
local collector = require("lib.collector")
local errors = require("lib.errors")
local graphs = require("core.graph")
local writes = require("core.writes")
local alarmsrv = require("alarmsrv.api")
local core = require("core.api")
local comsrv = require("comsrv.api")
local hissrv = require("hissrv.api")
local jobs = require("jobs.api")
local modsrv = require("modsrv.api")
local netsrv = require("netsrv.api")
local replay = require("core.replay")
local rulesrv = require("rulesrv.api")
local versions = require("core.versions")

local domains = { core, comsrv, hissrv, modsrv, rulesrv, alarmsrv, netsrv, jobs }

-- What writes, by its name: a replay makes recorded calls again.
local specs = {}

-- A coded refusal comes before anything is written, so what is compiled stays true; after a
-- defect nobody knows, and it is compiled anew.
local function run(spec, key, argv)
  local ns, id
  local ok, reply = pcall(function()
    ns, id = args.split(key)
    return spec.run(ns, id, argv)
  end)
  local wrote, problem = pcall(writes.flush)
  if ok and not wrote then
    ok, reply = false, problem
  end
  if not ok and (type(reply) ~= "table" or not reply.code) then
    graphs.forget()
  end
  return ok, reply, ns
end

local function guard(spec)
  return function(call_keys, argv)
    collector.begin()
    replay.begin()
    local ok, reply, ns = run(spec, call_keys[1], argv)
    if not spec.reads and ns then
      replay.log(spec, ns, call_keys[1], argv, ok)
    end
    collector.finish()
    return ok and reply or errors.reply(reply)
  end
end

-- A recorded call, under the image number it had.
local function again(spec, key, argv)
  local before = replay.replayed().before
  if replay.replayed().facts.anew then
    graphs.forget()
  end
  if before ~= "" then
    graphs.renumber(args.split(key), before)
  end
  return run(spec, key, argv)
end

replay.specs, replay.run = specs, again

for i = 1, #domains do
  local domain = domains[i]
  for j = 1, #domain do
    domain[j].run = versions.kept(domain[j])
    specs[domain[j].name] = not domain[j].reads and domain[j] or nil
    redis.register_function({
      function_name = domain[j].name,
      callback = guard(domain[j]),
      flags = domain[j].reads and { "no-writes" } or { "allow-oom" },
    })
  end
end
