-- The functions of netsrv. No logic here.
local forward = require("netsrv.forward")
local networks = require("netsrv.networks")
local routes = require("netsrv.routes")

return {
  { name = "network_upsert", run = networks.upsert, apart = true, puts = "network" },
  { name = "network_get", run = networks.get, reads = true },
  { name = "network_list", run = networks.list, reads = true },
  { name = "network_delete", run = networks.delete, apart = true, removes = "network" },
  { name = "route_upsert", run = routes.upsert, apart = true, puts = "route" },
  { name = "route_get", run = routes.get, reads = true },
  { name = "route_list", run = routes.list, reads = true },
  { name = "route_delete", run = routes.delete, apart = true, removes = "route" },
  { name = "forward_claim", run = forward.claim, apart = true },
  { name = "forward_complete", run = forward.complete, apart = true },
}
