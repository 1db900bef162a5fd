-- The functions of jobs. No logic here.
local jobs = require("jobs.jobs")

return {
  { name = "job_submit", run = jobs.submit, apart = true },
  { name = "job_claim", run = jobs.claim, apart = true },
  { name = "job_progress", run = jobs.progress, apart = true },
  { name = "job_complete", run = jobs.complete, apart = true },
  { name = "job_fail", run = jobs.fail, apart = true },
  { name = "job_reap", run = jobs.reap, apart = true },
  { name = "job_cancel", run = jobs.cancel, apart = true },
  { name = "job_list", run = jobs.list, reads = true },
  { name = "job_get", run = jobs.get, reads = true },
}
