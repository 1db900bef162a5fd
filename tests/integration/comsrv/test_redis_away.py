"""Redis goes away, loses replies, restarts: polling goes on and the ledger balances."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from libs.errors import UnavailableError
from libs.redis import client, library
from libs.redis.functions import Functions
from services.comsrv import ledger
from tests.integration.comsrv.proxy import LossyProxy
from tests.integration.comsrv.site import Site
from tests.support.servers import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Give a server that keeps its data over a kill, as the product's does."""
    server = RedisServer("redis", tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


async def running(url: str, folder: Path) -> Site:
    """Return a site whose calls go through a client of its own."""
    connection = client.connect(url, restarts=True)
    if await library.version(connection) is None:
        await library.load(connection)
    site = Site(Functions(connection), folder)
    site.stack.push_async_callback(connection.aclose)
    await site.start()
    return site


async def start_again(durable: RedisServer, site: Site) -> None:
    """Start a killed server; the first call that meets it is told."""
    durable.start()

    async def back() -> bool:
        try:
            return bool(await site.functions.ledger())
        except UnavailableError:
            return False

    await wait_until(back, "Redis is back")


async def test_a_killed_redis_gets_the_whole_image_when_it_is_back(durable: RedisServer, tmp_path: Path):
    site = await running(durable.url, tmp_path)
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    durable.kill()
    assert runner.poller is not None
    polls = runner.poller.statistics.polls
    poller = runner.poller

    async def polled_on() -> bool:
        return poller.statistics.polls > polls + 5

    await wait_until(polled_on, "polling goes on without Redis")
    site.device.set_registers(0, 77)
    await start_again(durable, site)
    await site.becomes("T:1", "7.700000")
    await site.becomes("S:1", "1.000000")
    assert ledger.balance(*await site.functions.ledger())["balanced"]
    await site.stack.aclose()


async def test_what_a_power_cut_of_redis_takes_is_booked_as_lost(durable: RedisServer, tmp_path: Path):
    """Redis comes back with its file as it was a while ago: polled and lost are all that was read."""
    site = await running(durable.url, tmp_path)
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    file = durable.folder / "appendonlydir"
    shutil.copytree(file, tmp_path / "before")
    for number in range(5):
        site.device.set_registers(0, number)
        await site.becomes("T:1", f"{number / 10:.6f}")
    durable.kill()
    shutil.rmtree(file)
    shutil.copytree(tmp_path / "before", file)
    await start_again(durable, site)
    site.device.set_registers(0, 77)
    await site.becomes("T:1", "7.700000")
    assert runner.poller is not None
    polls = runner.poller.statistics
    await runner.stop()
    found = ledger.balance(*await site.functions.ledger())
    assert found["balanced"], found
    assert found["lost"]["redis_restart"] >= 15
    read = 3 * (polls.requests - polls.failures)
    assert found["samples"]["polled"] + found["lost"]["redis_restart"] == read
    await site.stack.aclose()


async def test_lost_replies_neither_lose_nor_double_a_sample(durable: RedisServer, tmp_path: Path):
    """Each call whose reply was lost is sent again and taken for the same."""
    proxy = LossyProxy(durable.socket, tmp_path / "proxy.sock")
    await proxy.start()
    site = await running(durable.url, tmp_path)
    behind = client.connect(proxy.url)
    direct, site.functions.functions = site.functions.functions, Functions(behind)
    runner = await site.run()
    site.functions = type(site.functions)(direct)
    await site.becomes("T:1", "12.300000")
    for number in range(20):
        proxy.lose = 1 + number % 2
        site.device.set_registers(0, number)
        await site.becomes("T:1", f"{number / 10:.6f}")
    await wait_until(_all_lost(proxy), "the replies were lost")
    assert runner.poller is not None
    good_polls = runner.poller.statistics
    await runner.stop()
    found = ledger.balance(*await site.functions.ledger())
    assert found["balanced"], found
    # Three points a poll, no sample lost or counted twice.
    assert found["samples"]["polled"] == 3 * (good_polls.requests - good_polls.failures)
    await site.stack.aclose()
    await behind.aclose()
    await proxy.stop()


def _all_lost(proxy: LossyProxy) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return proxy.lose == 0 and proxy.lost >= 20

    return check


async def test_readings_are_bounded_while_redis_is_away_and_the_dropped_are_counted(
    durable: RedisServer, tmp_path: Path
):
    site = await running(durable.url, tmp_path)
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    durable.kill()
    uplink = runner.uplink
    assert uplink is not None

    async def dropped() -> bool:
        return uplink.dropped >= 30

    await wait_until(dropped, "readings are dropped", 20)
    assert len(uplink._queue) <= 64
    await start_again(durable, site)
    await site.becomes("T:1", "12.300000")
    await uplink.drained()

    async def counted() -> bool:
        found = ledger.balance(*await site.functions.ledger())
        assert found["balanced"], found
        return found["samples"]["rejected"].get("not_sent", 0) >= 30

    await wait_until(counted, "the dropped samples are in the ledger")
    await site.stack.aclose()
