"""The service as a process, killed while it writes: nothing acknowledged is gone, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from libs.influx.client import Server
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.hissrv.store.contract import Query
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from tests.integration.hissrv.support import Channel, section
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer, free_port
from tests.support.wait import wait_until

KILLS = 3
BLOCKS = 40
# Processes start slowly on a busy machine.
PATIENCE_S = 60.0


Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Start]:
    """Give a way to start hissrv as a process; none outlives the test."""
    started: list[asyncio.subprocess.Process] = []

    async def run(**more: str) -> asyncio.subprocess.Process:
        started.append(await process(redis_server, tmp_path, **more))
        return started[-1]

    yield run
    for one in started:
        if one.returncode is None:
            one.kill()
            await one.wait()


async def process(redis_server: RedisServer, folder: Path, **more: str) -> asyncio.subprocess.Process:
    """Start hissrv as a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOLTAGE_", "HISSRV_"))}
    environ = kept | {
        "VOLTAGE_REDIS_URL": redis_server.url,
        "VOLTAGE_DATA_DIR": str(folder),
        "VOLTAGE_CONFIG_DIR": str(folder / "config"),
        "VOLTAGE_PORT_BASE": str(min(free_port(), 60_000)),
        "HISSRV_CONSUMER_LINGER_MS": "0",
        "HISSRV_CONSUMER_BATCH_ENTRIES": "3",
        "HISSRV_STORE_WINDOW_MS": "1000",
        **more,
    }
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.hissrv", env=environ, stdout=log, stderr=log
        )


async def test_killed_again_and_again(start: Start, functions: Functions, tmp_path: Path) -> None:
    """Killed in the middle of its work three times, the store ends with each sample exactly once."""
    channel = Channel(functions)
    await channel.claim()
    sent = 0

    async def counted(name: str) -> int:
        return int(await execute(functions.client, "HGET", "voltage:ledger", name) or 0)

    for round_number in range(KILLS):
        before = await counted("written")
        for _ in range(BLOCKS):
            sent += 1
            await channel.send(sent, section("T", {"1": sent, "2": -sent}))
        process = await start()

        async def some(before: int = before) -> Any:
            return await counted("written") > before

        await wait_until(some, f"round {round_number}: something is written; {(tmp_path / 'log').read_text()}")
        process.kill()
        await process.wait()
    process = await start()

    async def everything() -> Any:
        return await counted("written") == 2 * sent

    await wait_until(everything, "everything is written")

    async def listens() -> bool:
        # What was killed last may have written everything; only who listens takes a signal.
        return (tmp_path / "log").read_text().count("listening on") > KILLS

    await wait_until(listens, "the last one runs")
    process.terminate()
    assert await process.wait() == 0, (tmp_path / "log").read_text()
    store = EmbeddedStore(tmp_path / "history")
    await store.open()
    answer = await store.query(Query(["comsrv:1001:T:1", "comsrv:1001:T:2"], 0, 2**50, 2**50))
    await store.close()
    expected = [(number, float(number)) for number in range(1, sent + 1)]
    assert [(point.at_ms, point.value) for point in answer["comsrv:1001:T:1"]] == expected
    assert [point.value for point in answer["comsrv:1001:T:2"]] == [-value for _, value in expected]
    assert await counted("queued") == 2 * sent


async def test_two_workers_and_one_is_killed(start: Start, functions: Functions, influx_server: InfluxServer) -> None:
    """Two processes share the queue into one server; what a killed one had in hand the other takes over."""
    channel = Channel(functions)
    await channel.claim()
    database = f"two{free_port()}"
    server = {"VOLTAGE_INFLUXDB_URL": influx_server.url, "VOLTAGE_INFLUXDB_API": "v1"}
    server |= {"VOLTAGE_INFLUXDB_DATABASE": database, "HISSRV_CONSUMER_IDLE_MS": "1000"}
    workers = [await start(**server, HISSRV_CONSUMER_NAME=name) for name in ("one", "two")]

    async def both() -> Any:
        queue = await functions.read_json("get_batch_status", None)
        return any(group["consumers"] == 2 for group in queue["groups"])

    await wait_until(both, "both take part", PATIENCE_S)
    sent = 0

    async def send(blocks: int) -> None:
        nonlocal sent
        for _ in range(blocks):
            sent += 1
            await channel.send(sent, section("T", {"1": sent, "2": -sent}))

    async def in_hand() -> Any:
        await send(10)
        workers[0].send_signal(signal.SIGSTOP)
        known: Any = await execute(functions.client, "XPENDING", "hissrv:queue", "hissrv")
        found = [one for one in known["consumers"] if one["name"] == b"one"]
        if not found:
            workers[0].send_signal(signal.SIGCONT)
        return found

    await send(BLOCKS)
    await wait_until(in_hand, "a worker is stopped with entries in its hand")
    workers[0].kill()
    await workers[0].wait()
    await send(BLOCKS)

    async def everything() -> Any:
        return int(await execute(functions.client, "HGET", "voltage:ledger", "written") or 0) == 2 * sent

    await wait_until(everything, "everything is written", PATIENCE_S)
    workers[1].terminate()
    await workers[1].wait()
    store = InfluxStore(Server(influx_server.url, "v1", database=database))
    await store.open()
    answer = await store.query(Query(["comsrv:1001:T:1", "comsrv:1001:T:2"], 0, 2**40, 2**40))
    await store.close()
    for ref, sign in (("comsrv:1001:T:1", 1), ("comsrv:1001:T:2", -1)):
        assert [(point.at_ms, point.value) for point in answer[ref]] == [(n, sign * n) for n in range(1, sent + 1)]
    assert await execute(functions.client, "HGET", "hissrv:ledger:server", "written") == b"%d" % (2 * sent)


async def test_the_second_waits_for_the_store(start: Start, functions: Functions, tmp_path: Path) -> None:
    """Two processes on one folder: the second one takes over when the first is killed, with what that had in hand."""
    channel = Channel(functions)
    await channel.claim()
    counters = {"HISSRV_CONSUMER_IDLE_MS": "1000"}
    workers = [await start(**counters, HISSRV_CONSUMER_NAME=name) for name in ("one", "two")]

    async def written() -> int:
        return int(await execute(functions.client, "HGET", "voltage:ledger", "written") or 0)

    await channel.send(1, section("T", {"1": 1}))

    async def first() -> Any:
        return await written() == 1

    await wait_until(first, f"one of them writes; {(tmp_path / 'log').read_text()}", PATIENCE_S)
    known = await execute(functions.client, "XINFO", "CONSUMERS", "hissrv:queue", "hissrv")
    active = 0 if "b'one'" in str(known) else 1
    workers[active].kill()
    await workers[active].wait()
    for number in range(2, BLOCKS):
        await channel.send(number, section("T", {"1": number}))

    async def everything() -> Any:
        return await written() == BLOCKS - 1

    await wait_until(everything, "the other one wrote the rest", PATIENCE_S)
    workers[1 - active].terminate()
    await workers[1 - active].wait()
    store = EmbeddedStore(tmp_path / "history")
    await store.open()
    answer = await store.query(Query(["comsrv:1001:T:1"], 0, 2**40, 2**40))
    await store.close()
    assert [(point.at_ms, point.value) for point in answer["comsrv:1001:T:1"]] == [(n, n) for n in range(1, BLOCKS)]
