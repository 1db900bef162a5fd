-- The functions of no domain. No logic here.
local keeping = require("core.replay_keeping")
local replay = require("core.replay")
local reports = require("core.reports")
local system = require("core.system")

return {
  { name = "voltage_version", run = system.version, reads = true },
  { name = "voltage_tick", run = system.tick },
  { name = "replay_keep", run = keeping.keep, apart = true },
  { name = "replay_kept", run = keeping.kept, apart = true },
  { name = "replay_apply", run = replay.apply, apart = true },
  { name = "alarm_system", run = reports.report },
  { name = "alarm_system_configure", run = reports.configure },
  { name = "alarm_system_list", run = reports.list, reads = true },
}
