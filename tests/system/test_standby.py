"""Two comsrv on the same channels: one polls, the other waits; who was paused can't write over who took over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from libs.services import SIMULATOR_OFFSET
from tests.support.processes import Site, free_port_base
from tests.support.wait import wait_until


@contextmanager
def comsrv(site: Site, name: str, port_base: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a comsrv of its own against the site's Redis."""
    environ = site.environ | {
        "VOLTAGE_REDIS_URL": site.redis_url(),
        "VOLTAGE_PORT_BASE": str(port_base),
        "VOLTAGE_DATA_DIR": str(site.folder / name),
    }
    with (
        (site.folder / f"{name}.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "serve", "comsrv"],
            env=environ, stdout=log, stderr=log, cwd=site.folder,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)


async def test_a_paused_comsrv_that_resumes_writes_nothing_older(own_site: Callable[..., Site]):
    site = own_site("--no-restart")
    os.kill(site.pid("comsrv"), signal.SIGTERM)
    # Devices stand still on the site's ports, wherever the two comsrv listen.
    file = site.config / "comsrv.yaml"
    text = file.read_text()
    for offset in range(SIMULATOR_OFFSET, SIMULATOR_OFFSET + 10):
        text = text.replace(f"base+{offset}", str(site.port_base + offset))
    file.write_text(text)

    with site.redis() as redis:

        def epoch() -> int:
            return int(redis.call("HGET", "comsrv:1001:status", "epoch") or 0)

        def counter() -> tuple[float, int]:
            """Return the meter's imported energy, which only grows, and its instant."""
            values = (redis.call("HGET", f"comsrv:1001:T{key}", "11") or 0 for key in ("", ":ts"))
            return float(next(values)), int(next(values))

        def seen() -> int:
            instants = redis.call("HGETALL", "comsrv:1001:seen")[1::2]
            return max(map(int, instants), default=0)

        async def ended() -> bool:
            return "comsrv" not in site.children()

        await wait_until(ended, "the site's own comsrv gave its channels back")
        before = seen()

        async def polled() -> bool:
            return seen() > before

        with comsrv(site, "first", site.port_base) as first:
            await wait_until(polled, "the first polls")
            held = epoch()
            with comsrv(site, "second", free_port_base()) as second:
                os.kill(first.pid, signal.SIGSTOP)
                stopped = seen()

                async def taken_over() -> bool:
                    return epoch() > held and seen() > stopped

                # The lease is 3 s; the standby asks at least once a second.
                await wait_until(taken_over, "the second took over", 10)
                os.kill(first.pid, signal.SIGCONT)
                latest, instants, energies = seen(), [], []

                async def goes_on() -> bool:
                    instants.append(seen())
                    energies.append(counter())
                    return instants[-1] > latest + 3000

                await wait_until(goes_on, "the second polls on, the first has been running again for 3 s")
                assert instants == sorted(instants), "an older instant was written over a newer one"
                assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(energies)), energies
                assert first.poll() is None
                # The second may claim anew, where Redis or the machine stood still for longer than a lease.
                log = [line for line in (site.folder / "first.log").read_text().splitlines() if "channel 1001:" in line]
                assert sum("claimed" in line for line in log) == 1, "the one that was paused took the channel back"
                assert any("standby" in line for line in log), log
                assert second.poll() is None
