"""Supervisor: everything of one site on this machine, started, watched and stopped.

`voltage up` takes the site's lock, finds or starts Redis, loads the function
library, then starts the simulated devices and each service as a process of its
own. A process that dies or stops answering is started again; when `voltage up`
itself ends, in whatever way, all of them end with it.

Files
    site        where a site's files, ports and Redis are
    resp        a small Redis connection for probing and for `voltage redis`
    redis_server  which Redis is taken, and how ours is configured
    lock        one `voltage up` a data directory
    launch      the step between us and a child that ties its life to ours
    child       one process: start, stop, its log file
    loglines    a service's JSON log lines as people read them
    health      is it alive, is it ready, what does it wait for
    keeper      keeps one child running
    supervisor  the order of starting and stopping
    console     what a person sees of it

Ports: none of its own; Redis at base + 379.
"""
