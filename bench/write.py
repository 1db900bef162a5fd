"""Measure commands: from the API's request until the device acknowledged, or showed the value; and how many a second.

Once alone and once while the same comsrv polls 100 devices of 1,000 float32, all changing, once a second.

    make bench-write
    make bench-write ARGS="--seconds 3 --alone"
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import click

from bench import poll, report
from bench.comsrv_process import Comsrv, build, folder, ledger, redis_server, write_table
from bench.report import Row
from libs.redis.resp import Connection
from tests.support.processes import ROOT

CHANNEL: Final = 2001
POINTS: Final = 64
REACH_P99_MS: Final = 50.0
PARTS: Final = {"min": 0.0, "median": 0.5, "p99": 0.99}


def writable(place: Path, port: int) -> dict[str, Any]:
    """Write the tables of a channel of set-points, every second register, and return the channel."""
    tables = place / "config" / "channels" / str(CHANNEL)
    heads = "point_id,signal_name,data_type,min,max"
    write_table(tables / "adjustment.csv", heads, [f"{n},set-point {n},float64,0,10000" for n in range(1, POINTS + 1)])
    heads = "point_id,slave_id,function_code,register_address,data_type,byte_order,bit_position"
    rows = [f"{n},1,16,{2 * n},uint16,AB," for n in range(1, POINTS + 1)]
    write_table(tables / "mapping" / "adjustment_mapping.csv", heads, rows)
    return {
        "id": CHANNEL, "name": "set-points", "protocol": "modbus_tcp",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 5000},
    }  # fmt: skip


class Writer:
    """Commands over the API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Keep where to send them."""
        self._session = session
        self._url = f"{url}/api/channels/{CHANNEL}/commands?wait_ms=30000"
        self.sent = 0

    async def write(self, point: int, *, verify: bool) -> float:
        """Send one command; return the milliseconds until it was done."""
        self.sent += 1
        body = {"type": "A", "point": point, "value": self.sent % 10_000, "verify": verify, "ttl_ms": 30_000}
        began = time.perf_counter()
        async with self._session.post(self._url, json=body) as answer:
            found = await answer.json()
        took = (time.perf_counter() - began) * 1000
        if found.get("state") != ("verified" if verify else "acknowledged"):
            raise SystemExit(f"bench: a command ended otherwise: {found}")
        return took


async def one_by_one(writer: Writer, seconds: float, *, verify: bool) -> list[float]:
    """Send one command after the other."""
    end, took = time.monotonic() + seconds, []
    while time.monotonic() < end:
        took.append(await writer.write(writer.sent % POINTS + 1, verify=verify))
    return took


async def many(writer: Writer, seconds: float) -> float:
    """Send commands to all points at once, one in flight a point; return the verified ones a second."""
    end, began, before = time.monotonic() + seconds, time.monotonic(), writer.sent

    async def keep(point: int) -> None:
        while time.monotonic() < end:
            await writer.write(point, verify=True)

    await asyncio.gather(*(keep(point) for point in range(1, POINTS + 1)))
    return (writer.sent - before) / (time.monotonic() - began)


async def measured(url: str, token: str, seconds: float) -> tuple[dict[str, list[float]], float]:
    """Return latencies by kind, and the throughput."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        writer = Writer(session, url)
        await one_by_one(writer, min(seconds, 1.0), verify=True)
        latencies = {
            "acknowledged": await one_by_one(writer, seconds, verify=False),
            "verified": await one_by_one(writer, seconds, verify=True),
        }
        return latencies, await many(writer, seconds)


def part(values: list[float], share: float) -> float:
    """Return a quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(
    case: poll.Case | None, place: Path, redis_url: str, connection: Connection, device: Path, seconds: float
) -> Any:
    """Measure alone, or beside the polling of a case; return latencies, writes a second and points a second."""
    poll.fresh(connection)
    command = [sys.executable, "-m", "bench.write_device"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        port = int(target.stdout.readline()) if target.stdout else 0
        try:
            channel = writable(place, port)
            if case is None:
                return with_comsrv([channel], place, redis_url, connection, seconds)
            with poll.running(device, case) as devices:
                channels = [channel, *poll.site(place, case, devices.first_port)]
                return with_comsrv(channels, place, redis_url, connection, seconds)
        finally:
            target.terminate()


def with_comsrv(
    channels: list[dict[str, Any]], place: Path, redis_url: str, connection: Connection, seconds: float
) -> Any:
    """Run comsrv with the channels and measure."""
    with Comsrv(place, redis_url, channels) as comsrv:
        token = comsrv.voltage("token", "--role", "operator", "--ttl", "3600").split()[-1]
        time.sleep(poll.SETTLED_S if len(channels) > 1 else 0.2)
        before, began = ledger(connection).get("polled", 0), time.monotonic()
        latencies, writes_s = asyncio.run(measured(comsrv.url, token, seconds))
        points_s = (ledger(connection).get("polled", 0) - before) / (time.monotonic() - began)
    return latencies, writes_s, points_s


@click.command()
@click.option("--seconds", default=8.0, help="How long each figure is measured.")
@click.option("--alone", is_flag=True, help="Without polling; writes no file.")
def main(seconds: float, *, alone: bool) -> None:
    """Measure commands, alone and while polling 100,000 points a second."""
    rows: list[Row] = []
    lines: list[list[str]] = []
    worst = 0.0
    with folder("voltage-bench-write-") as place:
        device = build(Path(__file__).parent / "poll_device.c", place)
        with redis_server("valkey", place) as (redis, connection):
            for case in (None,) if alone else (None, poll.Case(100, 100, 1000)):
                name = "alone" if case is None else "while polling 100,000 points/s"
                home = place / ("alone" if case is None else "polling")
                latencies, writes_s, points_s = run(case, home, redis.url, connection, device, seconds)
                for kind, values in latencies.items():
                    found = {title: part(values, share) for title, share in PARTS.items()}
                    rows += [Row(name, f"{kind} {title}", value, "ms") for title, value in found.items()]
                    lines.append([f"{name}: until {kind}", *(f"{value:.1f}" for value in found.values()), "", ""])
                    worst = max(worst, found["p99"])
                rows += [Row(name, "verified writes", writes_s, "1/s"), Row(name, "polled", points_s, "points/s")]
                lines.append([f"{name}: {POINTS} at once", "", "", "", f"{writes_s:,.0f}", f"{points_s:,.0f}"])
    load_1m = os.getloadavg()[0]
    heads = ["case", "min ms", "median ms", "p99 ms", "writes/s", "points/s"]
    report.table(f"commands over the API; the machine's load was {load_1m:.1f}", heads, lines)
    print(("ok    " if worst < REACH_P99_MS else "MISS  ") + f"p99 {worst:.1f} ms (reach {REACH_P99_MS:.0f})")
    if not alone:
        print(report.write("write", rows, load_1m=load_1m))


if __name__ == "__main__":
    main()
