"""Supervisor: everything of one site on this machine, started, watched and stopped.

`voltage up` takes the site's lock, finds or starts Redis, loads the function
library, then starts the simulated devices and each service as a process of its
own. A process that dies or stops answering is started again; when `voltage up`
itself ends, in whatever way, all of them end with it.

Files
    child       one process: start, stop, its log file
    loglines    a service's JSON log lines as people read them
    health      is it alive, is it ready, what does it wait for
    keeper      keeps one child running
    redis_disk  room for Redis when its disk is full
    reports     which service restarts, and why it ended
    supervisor  the order of starting and stopping
    console     what a person sees of it

Ports: none of its own; Redis at base + 379.
"""
