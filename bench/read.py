"""Measure what a read of 124 registers costs this process: pymodbus as it comes, and comsrv's link.

The device is the C program of bench-poll. Both readers run in turns, three rounds, and the best counts.

    make bench-read
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import uvloop
from pymodbus.client import AsyncModbusTcpClient

from bench import report
from bench.comsrv_process import build, folder
from bench.report import Row
from services.comsrv.plugins.modbus.client import Client
from services.comsrv.plugins.modbus.parameters import TcpParameters
from tests.support.processes import free_port_base

SOURCE: Final = Path(__file__).parent / "poll_device.c"
ROUNDS: Final = 3
READS: Final = 4000
REGISTERS: Final = 124
POINTS: Final = REGISTERS // 2

Read = Callable[[int], Awaitable[object]]


class Cost(NamedTuple):
    """Microseconds a read."""

    wall_us: float
    cpu_us: float


@contextmanager
def device(port: int) -> Iterator[None]:
    """Run the C device."""
    with folder("bench-read-") as place:
        command = [str(build(SOURCE, place)), str(port), "1", "1000", "100"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            if process.stdout is not None:
                process.stdout.readline()
            try:
                yield
            finally:
                process.communicate()


async def measure(read: Read) -> Cost:
    """Read one block after the other."""
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(READS):
        await read(number % 16 * REGISTERS)
    return Cost((time.perf_counter() - began) / READS * 1e6, (time.process_time() - cpu) / READS * 1e6)


async def compare(port: int) -> dict[str, Cost]:
    """Measure both readers."""
    theirs = AsyncModbusTcpClient("127.0.0.1", port=port, reconnect_delay=0, retries=0)
    await theirs.connect()
    ours = Client(TcpParameters(host="127.0.0.1", port=port, connection="bench"), 6000)
    await ours.connect()
    readers: dict[str, Read] = {
        "pymodbus": lambda address: theirs.read_holding_registers(address, count=REGISTERS, device_id=1),
        "link": lambda address: ours.read(1, 3, address, REGISTERS),
    }
    found: dict[str, list[Cost]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            found[name].append(await measure(read))
    theirs.close()
    await ours.close()
    return {name: Cost(*map(min, zip(*costs, strict=True))) for name, costs in found.items()}


def main() -> None:
    """Print the table and write bench/results/read.json."""
    port = free_port_base() + 20
    with device(port):
        found = uvloop.run(compare(port))
    limit = found["pymodbus"]
    rows: list[Row] = []
    lines = []
    for name, cost in found.items():
        rows.append(Row(name, "time a read", cost.wall_us, "us", limit.wall_us))
        rows.append(Row(name, "CPU a read", cost.cpu_us, "us", limit.cpu_us))
        rate = POINTS / cost.wall_us * 1e6
        rows.append(Row(name, "rate of one connection", rate, "points/s"))
        lines.append([name, f"{cost.wall_us:.1f}", f"{cost.cpu_us:.1f}", f"{rate:,.0f}"])
    title = f"a read of {REGISTERS} registers; the machine's load was {os.getloadavg()[0]:.1f}"
    report.table(title, ["reader", "us", "us of CPU", "float32 points/s, one connection"], lines)
    print(report.write("read", rows))


if __name__ == "__main__":
    main()
