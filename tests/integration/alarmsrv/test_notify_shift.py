"""What stands unacknowledged when a shift begins is told then, as one message."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from libs.clock import now_ms
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.notify import Hook, settings_of, settled, site, webhook_of
from tests.support.servers import RedisServer
from tests.support.site import Site
from tests.support.wait import wait_until

SHIFTS = "alarmsrv:outbox:shifts"


async def test_a_shift_is_told_what_stands(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, hook: Hook
) -> None:
    """Raised before it began, and neither acknowledged nor shelved; once, over restarts."""
    plant = await Site(functions).start()
    now = dt.datetime.now(dt.UTC)
    times = {name: f"{now + dt.timedelta(minutes=more):%H:%M}" for name, more in (("start", -2), ("end", 120))}
    route = {"id": "shift", "to": ["webhook:pager"], "schedule": {"time_zone": "UTC", **times}}
    settings = settings_of(redis_server.url, tmp_path, [route], webhooks=webhook_of(hook))

    async def known() -> int:
        return int(await execute(functions.client, "HGET", SHIFTS, "shift") or 0)

    for number, name in enumerate(("hot", "warm", "seen", "quiet"), 1):
        await functions.call("alarm_define", name, {**HOT, "source": f"comsrv:1001:T:{number}"})
    await functions.call("alarm_shelve", "alarm:quiet", {"duration_ms": 86_400_000, "by": "anna", "now_ms": plant.now})
    await plant.put({1: 90, 2: 90, 3: 90, 4: 90})
    seen = next(one["id"] for one in await plant.alarms() if one["definition"] == "seen")
    await functions.call("acknowledge_alarm", seen, "anna", plant.now)
    async with site(functions, settings):
        assert await wait_until(known, "the route is known") > 0
        assert hook.got == [], "a new route is not told of what stands"
    await execute(functions.client, "HSET", SHIFTS, "shift", now_ms() - 3_600_000)
    for _ in range(2):
        await execute(functions.client, "HSET", SHIFTS, "gone", "1")
        async with site(functions, settings):

            async def looked() -> bool:
                return not await execute(functions.client, "HEXISTS", SHIFTS, "gone")

            await wait_until(looked, "all routes were looked at, and what is kept of others went")
            await settled(functions)
    ((_, document),) = hook.got
    assert (document["type"], document["data"]["by_event"]) == ("alarm.digest", {"standing": 2})
    assert {one["definition"] for one in document["data"]["latest"]} == {"hot", "warm"}
