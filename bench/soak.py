"""The demo site for a while: does anything grow? Memory of each process, queue lengths, the ledger.

`make bench-soak` (120 s), or `make bench-soak ARGS="--seconds 600"`. Exits 1 when the ledger does not balance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.comsrv_process import ledger
from bench.report import Row, table, write
from services.comsrv.ledger import balance
from tests.support.processes import Site

EVERY_S: Final = 5.0
# What is taken up while a process warms up is no growth.
WARM_UP: Final = 0.25
STREAMS: Final = ("hissrv:queue", "voltage:events", "rulesrv:firings", "alarmsrv:journal", "comsrv:1003:commands")


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} tells no memory")


def watch(site: Site, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Sample each process' memory: name -> (second, MB)."""
    samples: dict[str, list[tuple[float, float]]] = {}
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        for name, pid in site.children().items():
            samples.setdefault(name, []).append((at, memory_mb(pid)))
        time.sleep(EVERY_S)
    return samples


def slope(samples: list[tuple[float, float]]) -> float:
    """Return the growth after the warm-up, in kB a minute, by least squares."""
    kept = np.array(samples[int(len(samples) * WARM_UP) :])
    return float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0] * 1024 * 60) if len(kept) > 1 else 0.0


def main() -> int:
    """Run it and print what grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    seconds = parser.parse_args().seconds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="voltage-soak-") as folder:
        site = Site(Path(folder))
        try:
            site.start()
            samples = watch(site, seconds)
            for name, taken in samples.items():
                rows += [
                    Row(name, "memory at the start", taken[0][1], "MB"),
                    Row(name, "memory at the end", taken[-1][1], "MB"),
                    Row(name, "growth", slope(taken), "kB/min"),
                ]
            with site.redis() as redis:
                rows += [Row(stream, "length", redis.call("XLEN", stream), "entries") for stream in STREAMS]
                pending = int(redis.call("HGET", "hissrv:queue:size", "samples") or 0)
                found = balance(ledger(redis), pending)
        finally:
            site.stop()
    for part in ("samples", "history"):
        rows += [Row("ledger", name, n, "samples") for name, n in found[part].items() if isinstance(n, int)]
    table(
        f"Soak, {seconds:.0f} s", ["what", "figure", "value", "unit"],
        [[row.case, row.metric, f"{row.value:,.1f}", row.unit] for row in rows],
    )  # fmt: skip
    print("ledger balances" if found["balanced"] else f"ledger does not balance: {found}")
    write("soak", rows, seconds=seconds)
    return 0 if found["balanced"] else 1


if __name__ == "__main__":
    sys.exit(main())
