-- The functions of no domain. No logic here.
local system = require("core.system")

return {
  { name = "voltage_version", run = system.version, reads = true },
  { name = "voltage_tick", run = system.tick },
}
