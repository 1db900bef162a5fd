"""The broker away for ten minutes, and netsrv killed meanwhile: is anything lost, doubled or growing?

`make chaos-network` (ten minutes by the clock), or `make chaos-network ARGS="--minutes 1"`.
A Redis of its own, netsrv and hissrv as processes, mosquitto as broker, mosquitto_sub in a durable
session as the independent receiver. Numbered values come all the time. Exits 1 when a value is
lost, comes out of order, comes twice more often than QoS 1 allows, or when memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import orjson

from bench.report import Row, table, write
from libs.redis import library
from libs.redis.client import connect, execute
from libs.redis.functions import Functions
from services.comsrv.ledger import balance
from tests.support.brokers import Broker, Subscriber
from tests.support.servers import RedisServer, free_port
from tests.support.wait import wait_until

CHANNEL: Final = 1001
WINDOW: Final = 10
CALM_S: Final = 15.0
SAMPLE_S: Final = 2.0
# When netsrv is killed, as shares of the time the broker is away; and once more while it catches up.
KILLS: Final = (0.25, 0.5, 0.75)
# Each end of a connection or a process may repeat what was on its way: the broker's, and the last kill.
REPEATS: Final = 2 * WINDOW
GROWTH_MB: Final = 32.0


class Process:
    """A service as a process of its own."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{self.name}", env=self._environ, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            if self._process.returncode is not None:
                raise RuntimeError(f"{self.name} ended by itself: {self.log()}")
            self._process.kill()
            await self._process.wait()
            self._process = None

    def log(self) -> str:
        """Return the end of what it said."""
        return self._log.read_text(errors="replace")[-4000:]

    def memory_mb(self) -> float:
        """Return its resident memory; 0 while it does not run."""
        if self._process is None:
            return 0.0
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except FileNotFoundError:
            return 0.0
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


class Source:
    """Numbered values: the n-th block says n."""

    def __init__(self, functions: Functions, rate: float) -> None:
        self.sent = 0
        self._functions = functions
        self._rate = rate
        self._epoch = 0
        self.over = False

    async def open(self) -> None:
        """Define and claim the channel, and say where its values go."""
        document = {"id": CHANNEL, "name": "n", "protocol": "virtual", "points": {"T": [{"id": 1, "name": "n"}]}}
        await self._functions.call("channel_upsert", CHANNEL, document)
        claim = {"owner": "chaos", "interval_ms": 60_000}
        self._epoch = (await self._functions.json("channel_claim", CHANNEL, claim))["epoch"]

    async def run(self) -> None:
        """Send until it is over; a call that is under way is finished."""
        began, first = time.monotonic(), self.sent
        while not self.over:
            due = first + int((time.monotonic() - began) * self._rate)
            while self.sent < due:
                await self._send(self.sent + 1)
            await asyncio.sleep(0.02)

    async def _send(self, number: int) -> None:
        document = {
            "epoch": self._epoch, "seq": number, "block": "b", "channel": CHANNEL,
            "at_ms": time.time_ns() // 1_000_000, "counters": {"polled": 1},
            "sections": [{"type": "T", "ids": ["1"], "values": [f"{number}.000000"], "quality": {}}],
        }  # fmt: skip
        await self._functions.call("comsrv_ingest", CHANNEL, msgpack.packb(document))
        self.sent = number


class Figures(NamedTuple):
    """What was measured on the way."""

    calm_mb: float
    most_mb: float
    queued: int
    queue_kb: float
    catch_up_s: float


class Run:
    """One run; everything of it lies in one folder."""

    def __init__(self, folder: Path, functions: Functions, url: str, away_s: float, rate: float) -> None:
        self._functions = functions
        self._away_s = away_s
        self._disk = folder / "netsrv" / "cloud.db"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VOLTAGE_", "NETSRV_", "HISSRV_"))}
        environ = kept | {
            "VOLTAGE_REDIS_URL": url, "VOLTAGE_DATA_DIR": str(folder), "VOLTAGE_CONFIG_DIR": str(folder / "config"),
            "VOLTAGE_PORT_BASE": str(free_port()),
        }  # fmt: skip
        self.netsrv, self.hissrv = (Process(name, folder, environ) for name in ("netsrv", "hissrv"))
        # The receiver's session outlives the broker; started by root it would lose the right to write it down.
        keeping = ["persistence true", f"persistence_location {folder}/broker/", "max_queued_messages 0"]
        if os.geteuid() == 0:
            keeping.append("user root")
        self.broker = Broker(folder / "broker", free_port(), *keeping)
        self.heard = Subscriber(self.broker, "n", "-c", "-i", "receiver")
        self.source = Source(functions, rate)
        self._most_mb = 0.0

    async def run(self) -> Figures:
        """Run it whole."""
        self.broker.start()
        await self.heard.start()
        await self.source.open()
        network = {"type": "mqtt", "host": "127.0.0.1", "port": self.broker.port, "window": WINDOW}
        await self._functions.call("network_upsert", "cloud", network)
        await self._functions.call(
            "route_upsert", "r1", {"network": "cloud", "source": f"comsrv:{CHANNEL}:T:1", "target": "n"}
        )
        await self.netsrv.start()
        await self.hissrv.start()
        sending = asyncio.create_task(self.source.run())
        try:
            calm_mb = await self._sample_for(CALM_S)
            say(f"the broker goes; {len(self.numbers())} values arrived so far")
            self._stop_broker()
            await self._away()
            queued, size = await self._waiting()
            say(f"the broker is back; {queued} messages wait on disk in {size:,.0f} kB")
            began = time.monotonic()
            self.broker.start()
            await self._kill_in_the_middle()
        finally:
            self.source.over = True
            await sending
        await self._arrived()
        return Figures(calm_mb, self._most_mb, queued, size, time.monotonic() - began)

    def numbers(self) -> list[int]:
        """Return the numbers that arrived, in order."""
        return [int(orjson.loads(text)["points"][0]["value"]) for _, text in self.heard.messages()]

    def _stop_broker(self) -> None:
        """End it in order, as a reboot does: what it has acknowledged it keeps."""
        process, self.broker.process = self.broker.process, None
        if process is not None:
            process.terminate()
            process.wait(10)

    async def _sample_for(self, seconds: float) -> float:
        end, most = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            await asyncio.sleep(min(SAMPLE_S, max(end - time.monotonic(), 0.01)))
            most = max(most, self.netsrv.memory_mb())
        self._most_mb = max(self._most_mb, most)
        return most

    async def _away(self) -> None:
        done = 0.0
        for share in (*KILLS, 1.0):
            await self._sample_for((share - done) * self._away_s)
            done = share
            if share < 1:
                say(f"netsrv is killed; {self.source.sent} values so far")
                await self.netsrv.kill()
                await asyncio.sleep(1)
                await self.netsrv.start()

    async def _waiting(self) -> tuple[int, float]:
        with sqlite3.connect(f"file:{self._disk}?mode=ro", uri=True) as db:
            (count, size) = db.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM messages").fetchone()
        return count, size / 1024

    async def _kill_in_the_middle(self) -> None:
        before = len(self.numbers())

        async def catching_up() -> bool:
            return len(self.numbers()) > before + 100

        await wait_until(catching_up, "netsrv sends again", timeout_s=90)
        say("netsrv is killed while it catches up")
        await self.netsrv.kill()
        await self.netsrv.start()
        await self._sample_for(CALM_S)

    async def _arrived(self) -> None:
        async def everything() -> bool:
            self._most_mb = max(self._most_mb, self.netsrv.memory_mb())
            return len(set(self.numbers())) >= self.source.sent

        try:
            await wait_until(everything, "everything arrives", timeout_s=120)
        except AssertionError as error:
            say(str(error))

    async def close(self) -> None:
        """End all processes."""
        await self.netsrv.kill()
        await self.hissrv.kill()
        await self.heard.stop()
        self.broker.kill()


