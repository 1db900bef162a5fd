"""netsrv's disk is full: what is to be sent waits in Redis, and goes on in order when there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from libs.redis.functions import Functions
from services.netsrv.app import create_app
from tests.integration.hissrv.support import Channel, section
from tests.integration.netsrv.support import network, settings_of, status_when
from tests.support.brokers import Broker, Subscriber
from tests.support.disks import SmallDisk
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

WINDOW = 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a disk of 24 MB."""
    made = SmallDisk(tmp_path / "small", "24m")
    yield made
    made.close()


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, disk: SmallDisk) -> AsyncIterator[Service]:
    """Give netsrv with its data on the small disk."""
    async with running(create_app, settings_of(redis_server, disk.folder)) as found:
        yield found


async def test_values_wait_in_redis_while_the_disk_is_full(
    functions: Functions, service: Service, disk: SmallDisk, broker: Broker, heard: Subscriber, channel: Channel
) -> None:
    def numbers() -> list[int]:
        return [int(orjson.loads(text)["points"][0]["value"]) for where, text in heard.messages() if where == "n"]

    async def send(first: int, last: int) -> None:
        for number in range(first, last + 1):
            await channel.send(number, section("T", {"1": number}))

    async def arrived(last: int) -> bool:
        return set(numbers()) == set(range(1, last + 1))

    async def health() -> str:
        answer = await service.get("/health")
        return "" if answer.status == 200 else str(answer.body["failed"].get("forwarding", ""))

    await functions.call("network_upsert", "cloud", network(broker, window=WINDOW))
    await functions.call("route_upsert", "r1", {"network": "cloud", "source": "comsrv:1001:T:1", "target": "n"})
    await status_when(service, connected=True)
    await send(1, 20)
    await wait_until(lambda: arrived(20), "all arrive")
    disk.fill(100)
    await send(21, 2000)
    assert "full" in await wait_until(health, "netsrv says that its disk is full")
    disk.empty()
    await wait_until(lambda: arrived(2000), "the rest arrives when there is room", 30)
    found = numbers()
    first = list(dict.fromkeys(found))
    assert first == sorted(first)
    assert len(found) - len(first) <= 2 * WINDOW
    await status_when(service, connected=True, queue={"messages": 0})
