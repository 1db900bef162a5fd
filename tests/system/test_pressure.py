"""hissrv is away and Redis is small: history gives way, polling, alarms and commands do not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

from libs.clock import now_ms
from libs.redis.client import connect
from libs.redis.functions import Functions
from libs.redis.resp import information
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

MAXMEMORY: Final = 64 * 1024 * 1024
CHANNEL: Final = 9001
POINTS: Final = 500


async def fill(functions: Functions, enough: Callable[[], bool]) -> None:
    """Ingest blocks that change wholly, on a channel of our own, until it is enough."""
    points = {"T": [{"id": number} for number in range(1, POINTS + 1)]}
    document = {"id": CHANNEL, "name": "Load", "protocol": "virtual", "enabled": False, "points": points}
    await functions.call("channel_upsert", CHANNEL, document)
    claim = {"owner": "test", "interval_ms": 60_000, "now_ms": now_ms()}
    epoch = (await functions.json("channel_claim", CHANNEL, claim))["epoch"]
    ids = [str(number) for number in range(1, POINTS + 1)]
    for seq in range(1, 20_000):
        at = now_ms()
        values = [f"{random.random() * 1000:.6f}" for _ in ids]
        await functions.call(
            "comsrv_ingest", CHANNEL,
            {
                "epoch": epoch, "seq": seq, "now_ms": at, "at_ms": at, "channel": CHANNEL, "block": "b",
                "origin": "poll", "counters": {"polled": POINTS},
                "sections": [{"type": "T", "ids": ids, "values": values}],
            },
        )  # fmt: skip
        if seq % 100 == 0 and enough():
            return
    raise AssertionError("the queue never reached its cap")


@contextmanager
def hissrv(site: Site) -> Iterator[None]:
    """Run hissrv again."""
    with (
        (site.folder / "hissrv.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "serve", "hissrv"],
            env=site.environ | {"VOLTAGE_REDIS_URL": site.redis_url()}, stdout=log, stderr=log, cwd=site.folder,
        ) as process,
    ):  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


async def test_history_is_dropped_and_counted_while_the_site_goes_on(own_site: Callable[..., Site]):
    site = own_site("--no-restart", VOLTAGE_REDIS_MAXMEMORY="64mb")
    os.kill(site.pid("hissrv"), signal.SIGTERM)
    client = connect(site.redis_url())
    try:
        with site.redis() as redis:

            def dropped() -> int:
                return int(redis.call("HGET", "voltage:ledger", "dropped:queue_full") or 0)

            def used() -> int:
                return int(information(redis, "memory")["used_memory"])

            await fill(Functions(client), lambda: dropped() > 100 * POINTS)
            assert used() < MAXMEMORY

            async with aiohttp.ClientSession() as session:
                api = Api(site, session, site.token())
                command = await api(
                    "POST", "/api/channels/1003/commands?wait_ms=3000", {"type": "A", "point": 1, "value": 5}
                )
                assert command.body["state"] == "verified", command
                low = {"type": "A", "point": 4, "value": 15, "verify": False}
                await api("POST", "/api/channels/1003/commands?wait_ms=3000", low)

                async def raised() -> bool:
                    alarms = (await api("GET", "/api/alarms?limit=200")).body["items"]
                    return any(alarm.get("definition") == "battery_soc_low" for alarm in alarms)

                await wait_until(raised, "the alarm of a low battery")
                before = redis.call("HGETALL", "comsrv:1001:seen")

                async def polled() -> bool:
                    return redis.call("HGETALL", "comsrv:1001:seen") != before

                await wait_until(polled, "polling goes on")

                async def balanced() -> bool:
                    ledger = (await api("GET", "/api/ledger")).body
                    return bool(ledger["balanced"]) and ledger["history"]["dropped"]["queue_full"] > 0

                await wait_until(balanced, "the ledger balances")

                async def drained() -> bool:
                    return int(redis.call("HGET", "hissrv:queue:size", "bytes") or 0) < 100_000

                with hissrv(site):
                    await wait_until(drained, "hissrv is back, the queue drains", 20)
                    await wait_until(balanced, "the ledger balances still")
    finally:
        await client.aclose()
