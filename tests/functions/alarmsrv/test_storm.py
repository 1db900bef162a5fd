"""2,000 definitions trip within a second and return: the journal is whole and in order, the first-out is right."""

from __future__ import annotations

import pytest

from libs.errors import InternalError
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
        assert ticks <= 2 * COUNT / 8 + 2, "each tick carries out its eight"
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
    assert await journal(site) == [], "in a storm all waits, so that each of its calls is short"
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


async def test_what_waits_keeps_value_quality_and_order(functions: Functions) -> None:
    """Many that turn share an item of the list; a tick takes eight, over the bounds of items."""
    site = await Site(functions).start()
    for number in range(65):
        await functions.call("alarm_define", f"d{number:02}", {**HOT, "source": f"comsrv:1001:T:{number + 1}"})
        await functions.call(
            "alarm_define",
            f"q{number:02}",
            {"source": f"comsrv:1001:T:{number + 1}", "detector": "Quality", "level": "Warning"},
        )
    await site.put({number + 1: 90 + number for number in range(65)})
    assert await execute(functions.client, "LLEN", "voltage:deferred") == 2
    site.now += 7
    await site.put({}, {number + 1: "bad:timeout" for number in range(65)})
    await drain(site)
    found = [(e["origin"], e["event"], int(e["at_ms"]) - START, e["value"], e["quality"]) for e in await journal(site)]
    raised = [(f"alarm:d{n:02}", "raised", 0, f"{90 + n:.6f}", "good") for n in range(65)]
    bad = [(f"alarm:q{n:02}", "raised", 7, f"{90 + n:.6f}", "bad:timeout") for n in range(65)]
    assert found[:65] == raised
    assert [entry for entry in found if entry[0].startswith("alarm:q")] == bad


async def test_few_of_many_that_were_looked_at_act_in_the_call(functions: Functions) -> None:
    """Delays that begin are no transitions: what turns beside them is not kept waiting."""
    site = await Site(functions).start()
    for number in range(25):
        delayed = {"on_delay_ms": 5000} if number % 5 else {}
        await functions.call("alarm_define", f"d{number:02}", {**HOT, **delayed})
    await site.put({1: 90})
    assert await execute(functions.client, "EXISTS", "voltage:deferred") == 0
    assert [e["origin"] for e in await journal(site)] == [f"alarm:d{n:02}" for n in range(0, 25, 5)]


async def test_rules_act_before_the_alarms_of_a_storm(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(30):
        await functions.call("alarm_define", f"d{number:02}", HOT)
    rule = {
        "name": "shed", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 80}],
        "actions": [{"type": "create_alarm", "params": {"title": "shed", "level": "Minor"}}],
    }  # fmt: skip
    await functions.call("rule_upsert", "shed", rule)
    await site.put({1: 90})
    assert await site.firings() == [("shed", "fired", 0)]
    assert [e["origin"] for e in await journal(site)] == ["rule:shed#1"]


async def test_a_definition_that_goes_while_it_waits_leaves_the_others_waiting(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(30):
        await functions.call("alarm_define", f"d{number:02}", HOT)
    await site.put({1: 90})
    for number in (0, 7, 29):
        await functions.call("alarm_definition_delete", f"d{number:02}", {"by": "anna", "reason": "gone"})
    await drain(site)
    left = [f"alarm:d{n:02}" for n in range(30) if n not in {0, 7, 29}]
    assert [e["origin"] for e in await journal(site) if e["event"] == "raised"] == left


async def test_an_alarm_whose_return_waits_ends_with_its_definition(functions: Functions) -> None:
    """Deleted, changed so that it does not apply any more, switched off: nobody else would end it."""
    site = await Site(functions).start()
    for number in range(20):
        await functions.call("alarm_define", f"d{number:02}", {**HOT, "ack_required": False})
    await site.put({1: 90})
    await drain(site)
    site.now += 10
    await site.put({1: 10})
    assert await execute(functions.client, "EXISTS", "voltage:deferred")
    await functions.call("alarm_definition_delete", "d12")
    await functions.call("alarm_define", "d13", {**HOT, "limit": 85, "ack_required": False})
    await functions.call("alarm_define", "d14", {**HOT, "enabled": False})
    await drain(site)
    assert {alarm["status"] for alarm in await site.alarms()} == {"Resolved"}
    assert set(await site.hash("alarmsrv:alarms:open")) == {FLOOD}


async def test_a_rule_that_is_switched_off_while_it_waits_takes_nothing_with_it(functions: Functions) -> None:
    """It waits behind the alarms of its pass, and a rule before them switches it off."""
    site = await Site(functions).start()
    for number in range(25):
        point = 1 if number < 17 else 2
        await functions.call("alarm_define", f"d{number:02}", {**HOT, "source": f"comsrv:1001:T:{point}"})
    conditions = [{"source": "comsrv:1001:T:1", "operator": ">", "value": 80}]
    create = {"type": "create_alarm", "params": {"title": "late", "level": "Minor"}}
    disable = {"type": "disable_rule", "params": {"rule": "late"}}
    late = {"name": "late", "priority": -10, "conditions": conditions, "actions": [create]}
    await functions.call("rule_upsert", "late", late)
    first = {"name": "first", "priority": 10, "conditions": conditions, "actions": [disable]}
    await functions.call("rule_upsert", "first", first)
    await site.put({1: 90})
    site.now += 5
    await site.put({2: 90})
    await drain(site)
    assert [e["origin"] for e in await journal(site)] == [f"alarm:d{number:02}" for number in range(25)]
    assert ("late", "fired", 0) not in await site.firings()


async def test_an_item_that_fails_takes_none_of_the_others_with_it(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(12):
        await functions.call("alarm_define", f"d{number:02}", HOT)
    await site.put({1: 90})
    broken = '{"watcher":"alarm:d00","on":true,"at":"never"}'
    await execute(functions.client, "LPUSH", "voltage:deferred", broken)
    with pytest.raises(InternalError):
        await functions.call("voltage_tick", None)
    await drain(site)
    assert [e["origin"] for e in await journal(site)] == [f"alarm:d{number:02}" for number in range(12)]
