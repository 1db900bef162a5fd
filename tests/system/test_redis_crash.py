"""Redis is killed in the middle of commands and polls: what was answered is there, the image comes back whole."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from libs.redis.resp import Connection
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

FINAL = {"verified", "failed", "expired", "rejected", "mismatch"}


def image(redis: Connection) -> set[bytes]:
    """Return the telemetry that a channel has."""
    return set(redis.call("HKEYS", "comsrv:1003:T"))


async def test_a_killed_redis_forgets_no_answered_command(own_site: Callable[..., Site]):
    """Each answered command is in the ledger, ended once; all points are good again; the ledger balances."""
    site = own_site()
    answered: dict[str, str] = {}
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())

        async def command() -> None:
            value = 0
            while not stop.is_set():
                value = (value + 1) % 20
                with suppress(aiohttp.ClientError):
                    reply = await api(
                        "POST", "/api/channels/1003/commands?wait_ms=500", {"type": "A", "point": 1, "value": value}
                    )
                    if reply.status == 202:
                        answered[reply.body["id"]] = reply.body["state"]

        with site.redis() as redis:
            whole = image(redis)
        commanding = asyncio.create_task(command())

        async def some(count: int) -> bool:
            return len(answered) >= count

        await wait_until(lambda: some(5), "commands are answered")
        first = site.pid("redis")
        os.kill(first, signal.SIGKILL)

        async def replaced() -> bool:
            return site.children().get("redis", first) != first

        await wait_until(replaced, "Redis was started again")
        before = len(answered)
        await wait_until(lambda: some(before + 5), "commands are answered again", 20)
        stop.set()
        await commanding

        async def ended() -> bool:
            states = [(await api("GET", f"/api/commands/{name}")).body.get("state") for name in answered]
            return all(state in FINAL for state in states)

        await wait_until(ended, "each answered command is there and has ended", 15)
        for name, state in answered.items():
            if state in FINAL:
                assert (await api("GET", f"/api/commands/{name}")).body["state"] == state

        with site.redis() as redis:

            async def good() -> bool:
                return image(redis) == whole and not redis.call("HLEN", "comsrv:1003:T:q")

            await wait_until(good, "the whole image is good again")
        ledger = await api("GET", "/api/ledger")
        assert ledger.body["balanced"], ledger
