-- The functions of hissrv. No logic here.
local batches = require("hissrv.batches")
local dead_letters = require("hissrv.dead_letters")
local lines = require("hissrv.lines")
local mappings = require("hissrv.mappings")

return {
  { name = "configure_mapping", run = mappings.configure, apart = true, puts = "mapping" },
  { name = "mapping_list", run = mappings.list, reads = true },
  { name = "mapping_delete", run = mappings.delete, apart = true, removes = "mapping" },
  { name = "convert_to_line_protocol", run = lines.convert, reads = true },
  { name = "batch_collect", run = batches.collect, apart = true },
  { name = "batch_acknowledge", run = batches.acknowledge, apart = true },
  { name = "batch_fail", run = batches.fail, apart = true },
  { name = "dead_letter_resolve", run = dead_letters.resolve, apart = true },
  { name = "get_batch_status", run = batches.status, reads = true },
}
