-- The functions of rulesrv. No logic here.
local rules = require("rulesrv.rules")
local zones = require("rulesrv.zones")

return {
  { name = "rule_upsert", run = rules.upsert, puts = "rule" },
  { name = "rule_get", run = rules.get, reads = true },
  { name = "rule_list", run = rules.list, reads = true },
  { name = "rule_delete", run = rules.delete, removes = "rule" },
  { name = "rule_enable", run = rules.enable },
  { name = "rule_evaluate", run = rules.evaluate, reads = true },
  { name = "rule_explain", run = rules.explain, reads = true },
  { name = "rule_batch_evaluate", run = rules.batch_evaluate, reads = true },
  { name = "rule_trigger_action", run = rules.trigger_action },
  { name = "rule_update_state", run = rules.update_state },
  { name = "rule_warnings", run = rules.warnings, reads = true },
  { name = "rule_stats", run = rules.stats, reads = true },
  { name = "rule_zone", run = zones.put },
  { name = "calendar_upsert", run = zones.upsert, puts = "calendar" },
  { name = "calendar_get", run = zones.get, reads = true },
  { name = "calendar_list", run = zones.list, reads = true },
  { name = "calendar_delete", run = zones.delete, removes = "calendar" },
}
