"""20,000 points a second into history, while hissrv, the store's server and Redis are killed and the disk is full.

Each point has a new value in each of its blocks, and every block that Redis acknowledged is remembered. In the end
every remembered sample must be in the embedded store once, with its value; what was acknowledged in the 2 s before
Redis was killed may be gone (DESIGN section 2), and is counted. Beside the embedded store an InfluxDB takes everything
too (`--no-server` leaves it out); it must have as many samples. The ledger must balance, and memory, queue and disk
stay under their caps. Exits 1 when one of these is broken. The disk is a tmpfs, so this needs root.

    make chaos-history                                  # 10 minutes
    make chaos-history ARGS="--minutes 2"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray

from bench.comsrv_process import AOF, used
from bench.load import Client
from bench.report import Row, table, write
from libs.errors import VoltageError
from libs.influx.client import Influx, Server
from libs.redis import bundle
from services.comsrv.ledger import balance
from services.hissrv.store.contract import Query
from services.hissrv.store.embedded import EmbeddedStore
from tests.support.disks import SmallDisk
from tests.support.influx import InfluxServer
from tests.support.processes import ROOT
from tests.support.servers import RedisServer, free_port

CHANNELS: Final = 8
BLOCKS: Final = 10
POINTS: Final = 250
PROMISE_MS: Final = 2000
CAPS: Final = {"hissrv memory": 500.0, "Redis memory": 600.0, "store": 800.0}
DISK: Final = "1g"
KILL_EVERY_S: Final = (8.0, 20.0)
FULL_S: Final = 20.0
DRAIN_S: Final = 240.0
# What could not be sent while Redis was away is sent faster afterwards, up to this much.
BEHIND_S: Final = 30.0
LOADING_S: Final = 120.0
# Rewritten early, so that a killed server is soon back.
REWRITE: Final = ("--auto-aof-rewrite-min-size", "64mb")


def fill(disk: SmallDisk) -> None:
    """Fill the disk to its last page, at once."""
    with (disk.folder / "filler").open("wb") as file:
        for unit in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    free = os.statvfs(disk.folder)
                    size = max(unit, free.f_bavail * free.f_frsize // unit * unit)
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)


def started(redis: RedisServer) -> None:
    """Start a killed server again; it answers once it has read its append-only file."""
    end = time.monotonic() + LOADING_S
    with suppress(AssertionError):
        redis.start()
        return
    while True:
        with suppress(VoltageError, OSError), Client(redis.url, 5.0) as client:
            client.call("PING")
            return
        if time.monotonic() > end:
            raise SystemExit(f"Redis does not answer {LOADING_S:.0f} s after it was killed")
        time.sleep(0.1)


class Feeder:
    """Sends blocks at a rate, and remembers what was acknowledged and when."""

    def __init__(self, redis: RedisServer, rate: int) -> None:
        """Claim nothing yet."""
        self._redis = redis
        self._pause_s = POINTS / rate
        self._client: Client | None = None
        self._epochs: dict[int, int] = {}
        self._ids = [[str(1 + block * POINTS + at) for at in range(POINTS)] for block in range(BLOCKS)]
        self._last_ms = 0
        self.sequence = 0
        # One row a block: channel, block, instant, number (its values), acknowledged at (ms), 0 for unknown.
        self.sent: list[tuple[int, int, int, int, int]] = []
        self.behind_s = 0.0
        self.took_s = 0.0

    def run(self, until: float, each: Any) -> None:
        """Send until an instant of the monotonic clock; `each` is called between blocks."""
        due = began = time.monotonic()
        while (now := time.monotonic()) < until:
            each(now)
            if now < due:
                time.sleep(due - now)
            self.behind_s = max(self.behind_s, now - due)
            due = max(due + self._pause_s, now - BEHIND_S)
            self._send()
        self.took_s = time.monotonic() - began

    def _send(self) -> None:
        number = self.sequence
        self.sequence += 1
        channel, block = 1001 + number % CHANNELS, number // CHANNELS % BLOCKS
        self._last_ms = at_ms = max(self._last_ms + 1, int(time.time() * 1000))
        try:
            if self._client is None:
                self._connect()
            values = [f"{value:.6f}" for value in values_of(number).tolist()]
            document = {
                "epoch": self._epochs[channel], "seq": number + 1, "channel": channel, "block": f"b{block}",
                "origin": "poll", "at_ms": at_ms, "counters": {"polled": POINTS},
                "sections": [{"type": "T", "ids": self._ids[block], "values": values, "quality": {}}],
            }  # fmt: skip
            assert self._client is not None  # noqa: S101 - made above
            self._client.call("FCALL", "comsrv_ingest", 1, channel, msgpack.packb(document))
        except (VoltageError, OSError):
            self.sent.append((channel, block, at_ms, number, 0))
            self.close()
            time.sleep(0.05)
        else:
            self.sent.append((channel, block, at_ms, number, int(time.time() * 1000)))

    def _connect(self) -> None:
        client = Client(self._redis.url, 10.0)
        for channel in range(1001, 1001 + CHANNELS):
            reply = client.call("FCALL", "channel_claim", 1, channel, '{"owner":"chaos","interval_ms":1200000}')
            self._epochs[channel] = int(orjson.loads(reply)["epoch"])
        self._client = client

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def values_of(number: int) -> NDArray[np.float64]:
    """Return the values of a block, in steps of 0.01, another set for each number."""
    return np.round(np.arange(POINTS) + (number % 90_000) * 0.01, 2)


class Hissrv:
    """The service as a process that is started again."""

    def __init__(self, folder: Path, data: Path, redis: RedisServer, server: InfluxServer | None) -> None:
        """Prepare it."""
        self._log = folder / "hissrv.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VOLTAGE_", "HISSRV_"))}
        self._environ = kept | {
            "VOLTAGE_REDIS_URL": redis.url, "VOLTAGE_DATA_DIR": str(data), "VOLTAGE_CONFIG_DIR": str(folder / "config"),
            "VOLTAGE_PORT_BASE": str(free_port()), "HISSRV_STORE_WINDOW_MS": "20000",
        }  # fmt: skip
        if server is not None:
            self._environ |= {
                "VOLTAGE_INFLUXDB_URL": server.url, "VOLTAGE_INFLUXDB_API": "v1", "VOLTAGE_INFLUXDB_BESIDE": "true",
            }  # fmt: skip
        self.peak_mb = 0.0
        self.start()

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "services.hissrv"]
            self.process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log, cwd=ROOT)

    def watch(self) -> None:
        """Look at its memory; start it again if it died."""
        if self.process.poll() is not None:
            self.start()
        with suppress(OSError, ValueError, KeyError):
            self.peak_mb = max(self.peak_mb, used(self.process.pid).rss_mb)

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(60)


class Chaos:
    """Kills one after the other, in random order, at random times; fills the disk once in each third of the run."""

    def __init__(self, redis: RedisServer, hissrv: Hissrv, server: InfluxServer | None, disk: SmallDisk) -> None:
        """Keep whom to kill."""
        self._redis, self._hissrv, self._server, self._disk = redis, hissrv, server, disk
        self._rng = random.Random(20)
        self._next = time.monotonic() + 5
        self._full_until = 0.0
        self._look = 0.0
        self.full_at: list[float] = []
        self.killed: dict[str, int] = {"hissrv": 0, "server": 0, "Redis": 0, "disk full": 0}
        self.redis_killed_ms: list[int] = []

    def __call__(self, now: float) -> None:
        """Do what is due."""
        if now >= self._look:
            self._look = now + 0.5
            self._hissrv.watch()
        if self._full_until and now >= self._full_until:
            self._disk.empty()
            self._full_until = 0.0
        elif self.full_at and now >= self.full_at[0]:
            self.full_at.pop(0)
            fill(self._disk)
            self.killed["disk full"] += 1
            self._full_until = now + FULL_S
        if now >= self._next:
            self._next = now + self._rng.uniform(*KILL_EVERY_S)
            whom = self._rng.choice(["hissrv", "hissrv", "Redis", *(["server"] if self._server else [])])
            self.killed[whom] += 1
            if whom == "hissrv":
                self._hissrv.kill()
            elif whom == "Redis":
                self.redis_killed_ms.append(int(time.time() * 1000))
                self._redis.kill()
                started(self._redis)
            elif self._server is not None:
                self._server.process.kill()
                self._server.process.wait()
                self._server.start()

    def end(self) -> None:
        """Leave everything as it should be."""
        if self._full_until:
            self._disk.empty()
        self._hissrv.watch()


def drain(redis: RedisServer, hissrv: Hissrv) -> tuple[dict[str, int], int]:
    """Wait until the queue is empty; return the ledger's counters and what is pending."""
    end = time.monotonic() + DRAIN_S
    while True:
        with suppress(VoltageError, OSError), Client(redis.url, 10.0) as client:
            pending = int(client.call("HGET", "hissrv:queue:size", "samples") or 0)
            if not pending or time.monotonic() > end:
                flat = client.call("HGETALL", "voltage:ledger")
                return {
                    name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)
                    if value.lstrip(b"-").isdigit()
                }, pending  # fmt: skip
        hissrv.watch()
        time.sleep(0.2)


