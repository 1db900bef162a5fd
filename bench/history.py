"""History: points a second from the queue to the store, query times, bytes a point; beside two other stores.

Three stores in the same run: the embedded one, Debian's influxdb 1.6.7 and Debian's
victoria-metrics. The queue is filled by comsrv_ingest, so its entries are the real ones,
and hissrv is the real process. For the queries a day of 116 points with one sample a second
(10 million rows, steps of 0.01) is written through the store's own `write`; each query is asked
through the store's own `query` and checked against the mean of what was written.

    make bench-history                                # about 12 minutes
    make bench-history ARGS="--stores embedded --rows 2000000 --queued 500000"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from bench import load
from bench.ingest import fresh, server
from bench.load import Client
from bench.report import Row, table, write
from libs.influx.client import Server
from libs.redis.queue import EntryId
from libs.redis.resp import information
from services.hissrv.jobs import Progress
from services.hissrv.store.contract import Aggregate, Entry, Part, Query, Store
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from services.hissrv.store.victoria import VictoriaStore
from services.hissrv.transfer import Transfer
from tests.support.influx import InfluxServer
from tests.support.servers import free_port
from tests.support.victoria import VictoriaServer

SECONDS: Final = DAY_MS // 1000
BLOCK: Final = 250
REPEATS: Final = 9
OPEN_S: Final = 600
TOLERANCE: Final = 1e-6
YEAR_DAYS: Final = 365
YEAR_STEP_MS: Final = 300_000
TICKS: Final = os.sysconf("SC_CLK_TCK")
NAMES: Final = {"embedded": "embedded", "influx": "influxdb 1.6.7", "victoria": "victoria-metrics"}


class Servers:
    """The servers beside us, started when first asked for."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        self._folder = folder
        self._running: dict[str, Any] = {}

    def url(self, name: str) -> str:
        """Return where a server answers."""
        if name not in self._running:
            folder = self._folder / name
            folder.mkdir()
            self._running[name] = InfluxServer(folder) if name == "influx" else VictoriaServer(folder)
        return str(self._running[name].url)

    def process(self, name: str) -> int:
        """Return a server's process id, 0 for none."""
        return self._running[name].process.pid if name in self._running else 0

    def size(self, name: str) -> int:
        """Return the bytes of a server's data."""
        return size_of(self._folder / name)

    def stop(self) -> None:
        """Stop them all."""
        for running in self._running.values():
            running.stop()


