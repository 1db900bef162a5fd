-- The functions of jobs. No logic here.
local jobs = require("jobs.jobs")

return {
  { name = "job_submit", run = jobs.submit },
  { name = "job_claim", run = jobs.claim },
  { name = "job_progress", run = jobs.progress },
  { name = "job_complete", run = jobs.complete },
  { name = "job_fail", run = jobs.fail },
  { name = "job_reap", run = jobs.reap },
  { name = "job_cancel", run = jobs.cancel },
  { name = "job_list", run = jobs.list, reads = true },
  { name = "job_get", run = jobs.get, reads = true },
}
