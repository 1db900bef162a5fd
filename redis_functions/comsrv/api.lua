-- The functions of comsrv. No logic here.
local channels = require("comsrv.channels")
local commands = require("comsrv.commands")
local ingest = require("comsrv.ingest")
local points = require("comsrv.points")

return {
  { name = "comsrv_ingest", run = ingest.ingest, matters = ingest.documents, idle = true },
  { name = "comsrv_set_quality", run = ingest.set_quality },
  { name = "comsrv_status", run = channels.status, reads = true },
  { name = "channel_upsert", run = channels.upsert },
  { name = "channel_get", run = channels.get, reads = true },
  { name = "channel_list", run = channels.list, reads = true },
  { name = "channel_delete", run = channels.delete },
  { name = "channel_claim", run = channels.claim },
  { name = "channel_renew", run = channels.renew },
  { name = "channel_release", run = channels.release },
  { name = "command_submit", run = commands.submit },
  { name = "command_select", run = commands.select },
  { name = "command_claim", run = commands.claim, idle = true },
  { name = "command_complete", run = commands.complete },
  { name = "command_release", run = commands.release },
  { name = "command_holds", run = commands.holds, reads = true },
  { name = "point_overwritten", run = commands.overwritten },
  { name = "command_get", run = commands.get, reads = true },
  { name = "command_list", run = commands.list, reads = true },
  { name = "point_tag", run = points.tag },
  { name = "point_untag", run = points.untag },
  { name = "point_substitute", run = points.substitute },
  { name = "point_restore", run = points.restore },
}
