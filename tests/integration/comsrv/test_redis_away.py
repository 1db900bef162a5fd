"""Redis goes away, loses replies, restarts: polling goes on and the ledger balances."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from libs.errors import UnavailableError
from libs.redis import client, library
from libs.redis.functions import Functions
from services.comsrv import ledger
from tests.integration.comsrv.proxy import LossyProxy
from tests.integration.comsrv.site import Site, all_counted, meter
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
    assert ledger.balance(*(await site.functions.ledger())[:2])["balanced"]
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
    found = ledger.balance(*(await site.functions.ledger())[:2])
    assert found["balanced"], found
    assert found["lost"]["redis_restart"] >= 15
    assert all_counted(polls, found["samples"]["polled"] + found["lost"]["redis_restart"], 3)
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
    found = ledger.balance(*(await site.functions.ledger())[:2])
    assert found["balanced"], found
    # Three points a poll, no sample lost or counted twice.
    assert all_counted(good_polls, found["samples"]["polled"], 3)
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
    assert len(uplink._waiting) <= 64
    await start_again(durable, site)
    await site.becomes("T:1", "12.300000")
    await uplink.drained()

    async def counted() -> bool:
        found = ledger.balance(*(await site.functions.ledger())[:2])
        assert found["balanced"], found
        return found["samples"]["rejected"].get("not_sent", 0) >= 30

    await wait_until(counted, "the dropped samples are in the ledger")
    await site.stack.aclose()


async def test_what_a_slow_redis_does_not_take_before_a_stop_is_counted(durable: RedisServer, tmp_path: Path):
    """Every sample that was read is in the ledger, and the ledger balances."""
    site = await running(durable.url, tmp_path)
    channel = meter(site.device.port, polling={"interval_ms": 10})
    runner = await site.run(channel)
    await site.becomes("T:1", "12.300000")
    uplink, poller = runner.uplink, runner.poller
    assert uplink is not None
    assert poller is not None
    taken = asyncio.Event()
    ingest = site.functions.ingest

    async def slow(*words: Any) -> bool:
        await taken.wait()
        return await ingest(*words)

    site.functions.ingest = slow  # type: ignore[method-assign] # a Redis that takes its time
    site.device.set_registers(0, 7)

    async def waiting() -> bool:
        return len(uplink._waiting) > 5

    await wait_until(waiting, "readings wait for Redis")
    stopping = asyncio.create_task(runner.stop())

    async def given_up() -> bool:
        return uplink.dropped > 0

    await wait_until(given_up, "the stop gave up what waited")
    taken.set()
    await stopping
    found = ledger.balance(*(await site.functions.ledger())[:2])
    assert found["balanced"], found
    assert found["samples"]["rejected"]["not_sent"] == uplink.dropped
    assert all_counted(poller.statistics, found["samples"]["polled"], 3)
    await site.stack.aclose()
