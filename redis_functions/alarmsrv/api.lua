-- The functions of alarmsrv. No logic here.
local definitions = require("alarmsrv.definitions")
local deliveries = require("alarmsrv.deliveries")
local journal = require("alarmsrv.journal")
local operations = require("alarmsrv.operations")
local queries = require("alarmsrv.queries")
local routes = require("alarmsrv.routes")
local shelving = require("alarmsrv.shelving")

return {
  { name = "store_alarm", run = operations.store },
  { name = "acknowledge_alarm", run = operations.acknowledge },
  { name = "acknowledge_alarms_batch", run = operations.acknowledge_batch },
  { name = "resolve_alarm", run = operations.resolve },
  { name = "cleanup_old_alarms", run = operations.cleanup },
  { name = "get_alarm", run = queries.get, reads = true },
  { name = "get_active_alarms", run = queries.active, reads = true },
  { name = "query_alarms", run = queries.query, reads = true },
  { name = "get_alarm_stats", run = queries.stats, reads = true },
  { name = "alarm_define", run = definitions.define, puts = "alarm_definition" },
  { name = "alarm_definition_get", run = definitions.get, reads = true },
  { name = "alarm_definition_list", run = definitions.list, reads = true },
  { name = "alarm_definition_warnings", run = definitions.warnings, reads = true },
  { name = "alarm_definition_delete", run = definitions.delete, removes = "alarm_definition" },
  { name = "alarm_shelve", run = shelving.shelve },
  { name = "alarm_unshelve", run = shelving.unshelve },
  { name = "alarm_suppress", run = shelving.suppress },
  { name = "alarm_unsuppress", run = shelving.unsuppress },
  { name = "alarm_out_of_service", run = shelving.out_of_service },
  { name = "alarm_marks", run = shelving.list, reads = true },
  { name = "alarm_journal_archived", run = journal.archived, apart = true },
  { name = "alarm_route_upsert", run = routes.upsert, puts = "alarm_route" },
  { name = "alarm_route_get", run = routes.get, reads = true },
  { name = "alarm_route_list", run = routes.list, reads = true },
  { name = "alarm_route_delete", run = routes.delete, removes = "alarm_route" },
  { name = "alarm_route_test", run = deliveries.test, apart = true },
  { name = "alarm_route_standing", run = deliveries.standing },
  { name = "alarm_outbox_begin", run = deliveries.begin, apart = true },
  { name = "alarm_outbox_settle", run = deliveries.settle, apart = true },
}
