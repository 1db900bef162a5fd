-- The functions of no domain. No logic here.
local keeping = require("core.replay_keeping")
local proposals = require("core.proposals")
local replay = require("core.replay")
local reports = require("core.reports")
local shadows = require("core.shadows")
local system = require("core.system")
local versions = require("core.versions")

return {
  { name = "voltage_version", run = system.version, reads = true },
  { name = "voltage_tick", run = system.tick, idle = true },
  { name = "replay_keep", run = keeping.keep, apart = true },
  { name = "replay_kept", run = keeping.kept, apart = true },
  { name = "replay_apply", run = replay.apply, apart = true },
  { name = "alarm_system", run = reports.report },
  { name = "alarm_system_configure", run = reports.configure },
  { name = "alarm_system_list", run = reports.list, reads = true },
  { name = "definition_versions", run = versions.list, reads = true },
  { name = "definition_version", run = versions.get, reads = true },
  { name = "definition_rollback", run = versions.rollback },
  { name = "definition_propose", run = proposals.propose },
  { name = "definition_approve", run = proposals.approve },
  { name = "definition_reject", run = proposals.reject },
  { name = "shadow_start", run = shadows.start },
  { name = "shadow_stop", run = shadows.stop },
  { name = "shadow_get", run = shadows.get, reads = true },
  { name = "shadow_list", run = shadows.list, reads = true },
  { name = "shadow_promote", run = shadows.promote },
  { name = "definition_proposals", run = proposals.list, reads = true },
}