def size_of(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def make(name: str, servers: Servers, folder: Path) -> Store:
    """Return a store of a kind."""
    if name == "embedded":
        return EmbeddedStore(folder, retention_days=0)
    if name == "influx":
        return InfluxStore(Server(servers.url(name), "v1", timeout_s=120))
    return VictoriaStore(Server(servers.url(name), "victoria", timeout_s=120))


# From the queue to the store


def fill(client: Client, points: int) -> int:
    """Fill the queue by comsrv_ingest; returns its samples."""
    epoch = fresh(client)
    blocks = load.make_blocks(BLOCK)
    flight = 8
    for number in range(points // BLOCK):
        client.send(*load.words(blocks[number % len(blocks)], epoch, 1 + number // len(blocks)))
        if number >= flight:
            client.take()
    for _ in range(min(flight, points // BLOCK)):
        client.take()
    return int(client.call("HGET", "hissrv:queue:size", "samples") or 0)


def drain(name: str, servers: Servers, points: int, folder: Path) -> list[Row]:
    """Measure hissrv emptying a full queue into a store."""
    with server("valkey", tcp=True) as client:
        queued = fill(client, points)
        address = f"redis://127.0.0.1:{information(client, 'server')['tcp_port']}"
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("VOLTAGE_", "HISSRV_"))}
        environ |= {
            "VOLTAGE_REDIS_URL": address,
            "VOLTAGE_DATA_DIR": str(folder),
            "VOLTAGE_CONFIG_DIR": str(folder / "config"),
            "VOLTAGE_PORT_BASE": str(free_port()),
        }
        if name != "embedded":
            environ |= {"VOLTAGE_INFLUXDB_URL": servers.url(name)}
            environ |= {"VOLTAGE_INFLUXDB_API": "v1" if name == "influx" else "victoria"}
        with (folder / "hissrv.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "services.hissrv"], env=environ, stdout=log, stderr=log)
        try:
            return _drained(name, client, process, servers.process(name), queued, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _drained(
    name: str, client: Client, process: subprocess.Popen[bytes], beside: int, queued: int, folder: Path
) -> list[Row]:
    def left() -> int:
        return int(client.call("HGET", "hissrv:queue:size", "samples") or 0)

    def times() -> tuple[float, float, float, float]:
        redis = information(client, "cpu")
        redis_s = float(redis["used_cpu_sys"]) + float(redis["used_cpu_user"])
        return time.perf_counter(), cpu_s(process.pid), redis_s, cpu_s(beside) if beside else 0.0

    while left() == queued:
        if process.poll() is not None:
            raise SystemExit((folder / "hissrv.log").read_text()[-2000:])
        time.sleep(0.005)
    first, begin = left(), times()
    while left():
        time.sleep(0.005)
    spent = [after - before for after, before in zip(times(), begin, strict=True)]
    written = int(client.call("HGET", "voltage:ledger", "written") or 0)
    if written != queued:
        raise SystemExit(f"{written} of {queued} samples are written")
    points_s = first / spent[0]
    return [
        Row(NAMES[name], "queue to store", points_s, "points/s", 100_000),
        Row(NAMES[name], "hissrv", spent[1] / first * 1e6, "us CPU a point"),
        Row(NAMES[name], "hissrv at 100,000 points/s", spent[1] / first * 1e5, "cores", 0.5),
        Row(NAMES[name], "Redis", spent[2] / first * 1e6, "us CPU a point"),
        Row(NAMES[name], "the store's server", spent[3] / first * 1e6, "us CPU a point"),
    ]


# Queries


def values_of(point: int, seconds: int) -> NDArray[np.float64]:
    """Return a point's day: a walk in steps of 0.01."""
    steps = np.random.default_rng(point).integers(-3, 4, seconds)
    return np.round(50 + np.cumsum(steps) * 0.01, 2)


async def put(store: Store, refs: list[str], day_ms: int, seconds: int, chunk: int = 60) -> None:
    """Write a sample a second of every point from an instant on; an embedded store closes its window when it would."""
    every = np.array([values_of(number, SECONDS)[:seconds] for number in range(len(refs))])
    for first in range(0, seconds, chunk):
        parts = [Part(day_ms + s * 1000, refs, every[:, s].copy()) for s in range(first, min(first + chunk, seconds))]
        await store.write([Entry(EntryId(day_ms, first), parts, image=first)])
        if isinstance(store, EmbeddedStore) and (first + chunk) % OPEN_S == 0:
            store.window.close_due(0, force=True)
            await store.maintain(day_ms + first * 1000)


async def timed(ask: Callable[[], Awaitable[Any]], repeats: int = REPEATS) -> tuple[float, float, Any]:
    """Return the first and the median time of a query in ms, and its answer."""
    took, answer = [], None
    for _ in range(repeats):
        begin = time.perf_counter()
        answer = await ask()
        took.append((time.perf_counter() - begin) * 1000)
    return took[0], median(took[1:] or took), answer


async def _until_there(store: Store, refs: list[str], query: Query, samples: int) -> None:
    """Wait until a server shows what it took."""
    end = time.monotonic() + 60
    while True:
        found = await store.query(query._replace(series=refs[-1:], interval_ms=0, aggregate=Aggregate.COUNT))
        if list(found[refs[-1]]) and found[refs[-1]][0].value == samples:
            return
        if time.monotonic() > end:
            raise SystemExit(f"not all of {samples} samples can be read")
        await asyncio.sleep(0.2)


def repeats_of(name: str, query: Query) -> int:
    """Return how often to ask: of a server, each of 100 points takes its while."""
    if len(query.series) == 1:
        return REPEATS
    return 3 if name == "embedded" else 1


async def own_mean(name: str, servers: Servers, query: Query) -> list[Row]:
    """Measure the server's own unweighted mean, which is another number than ours where samples come on change."""
    ref, (start, end) = query.series[0], (query.start_ms, query.end_ms)
    point = ref.rsplit(":", 1)[1]
    async with aiohttp.ClientSession() as session:

        async def ask() -> int:
            if name == "influx":
                statement = (
                    f"SELECT mean(value) FROM telemetry WHERE point = '{point}' AND time >= {start}ms "  # noqa: S608
                    f"AND time < {end}ms GROUP BY time(1m)"
                )
                path, params = "/query", {"db": "ems_data", "epoch": "ms", "q": statement}
            else:
                path = "/api/v1/query_range"
                params = {"query": f'avg_over_time(telemetry_value{{point="{point}"}}[1m])', "nocache": "1"}
                params |= {"start": str((start + 60_000) / 1000), "end": str(end / 1000), "step": "60"}
            async with session.get(servers.url(name) + path, params=params) as answer:
                text = await answer.read()
                answer.raise_for_status()
            return text.count(b"],[")

        first, usual, intervals = await timed(ask)
    if intervals != DAY_MS // query.interval_ms - 1:
        raise SystemExit(f"{NAMES[name]}: {intervals + 1} intervals of its own mean")
    what = "1 point, a day, its own unweighted mean"
    return [Row(NAMES[name], f"{what}, first", first, "ms"), Row(NAMES[name], what, usual, "ms")]


async def day(name: str, servers: Servers, folder: Path, points: int) -> list[Row]:
    """Measure queries over a day of `points` points, one sample a second."""
    store = make(name, servers, folder / "history")
    await store.open()
    refs = sorted(f"comsrv:1001:T:{number}" for number in range(1, points + 1))
    day_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 5 * DAY_MS
    before = servers.size(name) if name != "embedded" else 0
    now_ms = day_ms + DAY_MS
    one = Query(refs[3:4], day_ms, day_ms + DAY_MS, now_ms + DAY_MS, 60_000, Aggregate.MEAN, limit=2000)
    hundred = one._replace(series=refs[:100])
    rows: list[Row] = []
    case = NAMES[name]

    async def ask(what: str, query: Query, limit: float | None = None) -> None:
        try:
            first, usual, answer = await timed(partial(store.query, query), repeats_of(name, query))
        except Exception as error:  # noqa: BLE001 - a store that can't is a row, not the end of the run
            print(f"{case}: {what}: {error}")
            return
        got = answer[query.series[0]]
        expected = values_of(refs.index(query.series[0]), SECONDS)[:60].mean()
        if abs(got[0].value - expected) > TOLERANCE:
            raise SystemExit(f"{case}: {what}: {got[0]} instead of a mean of {expected}")
        rows.append(Row(case, f"{what}, first", first, "ms"))
        rows.append(Row(case, what, usual, "ms", limit))

    if isinstance(store, EmbeddedStore):
        await put(store, refs, day_ms, SECONDS - OPEN_S)
        every = np.array([values_of(number, SECONDS)[-OPEN_S:] for number in range(len(refs))])
        rest = [Part(now_ms - (OPEN_S - s) * 1000, refs, every[:, s].copy()) for s in range(OPEN_S)]
        await store.write([Entry(EntryId(day_ms + 1, 0), rest)])
        await ask("1 point, a running day, across the open window", one, 50)
        await ask("1 point, a running day, from samples", one._replace(tiers=False))
        await ask("100 points, a running day, across the open window", hundred)
        store.window.close_due(0, force=True)
        await store.maintain(day_ms)
        await ask("1 point, a running day, windows closed", one, 20)
        await store.maintain(now_ms + DAY_MS)
        await ask("1 point, a day, from samples", one._replace(tiers=False), 20)
        await ask("100 points, a day, from samples", hundred._replace(tiers=False))
    else:
        await put(store, refs, day_ms, SECONDS)
        await _until_there(store, refs, one, SECONDS)
        rows += await own_mean(name, servers, one)
    await ask("1 point, a day", one, 20)
    await ask("100 points, a day", hundred)
    if isinstance(store, EmbeddedStore):
        rows += await export(store, folder / "transfer", one)
        size = size_of(folder / "history" / "parquet")
        rows.append(Row(case, "samples", size / (points * SECONDS), "bytes a point", 4))
        rows.append(Row(case, "tiers", size_of(folder / "history" / "tiers") / (points * SECONDS), "bytes a point"))
    else:
        rows.append(Row(case, "samples", (servers.size(name) - before) / (points * SECONDS), "bytes a point", 4))
    await store.close()
    return rows


class Silent(Progress):
    """Tells nobody."""

    def __init__(self) -> None:
        """Know of no job."""

    async def __call__(self, done: float, message: str = "") -> None:  # noqa: ARG002
        """Give way to the queries."""
        await asyncio.sleep(0)


async def export(store: Store, folder: Path, query: Query) -> list[Row]:
    """Measure an export of everything, and a query meanwhile: a job must not stall the others."""
    took: list[float] = []

    job = asyncio.create_task(
        Transfer(lambda: {"main": store}, folder).export(
            {"job": "bench", "format": "parquet", "start": 0, "end": query.now_ms}, Silent()
        )
    )
    begin = time.perf_counter()
    while not job.done():
        took.append((await timed(partial(store.query, query), 1))[0])
        await asyncio.sleep(0.1)
    result = await job
    seconds = time.perf_counter() - begin
    return [
        Row(NAMES["embedded"], "export of everything", result["samples"] / seconds, "points/s"),
        Row(NAMES["embedded"], "1 point, a day, during an export", median(took), "ms"),
        Row(NAMES["embedded"], "1 point, a day, during an export, worst", max(took), "ms"),
    ]


async def year(folder: Path) -> list[Row]:
    """Measure a year of 100 points with a sample every five minutes, from the tiers."""
    store = EmbeddedStore(folder, retention_days=0, window_points=50_000_000)
    await store.open()
    refs = sorted(f"comsrv:1001:T:{number}" for number in range(1, 101))
    begin = int(time.time() * 1000) // DAY_MS * DAY_MS - YEAR_DAYS * DAY_MS
    count = DAY_MS // YEAR_STEP_MS
    for number in range(YEAR_DAYS):
        start = begin + number * DAY_MS
        every = np.array([values_of(point, count) for point in range(len(refs))])
        parts = [Part(start + at * YEAR_STEP_MS, refs, every[:, at].copy()) for at in range(count)]
        await store.write([Entry(EntryId(start, 0), parts)])
        if number % 30 == 29:
            store.window.close_due(0, force=True)
            await store.maintain(start + 2 * DAY_MS)
    store.window.close_due(0, force=True)
    now_ms = begin + YEAR_DAYS * DAY_MS + DAY_MS
    for _ in range(YEAR_DAYS // 30):
        await store.maintain(now_ms)
    rows = []
    for what, step, series in (("1-hour", 3_600_000, 1), ("1-day", DAY_MS, 1), ("1-day", DAY_MS, 100)):
        query = Query(refs[:series], begin, begin + YEAR_DAYS * DAY_MS, now_ms, step, Aggregate.MEAN, limit=10_000)
        first, usual, answer = await timed(partial(store.query, query))
        if len(answer[refs[0]]) != YEAR_DAYS * DAY_MS // step:
            raise SystemExit(f"{len(answer[refs[0]])} intervals in a year of {what} means")
        case = f"{series} point{'s' if series > 1 else ''}, a year of {what} means"
        rows += [
            Row(NAMES["embedded"], f"{case}, first", first, "ms"),
            Row(NAMES["embedded"], case, usual, "ms", 200 if series == 1 else None),
        ]
    await store.close()
    return rows


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", default="embedded,influx,victoria")
    parser.add_argument("--rows", type=int, default=10_022_400, help="samples of the day")
    parser.add_argument("--queued", type=int, default=1_000_000, help="samples in the queue")
    parser.add_argument("--no-year", action="store_true")
    parser.add_argument("--dry", action="store_true", help="write no results file")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="voltage-bench-") as folder:
        servers = Servers(Path(folder))
        try:
            for name in given.stores.split(","):
                own = Path(folder) / f"{name}-own"
                (own / "config").mkdir(parents=True)
                if given.queued:
                    rows += drain(name, servers, given.queued, own)
                if given.rows:
                    rows += asyncio.run(day(name, servers, own / "day", max(1, given.rows // SECONDS)))
            if not given.no_year:
                rows += asyncio.run(year(Path(folder) / "year"))
        finally:
            servers.stop()
    table(
        "History", ["store", "what", "value", "unit", "reach"],
        [[r.case, r.metric, f"{r.value:,.2f}", r.unit, "" if r.limit is None else f"{r.limit:g}"] for r in rows],
    )  # fmt: skip
    if not given.dry:
        write("history", rows, load=os.getloadavg()[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
