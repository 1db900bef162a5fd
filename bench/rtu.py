"""Measure the poll cycle on a serial line against the least it can take.

Two pseudo-terminals with a program between them that lets a byte through each 10 bit times stand
for the line; a libmodbus server in C is the device. The least is the characters of the planned blocks,
requests and answers, and the silence of 3.5 characters that must come before each request.

    make bench-rtu
    make bench-rtu ARGS="--baud 9600 --cycles 5"
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import uvloop

from bench import report
from bench.report import Row
from services.comsrv.channel import Channel
from services.comsrv.line import Line
from services.comsrv.plugins.modbus.parameters import RtuParameters
from services.comsrv.plugins.modbus.rtu import ModbusRtu
from tests.support.serial_line import SerialLine

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "tests/support/libmodbus_server.c"
# Bit times of a character: start, 8 data, stop.
BITS: Final = 10
REACH: Final = 1.15
# Address, check bytes; a read request is 8 characters, its answer 5 and the data.
REQUEST: Final = 8
ANSWER: Final = 5


class Case(NamedTuple):
    """Points a channel, and how they lie."""

    name: str
    addresses: range
    max_registers: int = 125


CASES: Final = (
    Case("250 float32 in blocks of 125 registers", range(0, 500, 2)),
    Case("100 float32 in blocks of 32 registers", range(0, 200, 2), 32),
    Case("40 float32 in blocks of 10 registers", range(0, 80, 2), 10),
)


class Measured(NamedTuple):
    """One case: the blocks that were planned, and the seconds of a cycle."""

    blocks: int
    least_s: float
    median_s: float
    worst_s: float
    rejected: int


def channel(case: Case, port: str, baud: int) -> Channel:
    """Return the channel of a case."""
    mapping = {"slave_id": 1, "function_code": 3, "data_type": "float32"}
    points = [
        {"id": number, "name": f"p{number}", "data_type": "float32", "mapping": mapping | {"register_address": address}}
        for number, address in enumerate(case.addresses, 1)
    ]
    document = {
        "id": 1,
        "name": "line",
        "protocol": "modbus_rtu",
        "parameters": {"port": port, "baud_rate": baud},
        "polling": {"max_registers": case.max_registers},
        "points": {"T": points},
    }
    return Channel.model_validate(document)


def least(plugin: ModbusRtu, parameters: RtuParameters) -> float:
    """Return the seconds that the planned blocks take at least."""
    characters = sum(REQUEST + ANSWER + 2 * block.plan.count for block in plugin.blocks)
    return characters * parameters.character_s + len(plugin.blocks) * parameters.gap_s


async def measure(case: Case, port: str, baud: int, cycles: int) -> Measured:
    """Read all blocks again and again, as a poller does that is always late."""
    declared = channel(case, port, baud)
    plugin = ModbusRtu()
    await plugin.initialize(declared, port_base=6000)
    await plugin.connect()
    line = plugin.line or Line()
    seconds = []
    # The first cycle is not measured.
    for _ in range(cycles + 1):
        began = time.perf_counter()
        for block in plugin.blocks:
            async with line.for_poll():
                await plugin.read_batch(block)
        seconds.append(time.perf_counter() - began)
    rejected = sum(plugin.traffic.rejected.values()) if plugin.traffic else 0
    await plugin.close()
    shortest = least(plugin, RtuParameters.model_validate(declared.parameters))
    return Measured(len(plugin.blocks), shortest, statistics.median(seconds[1:]), max(seconds[1:]), rejected)


@contextmanager
def started(*command: str) -> Iterator[None]:
    """Run a program that says "ready", until its standard input ends."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            sys.exit(f"bench: {' '.join(command)} did not start")
        try:
            yield
        finally:
            process.communicate()


@contextmanager
def device(baud: int) -> Iterator[str]:
    """Run the line and the C server at its other end; yields the port at this end."""
    if shutil.which("cc") is None:
        sys.exit("bench: cc is missing; on Debian: apt-get install gcc libc6-dev libmodbus-dev")
    with tempfile.TemporaryDirectory(prefix="bench-rtu-") as folder:
        program = f"{folder}/server"
        subprocess.run(["cc", "-O2", "-o", program, str(SOURCE), "-lmodbus"], check=True)
        line = SerialLine(Path(folder))
        with (
            started(sys.executable, "-m", "tests.support.serial_line", folder, str(BITS / baud)),
            started(program, "rtu", line.right, str(baud), "1"),
        ):
            yield line.left


@click.command()
@click.option("--baud", "bauds", type=int, multiple=True, default=(9600, 115_200), help="Speeds. Repeatable.")
@click.option("--cycles", default=0, help="Cycles a case; without, as many as take about five seconds.")
def main(bauds: tuple[int, ...], cycles: int) -> None:
    """Measure every case at every speed; a run of both speeds writes bench/results/rtu.json."""
    rows: list[Row] = []
    lines: list[list[str]] = []
    missed = []
    for baud in bauds:
        for case in CASES:
            with device(baud) as port:
                number = cycles or _cycles(case, baud)
                found = uvloop.run(measure(case, port, baud, number))
            ratio = found.median_s / found.least_s
            text = f"{baud} baud, {case.name}"
            rows += _rows(text, found)
            lines.append(_line(text, number, found))
            if ratio > REACH:
                missed.append(f"{text}: {ratio:.3f} of the least (reach {REACH})")
    title = f"poll cycle on a serial line; the machine's load was {os.getloadavg()[0]:.1f}"
    heads = ["case", "cycles", "blocks", "least ms", "median ms", "of the least", "longest ms", "frames rejected"]
    report.table(title, heads, lines)
    for text in missed:
        print(f"MISS  {text}")
    if not cycles and tuple(bauds) == (9600, 115_200):
        print(report.write("rtu", rows))


def _cycles(case: Case, baud: int) -> int:
    """Return about five seconds' worth of cycles."""
    characters = 2 * 2 * len(case.addresses) * 1.2
    return max(3, int(5 * baud / BITS / characters))


def _rows(text: str, found: Measured) -> list[Row]:
    return [
        Row(text, "median cycle", found.median_s * 1000, "ms", found.least_s * 1000),
        Row(text, "longest cycle", found.worst_s * 1000, "ms", found.least_s * 1000),
        Row(text, "frames rejected", found.rejected, "frames"),
    ]


def _line(text: str, cycles: int, found: Measured) -> list[str]:
    figures: list[Any] = [cycles, found.blocks, f"{found.least_s * 1000:.1f}", f"{found.median_s * 1000:.1f}"]
    figures += [f"{found.median_s / found.least_s:.3f}", f"{found.worst_s * 1000:.1f}", found.rejected]
    return [text, *map(str, figures)]


if __name__ == "__main__":
    main()
