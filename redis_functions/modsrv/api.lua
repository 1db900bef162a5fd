-- The functions of modsrv. No logic here.
local models = require("modsrv.models")
local templates = require("modsrv.templates")

return {
  { name = "template_upsert", run = templates.upsert, puts = "template" },
  { name = "template_get", run = templates.get, reads = true },
  { name = "template_list", run = templates.list, reads = true },
  { name = "template_delete", run = templates.delete, removes = "template" },
  { name = "model_upsert", run = models.upsert, puts = "model" },
  { name = "model_get", run = models.get, reads = true },
  { name = "model_expand", run = models.expand, reads = true },
  { name = "model_reverse_lookup", run = models.reverse_lookup, reads = true },
  { name = "model_delete", run = models.delete, removes = "model" },
  { name = "model_sources", run = models.sources, reads = true },
  { name = "model_list", run = models.list, reads = true },
  { name = "model_get_values", run = models.get_values, reads = true },
  { name = "model_set_value", run = models.set_value },
  { name = "model_stats", run = models.stats, reads = true },
}