async def stored(folder: Path) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]], int]:
    """Return all samples of the store by series, and how many rows its files and open window hold."""
    store = EmbeddedStore(folder)
    await store.open()
    found: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for channel in range(1001, 1001 + CHANNELS):
        for block in range(BLOCKS):
            refs = [f"comsrv:{channel}:T:{1 + block * POINTS + at}" for at in range(POINTS)]
            answer = await store.query(Query(refs, 0, 2**45, 2**45, limit=1_000_000))
            found |= {ref: (points.at_ms, points.value) for ref, points in answer.items()}
    rows = sum(file.rows for file in store.window.files()) + store.window.open_points()
    await store.close()
    return found, rows


def compare(
    sent: list[tuple[int, int, int, int, int]], found: dict[str, tuple[Any, Any]], killed_ms: list[int]
) -> dict[str, int]:
    """Return how many samples are there, lost, lost within the promise, wrong, doubled or never sent."""
    blocks: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for one in sent:
        blocks.setdefault(one[:2], []).append(one[2:])
    counts = dict.fromkeys(("there", "lost", "promised", "wrong", "doubled", "unknown"), 0)
    kills = np.array(killed_ms, np.int64)
    for (channel, number), rows in blocks.items():
        at = np.array([row[0] for row in rows], np.int64)
        acknowledged = np.array([row[2] for row in rows], np.int64)
        ago = kills[None, :] - acknowledged[:, None] if len(kills) else np.full((len(rows), 1), -1)
        risky = ((ago >= -50) & (ago <= PROMISE_MS)).any(axis=1)
        values = np.array([values_of(row[1]) for row in rows])
        for point in range(POINTS):
            instants, value = found[f"comsrv:{channel}:T:{1 + number * POINTS + point}"]
            where = np.searchsorted(at, instants)
            known = (where < len(at)) & (at[np.minimum(where, len(at) - 1)] == instants)
            counts["unknown"] += int((~known).sum())
            counts["doubled"] += len(instants) - len(np.unique(instants))
            counts["wrong"] += int((np.abs(value[known] - values[where[known], point]) > 1e-9).sum())
            there = np.zeros(len(at), np.bool_)
            there[where[known]] = True
            missing = ~there & (acknowledged > 0)
            counts["there"] += int(there.sum())
            counts["lost"] += int((missing & ~risky).sum())
            counts["promised"] += int((missing & risky).sum())
    return counts


