"""kill -9 of anything: it recovers, or nothing is left running."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import aiohttp

from tests.support.processes import NAMES, Api, Site, alive, gone
from tests.support.wait import wait_until

Maker = Callable[..., Site]


async def test_each_service_and_redis_come_back_and_the_site_goes_on(own_site: Maker):
    site = own_site()
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())

        async def polled() -> object:
            with site.redis() as redis:
                return redis.call("HGETALL", "comsrv:1001:seen")

        await api("PUT", "/api/channels/1100/points/T/7", {"value": 42.5})
        for name in (*NAMES, "simulator", "redis"):
            victim = site.pid(name)
            os.kill(victim, signal.SIGKILL)

            async def replaced(name: str = name, victim: int = victim) -> bool:
                return site.children().get(name, victim) != victim

            await wait_until(replaced, f"{name} was started again", 15)

        async def healthy() -> bool:
            try:
                return (await api("GET", "/health")).status == 200
            except aiohttp.ClientError:
                return False

        await wait_until(healthy, f"the gateway says all is well{site.logs()}", 30)
        before = await polled()

        async def goes_on() -> bool:
            return await polled() != before

        await wait_until(goes_on, "comsrv polls and Redis stores")
        assert site.voltage("functions", "check").returncode == 0
        kept = await api("GET", "/api/channels/1100/points/T/7")
        assert kept.body["value"] == 42.5
        await wait_until(lambda: _quality(api, "/api/channels/1001/points/T/1", ""), "points are good again")

        # As a Redis that came back empty: the functions are loaded again, and polling goes on.
        with site.redis() as redis:
            redis.call("FUNCTION", "FLUSH")
        before = await polled()
        await wait_until(goes_on, "comsrv polls after the functions were lost")


async def _quality(api: Api, path: str, quality: str) -> bool:
    return ((await api("GET", path)).body.get("quality") or "").removeprefix("good") == quality


async def test_comsrv_killed_makes_its_points_stale_within_the_lease(own_site: Maker):
    site = own_site("--no-restart")
    os.kill(site.pid("comsrv"), signal.SIGKILL)
    with site.redis() as redis:

        async def stale() -> bool:
            return redis.call("HGET", "comsrv:1001:T:q", "1") == b"bad:stale"

        # The lease is 3 s, the tick that finds it overdue comes every 100 ms.
        await wait_until(stale, "the points of a dead comsrv are stale", 4.5)
        value = redis.call("HGET", "comsrv:1001:T", "1")
        assert value, "the last good value stays readable"


async def test_nothing_is_left_when_voltage_up_is_killed(own_site: Maker):
    site = own_site()
    assert site.process is not None
    children = site.children()
    assert len(children) == len(NAMES) + 2
    site.process.kill()
    site.process.wait()
    await gone(children.values())
    # The lock died with it, so does the next one start, on the same data.
    site.start()
    assert set(site.children()) == set(children)


async def test_stopping_takes_less_than_10_s_and_leaves_nothing(own_site: Maker):
    site = own_site()
    assert site.process is not None
    children = site.children()
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(10) == 0
    assert not [pid for pid in children.values() if alive(pid)]


async def test_a_service_that_hangs_is_replaced(own_site: Maker):
    site = own_site()
    hung = site.pid("rulesrv")
    os.kill(hung, signal.SIGSTOP)

    async def replaced() -> bool:
        return site.children().get("rulesrv", hung) != hung

    await wait_until(replaced, "rulesrv misses three probes and is replaced", 20)
    assert "rulesrv missed 3 health probes" in site.output


async def test_all_services_run_in_one_process(own_site: Maker):
    site = own_site("--single-process")
    assert set(site.children()) == {"comsrv", "simulator", "redis"}  # the first named on its command line
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token("viewer"))
        assert (await api("GET", "/health")).status == 200
