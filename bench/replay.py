"""Measure the replay log: what keeping it costs, how long a checkpoint holds Redis up, how fast a replay is.

An hour of a site of 1,000 points a second (8 blocks of 125 points a second, 4 channels, every value
changing at every poll, 1,000 rules of which some fire) is recorded as fast as Redis takes it, then replayed.

    make bench-replay ARGS="--minutes 20"
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import click

from bench import load, report
from bench.ingest import aof_size, command_us
from bench.load import Block, Client
from bench.report import Row
from libs.redis import bundle
from libs.redis.client import connect
from libs.redis.functions import Functions
from libs.redis.resp import information
from libs.redis.server import Binary
from services.hissrv.replay import files
from services.hissrv.replay.compare import Comparison
from services.hissrv.replay.keeper import Keeper, Options
from services.hissrv.replay.run import Replay
from tests.support.servers import BINARIES, RedisServer

START: Final = 1_700_000_000_000
ROUNDS: Final = 9
CALLS: Final = 2000
CAP: Final = 1 << 30
SIZE: Final = 125
BLOCKS_S: Final = 8
RULES: Final = 1000
FLIGHT: Final = 8


class Site:
    """The benchmark's site: a server, a clock of its own, four channels."""

    def __init__(self, running: RedisServer, client: Client, *, simulation: bool) -> None:
        """Take the channels."""
        self.running = running
        self.client = client
        self.now = START
        self.seq = 0
        self.blocks = load.make_blocks(SIZE)
        client.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
        if simulation:
            client.call("HSET", "voltage:clock", "simulation", "1", "last", START)
        self.epoch = load.claim(client)

    def first_values(self) -> Iterator[float]:
        """Yield the points' values in the first variant, in the order of their references."""
        found = {
            (block.channel, point): float(value)
            for block in self.blocks
            for point, value in zip(block.ids, block.values[0], strict=True)
        }
        for point in range(1, load.POINTS + 1):
            for channel in range(load.CHANNELS):
                yield found[str(load.FIRST_CHANNEL + channel), str(point)]

    def poll(self, calls: int, *, simulated: bool) -> None:
        """Send blocks, `BLOCKS_S` a second of simulated time."""
        waiting = 0
        for _ in range(calls):
            block, turn = self.blocks[self.seq % len(self.blocks)], self.seq // len(self.blocks)
            self.client.send(*(self._at(block, turn) if simulated else load.words(block, self.epoch, turn)))
            self.seq += 1
            waiting += 1
            if waiting == FLIGHT:
                self.client.take()
                waiting -= 1
        for _ in range(waiting):
            self.client.take()

    def _at(self, block: Block, turn: int) -> tuple[str | bytes | int, ...]:
        self.now = START + self.seq * 1000 // BLOCKS_S
        packed = load.document(block, self.epoch, turn, at=self.now)
        return ("FCALL", "comsrv_ingest", 1, block.channel, packed, block.texts[turn % load.VARIANTS])


@contextmanager
def server(kind: str) -> Iterator[tuple[RedisServer, Client]]:
    """Start a server with an append-only file."""
    with tempfile.TemporaryDirectory(prefix="voltage-bench-") as folder:
        options = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", "1gb"]
        running = RedisServer(kind, Path(folder), *options)
        try:
            with Client(running.url, 60.0) as client:
                yield running, client
        finally:
            running.stop()