async def counted(server: InfluxServer) -> int:
    """Return how many samples the server has."""
    influx = Influx(Server(server.url, "v1", timeout_s=300))
    await influx.open()
    found = await influx.query("SELECT count(value) FROM telemetry")
    await influx.close()
    return int(found[0]["values"][0][1]) if found else 0


def run(folder: Path, minutes: float, rate: int, *, with_server: bool) -> tuple[list[Row], list[str]]:
    """Run it; return the figures, and what is broken."""
    (folder / "redis").mkdir()
    (folder / "config").mkdir()
    (folder / "influx").mkdir()
    disk = SmallDisk(folder / "disk", DISK)
    redis = RedisServer("valkey", folder / "redis", *AOF, *REWRITE, "--maxmemory", "768mb")
    server = InfluxServer(folder / "influx") if with_server else None
    with Client(redis.url, 30.0) as client:
        client.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
        client.call("WAITAOF", 1, 0, 5000)
    hissrv = Hissrv(folder, disk.folder / "data", redis, server)
    try:
        feeder, chaos = Feeder(redis, rate), Chaos(redis, hissrv, server, disk)
        begin = time.monotonic()
        chaos.full_at = [begin + minutes * 60 * part for part in (0.3, 0.7)]
        feeder.run(begin + minutes * 60, chaos)
        feeder.close()
        chaos.end()
        counters, pending = drain(redis, hissrv)
        with Client(redis.url, 10.0) as client:
            info = dict(line.split(":", 1) for line in client.call("INFO", "memory").decode().split() if ":" in line)
        hissrv.stop()
        size = sum(path.stat().st_size for path in (disk.folder / "data").rglob("*") if path.is_file()) / 1e6
        beside = asyncio.run(counted(server)) if server else None
        found, rows = asyncio.run(stored(disk.folder / "data" / "history"))
        ledger = balance(counters, pending)
        counts = compare(feeder.sent, found, chaos.redis_killed_ms)
    finally:
        hissrv.kill()
        redis.stop()
        if server is not None:
            server.stop()
        disk.close()
    peaks = {"hissrv memory": hissrv.peak_mb, "Redis memory": int(info["used_memory_peak"]) / 1e6, "store": size}
    return figures(feeder, chaos, counts, ledger, peaks, rows, beside)