def say(text: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


async def ledger(functions: Functions) -> dict[str, Any]:
    """Return the ledger, once the queue in Redis is empty."""

    async def empty() -> bool:
        return bool(await execute(functions.client, "XLEN", "hissrv:queue") == 0)

    await wait_until(empty, "the queue in Redis is empty", timeout_s=30)
    found = {k.decode(): int(v) for k, v in (await execute(functions.client, "HGETALL", "voltage:ledger")).items()}
    return balance(found, int(await execute(functions.client, "HGET", "hissrv:queue:size", "samples") or 0))


def judge(run: Run, figures: Figures) -> tuple[list[Row], list[str]]:
    """Return the figures, and what was wrong."""
    found, sent = run.numbers(), run.source.sent
    repeats = sum(count - 1 for count in Counter(found).values())
    first = list(dict.fromkeys(found))
    lost, strange = sent - len(set(found)), len(set(found) - set(range(1, sent + 1)))
    growth = figures.most_mb - figures.calm_mb
    rows = [
        Row("values", "sent", sent, "values"),
        Row("values", "arrived", len(set(found)), "values", sent),
        Row("values", "lost", lost, "values"),
        Row("values", "twice", repeats, "values", REPEATS),
        Row("outage", "waited on disk", figures.queued, "messages"),
        Row("outage", "size on disk", figures.queue_kb, "kB"),
        Row("outage", "all arrived after", figures.catch_up_s, "s"),
        Row("memory of netsrv", "before", figures.calm_mb, "MB"),
        Row("memory of netsrv", "at most", figures.most_mb, "MB", figures.calm_mb + GROWTH_MB),
    ]
    wrong = [
        (lost > 0, f"{lost} values are lost"),
        (strange > 0, f"{strange} values arrived that were not sent"),
        (first != sorted(first), "values arrived out of order"),
        (repeats > REPEATS, f"{repeats} values arrived twice, {REPEATS} may"),
        (growth > GROWTH_MB, f"netsrv grew by {growth:.0f} MB"),
    ]
    return rows, [text for bad, text in wrong if bad]


async def chaos(minutes: float, rate: float) -> int:
    """Run it and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="voltage-chaos-") as name:
        folder = Path(name)
        server = RedisServer("redis", folder, "--appendonly", "yes")
        client = connect(server.url)
        functions = Functions(client)
        await library.load(client)
        run = Run(folder, functions, server.url, minutes * 60, rate)
        try:
            figures = await run.run()
            rows, wrong = judge(run, figures)
            if not (book := await ledger(functions))["balanced"]:
                wrong.append(f"the ledger does not balance: {book}")
            if wrong:
                print(run.netsrv.log())
        finally:
            await run.close()
            await client.aclose()
            server.stop()
    table(
        f"Chaos: the broker away for {minutes:g} minutes, netsrv killed {len(KILLS) + 1} times",
        ["what", "figure", "value", "unit", "limit"],
        [[r.case, r.metric, f"{r.value:,.1f}", r.unit, "" if r.limit is None else f"{r.limit:,.1f}"] for r in rows],
    )
    print("\n".join(wrong) or "nothing is lost, doubled beyond QoS 1, out of order or growing; the ledger balances")
    write("chaos-network", rows, minutes=minutes, rate=rate, wrong=wrong)
    return 1 if wrong else 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long the broker is away")
    parser.add_argument("--rate", type=float, default=50, help="values a second")
    options = parser.parse_args()
    return asyncio.run(chaos(options.minutes, options.rate))


if __name__ == "__main__":
    sys.exit(main())
