"""A flood is said while it is there: more than ten alarms in ten minutes begin it, fewer than five end it."""

from __future__ import annotations

from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.site import START, Site

MINUTE = 60_000


async def flood(site: Site) -> list[tuple[str, int]]:
    """Return when floods began and ended, after the start."""
    entries = await site.entries("alarmsrv:journal")
    return [(e["event"], int(e["at_ms"]) - START) for e in entries if e["origin"] == "system:flood"]


async def alarms(site: Site, first: int, count: int, level: str = "Major") -> None:
    """Raise alarms, a second apart."""
    for number in range(first, first + count):
        site.now += 1000
        await site.functions.call("store_alarm", f"a{number}", {"title": "t", "level": level, "now_ms": site.now})


async def test_a_flood_begins_with_the_eleventh_and_ends_when_fewer_than_five_are_left(functions: Functions) -> None:
    site = await Site(functions).start()
    await alarms(site, 0, 10)
    assert await flood(site) == []
    await alarms(site, 10, 1)
    assert await flood(site) == [("raised", 11_000)]
    (alarm,) = await site.system_alarms()
    assert (alarm["level"], alarm["status"], alarm["ack_required"]) == ("Info", "New", False)
    # Two more: the fifth newest is the ninth, of 9 s; it counts for ten minutes.
    await site.pass_ms(5 * MINUTE)
    await alarms(site, 11, 2)
    await site.pass_ms(4 * MINUTE)
    await site.pass_ms(5 * MINUTE)
    assert await flood(site) == [("raised", 11_000), ("resolved", 9000 + 10 * MINUTE)]
    await alarms(site, 13, 10)
    assert len(await flood(site)) == 3


async def test_what_asks_nobody_makes_no_flood(functions: Functions) -> None:
    site = await Site(functions).start()
    await alarms(site, 0, 30, "Info")
    for number in range(12):
        await functions.call("alarm_define", f"d{number}", HOT)
        await functions.call("alarm_suppress", f"alarm:d{number}", {"by": "anna", "now_ms": site.now})
    await site.put({1: 90})
    for _ in range(2):
        await site.pass_ms(0)
    assert await flood(site) == []
    # All of them ask at once.
    for number in range(12):
        await functions.call("alarm_unsuppress", f"alarm:d{number}", {"by": "anna", "now_ms": site.now})
    assert await flood(site) == [("raised", 30_000)]


async def test_a_flood_in_a_poll_is_said_with_its_eleventh_alarm(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(30):
        await functions.call("alarm_define", f"d{number}", HOT)
    await site.put({1: 90})
    for _ in range(2):
        site.now += 5
        assert await flood(site) == []
        await site.pass_ms(0)
    assert await flood(site) == [("raised", 0)]


async def test_a_clock_that_was_set_back_makes_no_flood(functions: Functions) -> None:
    """What was before the step is no measure: its instants are in the future now."""
    site = await Site(functions).start()
    await alarms(site, 0, 6)
    await site.pass_ms(60 * MINUTE)
    await alarms(site, 6, 5)
    site.now -= 50 * MINUTE
    await execute(functions.client, "HSET", "voltage:clock", "last", str(site.now))
    await alarms(site, 11, 2)
    assert await flood(site) == []


async def test_a_site_that_wants_none_has_none(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_system_configure", None, {"flood": {"enabled": False}})
    await alarms(site, 0, 30)
    await site.pass_ms(20 * MINUTE)
    assert await flood(site) == []
