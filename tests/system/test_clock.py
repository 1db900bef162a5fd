"""The machine's clock is set by an hour while everything runs: nothing freezes, nothing happens twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import aiohttp
import pytest

from libs.redis.resp import Connection
from tests.support.clock import SteppedClock
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

HOUR_S: Final = 3600
POINT: Final = "/api/channels/1100/points/T/7"
HELD: Final = {
    "id": "held",
    "name": "Held for three seconds",
    "conditions": [{"source": "comsrv:1100:T:7", "operator": ">", "value": 100, "for_ms": 3000}],
    "actions": [
        {"type": "create_alarm", "params": {"level": "Major", "title": "held"}},
        {"type": "command", "params": {"target": "comsrv:1100:C:1", "value": 1}},
    ],
}
STANDING: Final = {
    "id": "standing",
    "name": "Stands all the time",
    "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": -100000}],
    "actions": [{"type": "create_alarm", "params": {"level": "Minor", "title": "standing"}}],
}


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    return SteppedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory, clock: SteppedClock) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("stepped"), **clock.environ)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
async def api(stepped: Site) -> AsyncIterator[Api]:
    made = stepped.voltage("token", "--role", "engineer", "--ttl", "86400")
    async with aiohttp.ClientSession() as session:
        yield Api(stepped, session, made.stdout.strip().splitlines()[-1])


def entries(redis: Connection, stream: str) -> list[dict[str, str]]:
    found = redis.call("XRANGE", stream, "-", "+")
    return [{name.decode(): value.decode() for name, value in zip(f[::2], f[1::2], strict=True)} for _, f in found]


def fired(redis: Connection, rule: str) -> int:
    return sum(one["rule"] == rule and one["event"] == "fired" for one in entries(redis, "rulesrv:firings"))


async def raised(api: Api, title: str) -> int:
    """Return how often an alarm was raised; a recurrence counts on the open one."""
    return sum(int(one["count"]) for one in await alarms(api, title))


async def alarms(api: Api, title: str) -> list[dict[str, Any]]:
    return [one for one in (await api("GET", "/api/alarms?limit=500")).body["items"] if one["title"] == title]


@pytest.mark.parametrize(("step_s", "noted"), [(HOUR_S, "clock_gap"), (-HOUR_S, "clock_step")])
async def test_a_step_of_the_clock(stepped: Site, clock: SteppedClock, api: Api, step_s: int, noted: str):
    """Polling goes on, a hold that runs fires once, a standing alarm is not raised again, commands work."""
    for rule in (HELD, STANDING):
        await api("DELETE", f"/api/rules/{rule['id']}")
    await api("PUT", POINT, {"value": 10})
    with stepped.redis() as redis:
        for rule in (HELD, STANDING):
            assert (await api("POST", "/api/rules", rule)).status == 201
        before = {name: fired(redis, name) for name in ("held", "standing")}
        alarmed = {title: await raised(api, title) for title in ("held", "standing")}
        events = len(entries(redis, "voltage:events"))
        await api("PUT", POINT, {"value": 150})

        clock.step(step_s)

        async def follows() -> bool:
            instants = [int(at) for at in redis.call("HGETALL", "comsrv:1001:seen")[1::2]]
            good = not redis.call("HLEN", "comsrv:1001:T:q")
            return good and all(abs(at - clock.now_ms()) < 5000 for at in instants)

        await wait_until(follows, "polling goes on by the new clock, points are good", 10)

        async def held() -> bool:
            return fired(redis, "held") > before["held"]

        await wait_until(held, "the hold is over", 10)
        reply = await api(
            "POST", "/api/channels/1003/commands?wait_ms=3000", {"type": "A", "point": 1, "value": abs(step_s) / 1000}
        )
        assert reply.body["state"] == "verified", reply
        # A second delay of the same length has passed by now: what fires twice would have.
        seen = clock.now_ms()

        async def later() -> bool:
            return clock.now_ms() > seen + 3500

        await wait_until(later, "three seconds")
        assert fired(redis, "held") == before["held"] + 1
        assert fired(redis, "standing") == before["standing"]
        assert await raised(api, "held") == alarmed["held"] + 1
        assert await raised(api, "standing") == alarmed["standing"]
        assert noted in {event["what"] for event in entries(redis, "voltage:events")[events:]}

        await api("PUT", POINT, {"value": 10})

        async def returned() -> bool:
            return all(one["status"] == "Returned" for one in await alarms(api, "held"))

        await wait_until(returned, "the condition ended")
        ledger = await api("GET", "/api/ledger")
        assert ledger.body["balanced"], ledger
