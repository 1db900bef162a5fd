"""netsrv as a process, killed while it sends and while the broker is away: nothing lost, hardly anything twice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.integration.hissrv.support import Channel, section
from tests.integration.netsrv.support import network
from tests.support.brokers import Broker, Subscriber
from tests.support.servers import RedisServer, free_port
from tests.support.wait import wait_until

WINDOW = 5
KILLS = 3
BLOCKS = 60


class Process:
    """netsrv as a process of its own."""

    def __init__(self, redis_server: RedisServer, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOLTAGE_", "NETSRV_"))}
        self.environ = kept | {
            "VOLTAGE_REDIS_URL": redis_server.url,
            "VOLTAGE_DATA_DIR": str(folder),
            "VOLTAGE_CONFIG_DIR": str(folder / "config"),
            "VOLTAGE_PORT_BASE": str(min(free_port(), 60_000)),
            "NETSRV_FORWARD_LINGER_MS": "0",
            "NETSRV_FORWARD_BATCH_ENTRIES": "7",
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.netsrv", env=self.environ, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None

    def log(self) -> str:
        """Return what it said."""
        return (self.folder / "log").read_text()


class Source:
    """Numbered blocks, and what of the queue the store would take."""

    def __init__(self, functions: Functions, channel: Channel) -> None:
        self.functions = functions
        self.channel = channel
        self.sent = 0

    async def send(self, blocks: int) -> None:
        """Send blocks; the n-th has the value n."""
        for _ in range(blocks):
            self.sent += 1
            await self.channel.send(self.sent, section("T", {"1": self.sent}))

    async def taken(self) -> bool:
        """Let the store take all; say whether netsrv has taken all too."""
        while True:
            reply: Any = await self.functions.call("batch_collect", None, {"consumer": "store"})
            if not reply[0]:
                return bool(await execute(self.functions.client, "XLEN", "hissrv:queue") == 0)
            await self.functions.call("batch_acknowledge", reply[0].decode())


@pytest.fixture
async def netsrv(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Process]:
    """Give the process, not started."""
    made = Process(redis_server, tmp_path)
    yield made
    await made.kill()


@pytest.fixture
async def later(broker: Broker) -> AsyncIterator[Subscriber]:
    """Give another subscriber, not started."""
    made = Subscriber(broker, "#")
    yield made
    await made.stop()


@pytest.fixture
async def source(functions: Functions, channel: Channel, broker: Broker) -> Source:
    """Give numbered blocks that a route forwards."""
    await functions.call("network_upsert", "cloud", network(broker, window=WINDOW))
    await functions.call("route_upsert", "r1", {"network": "cloud", "source": "comsrv:1001:T:1", "target": "n"})
    return Source(functions, channel)


def numbers(heard: Subscriber) -> list[int]:
    """Return the numbers that arrived, in order."""
    return [int(orjson.loads(text)["points"][0]["value"]) for topic, text in heard.messages() if topic == "n"]


def once(found: list[int]) -> list[int]:
    """Return the first arrival of each."""
    return list(dict.fromkeys(found))


async def test_killed_while_it_sends(netsrv: Process, heard: Subscriber, source: Source) -> None:
    """Three kills in the middle of sending: all arrive, in order; at most what was on its way arrives twice."""
    for _ in range(KILLS):
        before = len(numbers(heard))
        await source.send(BLOCKS)
        await netsrv.start()

        async def some(before: int = before) -> bool:
            return len(numbers(heard)) > before

        await wait_until(some, f"something arrives; {netsrv.log()}")
        await netsrv.kill()
    await netsrv.start()

    async def everything() -> bool:
        return len(once(numbers(heard))) == source.sent

    await wait_until(everything, f"everything arrives; {netsrv.log()}")
    await wait_until(source.taken, "the queue in Redis is empty")
    await netsrv.kill()
    found = numbers(heard)
    assert once(found) == list(range(1, source.sent + 1))

    async def last_will() -> bool:
        return heard.messages()[-1] == ("voltage/cloud/status", '{"state":"offline"}')

    await wait_until(last_will, "the broker says that netsrv is gone")
    assert len(found) <= source.sent + KILLS * WINDOW


async def test_the_broker_is_away(
    netsrv: Process, broker: Broker, heard: Subscriber, later: Subscriber, source: Source
) -> None:
    """The broker is killed, then netsrv twice: Redis does not hold what waits, the disk does, and all of it arrives."""
    await netsrv.start()
    await source.send(BLOCKS)

    async def all_of_it() -> bool:
        return len(once(numbers(heard))) == BLOCKS

    await wait_until(all_of_it, f"the first arrive; {netsrv.log()}")
    broker.kill()
    for _ in range(2):
        await source.send(BLOCKS)
        await wait_until(source.taken, f"the queue in Redis is empty; {netsrv.log()}")
        await netsrv.kill()
        await source.send(BLOCKS)
        await netsrv.start()
    await wait_until(source.taken, f"the queue in Redis is empty; {netsrv.log()}")
    await netsrv.kill()
    broker.start()
    # Another subscriber is there before netsrv is: what a broker gives away unheard is lost by its own promise.
    await later.start()
    await netsrv.start()

    async def the_rest() -> bool:
        return once(numbers(later))[-1:] == [source.sent]

    await wait_until(the_rest, f"the rest arrives; {netsrv.log()}")
    await netsrv.kill()
    found = numbers(later)
    # What was on its way when the broker died may come again.
    assert once(found)[-4 * BLOCKS :] == list(range(BLOCKS + 1, 5 * BLOCKS + 1))
    assert len(found) <= 4 * BLOCKS + WINDOW