def figures(
    feeder: Feeder, chaos: Chaos, counts: dict[str, int], ledger: dict[str, Any], peaks: dict[str, float],
    rows: int, beside: int | None,
) -> tuple[list[Row], list[str]]:  # fmt: skip
    """Return the table's rows, and what is broken."""
    acknowledged = sum(POINTS for one in feeder.sent if one[4])
    table_rows = [
        Row("sent", "samples acknowledged", acknowledged, "samples"),
        Row("sent", "rate", acknowledged / max(1.0, feeder.took_s), "points/s"),
        Row("sent", "blocks without an answer", sum(1 for one in feeder.sent if not one[4]), "blocks"),
        *(Row("killed", whom, times, "times") for whom, times in chaos.killed.items()),
        Row("store", "samples there", counts["there"], "samples"),
        Row("store", "lost", counts["lost"], "samples", 0),
        Row("store", "gone with the last 2 s of a killed Redis", counts["promised"], "samples"),
        Row("store", "doubled", counts["doubled"], "samples", 0),
        Row("store", "rows beyond the samples", rows - counts["there"] - counts["unknown"], "rows"),
        Row("store", "wrong values", counts["wrong"], "samples", 0),
        Row("store", "never sent", counts["unknown"], "samples", 0),
        *(Row("ledger", name, value, "samples") for name, value in ledger["history"].items() if isinstance(value, int)),
        *(Row("peak", name, value, "MB", CAPS[name]) for name, value in peaks.items()),
    ]
    broken = [name for name in ("lost", "doubled", "wrong", "unknown") if counts[name]]
    if beside is not None:
        table_rows.append(Row("influxdb", "samples there", beside, "samples"))
        if beside < counts["there"]:
            broken.append(f"InfluxDB has {beside} of {counts['there']} samples")
    broken += [f"{name} {value:.0f} MB" for name, value in peaks.items() if value > CAPS[name]]
    if not ledger["balanced"] or ledger["history"]["pending"] or ledger["history"]["dropped"]:
        broken.append(f"ledger {ledger}")
    return table_rows, broken


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=20_000, help="points a second")
    parser.add_argument("--no-server", action="store_true", help="the embedded store alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltage-chaos-") as folder:
        rows, broken = run(Path(folder), given.minutes, given.rate, with_server=not given.no_server)
    table(
        f"Chaos of history, {given.minutes:g} min at {given.rate:,} points/s", ["what", "figure", "value", "unit"],
        [[row.case, row.metric, f"{row.value:,.0f}", row.unit] for row in rows],
    )  # fmt: skip
    print("every promise was kept" if not broken else f"broken: {'; '.join(broken)}")
    write("chaos-history", rows, minutes=given.minutes, rate=given.rate, kept=not broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
