"""`voltage up --single-process`: the whole site in one process of ours, for machines with 1 GB."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.processes import Site, gone
from tests.support.wait import wait_until

# Resident with the demo site: about 160 MB, where a process for each service takes 540.
MOST_MB = 300


def resident_mb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


async def test_one_process_serves_everything_and_comes_back(own_site: Callable[..., Site]):
    site = own_site("--single-process")
    children = site.children()
    services = set(children) - {"redis", "simulator"}
    assert len(services) == 1
    pid = children[services.pop()]
    doctor = site.voltage("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    assert resident_mb(pid) < MOST_MB

    os.kill(pid, signal.SIGKILL)
    await gone([pid])

    async def again() -> bool:
        return site.voltage("models", "battery1").returncode == 0

    await wait_until(again, "the services answer again", timeout_s=30)