def cost(kind: str) -> list[Row]:
    """Measure ingest with the log off and on, in turns, and what the append-only file grows by."""
    us: dict[str, list[float]] = {"off": [], "on": []}
    grown: dict[str, list[float]] = {"off": [], "on": []}
    with server(kind) as (running, client):
        site = Site(running, client, simulation=False)
        site.poll(CALLS, simulated=False)
        for _ in range(ROUNDS):
            for case in ("off", "on"):
                client.call("FCALL", "replay_keep", 0, f'{{"bytes":{CAP if case == "on" else 0}}}')
                client.call("DEL", "hissrv:queue", "hissrv:queue:size")
                client.call("CONFIG", "RESETSTAT")
                before = aof_size(client)
                site.poll(CALLS, simulated=False)
                calls, spent = command_us(client)["fcall"]
                us[case].append(spent / calls)
                grown[case].append((aof_size(client) - before) / CALLS / SIZE)
    off, on = median(us["off"]), median(us["on"])
    return [
        Row("ingest of 125 points, no log", "in Redis", off, "us"),
        Row("ingest of 125 points, log kept", "in Redis", on, "us", off),
        Row("append-only file, no log", "a point", median(grown["off"]), "bytes"),
        Row("append-only file, log kept", "a point", median(grown["on"]), "bytes", median(grown["off"])),
    ]


async def record(running: RedisServer, site: Site, folder: Path, minutes: float) -> list[Row]:
    """Record some time of the site; return what keeping it took."""
    client = connect(running.url)
    keeper = Keeper(Functions(client), running.url, folder, Options())
    await keeper.turn(now=True)
    taken = information(site.client, "stats")["latest_fork_usec"]
    calls = int(minutes * 60 * BLOCKS_S)
    spent = 0.0
    for start in range(0, calls, CALLS):
        site.poll(min(CALLS, calls - start), simulated=True)
        before = time.process_time()
        await keeper.turn(now=True)
        spent += time.process_time() - before
    await client.aclose()
    held = sum(path.stat().st_size for path in files.logs(folder))
    checkpoint = files.checkpoints(folder)[-1].path.stat().st_size
    points = calls * SIZE
    return [
        Row("checkpoint: Redis is held up by the fork", "once an hour", float(taken) / 1000, "ms"),
        Row("checkpoint", "on disk", checkpoint / 1e6, "MB"),
        Row("log on disk", "a point", held / points, "bytes"),
        Row("log on disk at 1,000 points/s", "a day", held / points * 86.4, "MB"),
        Row("hissrv: CPU of keeping 1,000 points/s", "of a core", 100 * spent / (minutes * 60), "%"),
    ]


def replayed(folder: Path, kind: str, minutes: float) -> list[Row]:
    """Replay what was recorded."""
    binary = Binary(BINARIES[kind](), "7.0.0", "the benchmark's")
    replay = Replay(folder, binary, "", START, START + int(minutes * 60_000))
    comparison = Comparison(changed=False)
    began = time.perf_counter()
    for outcome in replay.run():
        comparison.take(outcome)
    took = time.perf_counter() - began
    if comparison.total or not replay.exact:
        raise click.ClickException(f"{comparison.total} differences; {replay.reasons}")
    points = replay.calls * SIZE
    return [
        Row(f"replay of {minutes:g} minutes, {comparison.entries} entries of journals the same", "took", took, "s"),
        Row("replay at 1,000 points/s", "times real time", minutes * 60 / took, "x", 100),
        Row("replay", "points/s", points / took, "points/s"),
    ]


@click.command()
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--minutes", default=60.0, help="How much of the site's time is recorded and replayed.")
def main(kind: str, minutes: float) -> None:
    """Measure what keeping the replay log costs, and how fast a replay is."""
    rows = cost(kind)
    with tempfile.TemporaryDirectory(prefix="voltage-bench-") as place, server(kind) as (running, client):
        site = Site(running, client, simulation=True)
        # Values swing by 0.007: twenty rules turn twice in eight polls.
        limits = [value + 0.0035 for value in site.first_values()][:: load.POINTS * load.CHANNELS // RULES]
        load.put_rules(client, RULES, at=lambda number: limits[number] if number % 50 == 0 else 1000.0)
        folder = Path(place) / "replay"
        rows += asyncio.run(record(running, site, folder, minutes))
        rows += replayed(folder, kind, minutes)
    lines = [[row.case, row.metric, f"{row.value:,.4g}", row.unit] for row in rows]
    report.table("replay log", ["case", "", "value", "unit"], lines)
    click.echo(report.write("replay", rows, server=kind))


if __name__ == "__main__":
    main()
