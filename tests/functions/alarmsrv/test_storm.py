"""2,000 definitions trip within a second and return: the journal is whole and in order, the first-out is right."""

from __future__ import annotations

from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes
from tests.support.site import START, Site

COUNT, BLOCKS, FLOOD = 2000, 20, "system:flood"


async def journal(site: Site) -> list[dict[str, str]]:
    """Return the entries, but for the one that says that it is a flood."""
    return [entry for entry in await site.entries("alarmsrv:journal") if entry["origin"] != FLOOD]


async def put_all(site: Site, value: float) -> None:
    """Trip or clear the definitions in twenty blocks, 50 ms apart, as polls of twenty devices do."""
    for block in range(BLOCKS):
        await site.put({block + 1: value})
        site.now += 50


async def drain(site: Site) -> int:
    """Let ticks carry out what waits; return how many it took."""
    ticks = 0
    while await execute(site.functions.client, "EXISTS", "voltage:deferred"):
        await site.pass_ms(0)
        ticks += 1
        assert ticks <= 2 * COUNT / 10 + 2, "each tick carries out its ten"
    return ticks


async def test_a_storm_of_2000_alarms(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(COUNT):
        definition = {
            **HOT, "source": f"comsrv:1001:T:{number % BLOCKS + 1}", "group": f"feeder{number % BLOCKS % 4}",
            "message": "{value} at {id}", "ack_required": False,
        }  # fmt: skip
        await functions.call("alarm_define", f"d{number:04}", definition)
    await put_all(site, 90)
    await put_all(site, 10)
    found = await journal(site)
    assert [entry["event"] for entry in found] == ["raised"] * 10, "the first call acts ten times, the rest waits"
    await drain(site)
    numbers = [int(entry["number"]) for entry in await site.entries("alarmsrv:journal")]
    assert numbers == list(range(1, 2 * COUNT + 2)), "one more says that it is a flood"
    entries = await journal(site)
    # Each in the order of its happening: by block, and within it by id; with its own instant and value.
    expected = [
        (event, f"alarm:d{number:04}", START + half * 1000 + block * 50, value)
        for half, (event, value) in enumerate((("raised", "90.000000"), ("resolved", "10.000000")))
        for block in range(BLOCKS)
        for number in range(block, COUNT, BLOCKS)
    ]
    assert [(e["event"], e["origin"], int(e["at_ms"]), e["value"]) for e in entries] == expected
    alarms, cursor = [], None
    while True:
        page = await functions.read_json("query_alarms", None, {"limit": 1000, "cursor": cursor})
        alarms += [alarm for alarm in page["items"] if alarm["source"] != FLOOD]
        if not (cursor := page["cursor"]):
            break
    assert sorted(alarm["definition"] for alarm in alarms if alarm.get("first_out")) == [
        "d0000", "d0001", "d0002", "d0003",
    ]  # fmt: skip
    assert {(alarm["status"], alarm["count"]) for alarm in alarms} == {("Resolved", 1)}
    assert len(alarms) == COUNT
    assert alarms[-1]["title"] == "90 at d0000"
    assert await site.alarms(open=True) == []
    assert await functions.client.keys("alarmsrv:alarms:by_group:*") == []


async def test_a_storm_over_redis_restarting_functions(functions: Functions) -> None:
    """What waits of a storm, and in which order, stands in Redis: a library that is loaded anew goes on."""
    site = await Site(functions).start()
    for number in range(60):
        await functions.call("alarm_define", f"d{number:02}", HOT)
    await site.put({1: 90})
    await execute(functions.client, "DEL", "voltage:generation")
    await drain(site)
    assert [e["origin"] for e in await journal(site)] == [f"alarm:d{n:02}" for n in range(60)]
    await check_indexes(site)
