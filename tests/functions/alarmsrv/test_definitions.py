"""Alarm definitions: checked whole, evaluated at once, and what a change does to the alarm that stands."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError, NotFoundError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes, standing
from tests.support.definitions import said
from tests.support.site import Site, keyspace


async def test_life_of_a_definition(functions: Functions) -> None:
    text = b'{ "source":"comsrv:1001:T:1","detector":"Hi","limit":80.0,"level":"Major","tags":[]}'
    stored = await functions.call("alarm_define", "hot", text)
    assert said(stored) == b'{"id":"hot", ' + text[2:]
    assert await functions.read("alarm_definition_get", "hot") == stored
    await functions.call("alarm_define", "cold", {**HOT, "detector": "Lo", "limit": 5})
    page = await functions.read_json("alarm_definition_list", None, {"limit": 1})
    assert ([one["id"] for one in page["items"]], page["cursor"]) == (["cold"], "cold")
    assert (await functions.read_json("get_alarm_stats", None))["definitions"] == 2
    assert await functions.json("alarm_definition_delete", "hot") == {"deleted": "hot"}
    for name in ("alarm_definition_get", "alarm_definition_delete"):
        with pytest.raises(NotFoundError):
            await functions.call(name, "hot")


async def test_one_that_does_not_compile_any_more_is_deleted_with_all_it_left(functions: Functions) -> None:
    site, _ = await standing(functions)
    await execute(functions.client, "SET", "alarmsrv:definition:hot", '{"id":"hot"}')
    await execute(functions.client, "SET", "voltage:generation", "another")
    await functions.call("alarm_definition_delete", "hot")
    assert [alarm["status"] for alarm in await site.alarms()] == ["Returned"]
    assert await site.hash("alarmsrv:conditions") == {}
    await functions.call("alarm_define", "hot", HOT)
    await site.put({1: 10})
    await site.put({1: 90})
    assert [alarm["status"] for alarm in await site.alarms()] == ["New"]


async def test_it_is_evaluated_at_once(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 81})
    await functions.call("alarm_define", "hot", {**HOT, "tags": ["fire"]})
    (alarm,) = await site.alarms()
    assert (alarm["definition"], alarm["title"], alarm["value"], alarm["tags"]) == ("hot", "hot", 81, ["fire"])
    assert (alarm["origin"], alarm["version"], alarm["level"]) == ("alarm:hot", 1, "Major")


@pytest.mark.parametrize(
    ("change", "status", "level"),
    [
        ({"limit": 70}, "New", "Major"),
        ({"limit": 90}, "Returned", "Major"),
        ({"limit": 82, "deadband": 5}, "New", "Major"),
        ({"limit": 70, "level": "Critical"}, "New", "Critical"),
        ({"limit": 70, "on_delay_ms": 60_000}, "New", "Major"),
        ({"enabled": False}, "Returned", "Major"),
        ({"source": "comsrv:1001:T:2"}, "Returned", "Major"),
        ({"detector": "Lo"}, "Returned", "Major"),
    ],
)
async def test_a_changed_definition(functions: Functions, change: dict[str, Any], status: str, level: str) -> None:
    site, alarm = await standing(functions)
    await functions.call("alarm_define", "hot", {**HOT, **change})
    (found,) = await site.alarms()
    assert (found["id"], found["status"], found["level"], found["count"]) == (alarm, status, level, 1)
    await check_indexes(site)
    if status == "New":
        await site.put({1: 10})
        assert [one["status"] for one in await site.alarms()] == ["Returned"], "it ends by the new settings"


async def test_a_change_while_the_point_is_bad_keeps_the_alarm(functions: Functions) -> None:
    site, alarm = await standing(functions)
    await site.put({}, {1: "bad:timeout"})
    await functions.call("alarm_define", "hot", {**HOT, "limit": 200})
    (found,) = await site.alarms()
    assert (found["id"], found["status"], found["uncertain"]) == (alarm, "New", True)
    await site.put({1: 81})
    assert [one["status"] for one in await site.alarms()] == ["Returned"]


async def test_a_deleted_definition_returns_its_alarm(functions: Functions) -> None:
    site, _ = await standing(functions, on_delay_ms=0)
    await functions.call("alarm_definition_delete", "hot")
    assert [one["status"] for one in await site.alarms()] == ["Returned"]
    await site.put({1: 99})
    assert [one["count"] for one in await site.alarms()] == [1]
    names = [name for name in await keyspace(functions) if b"alarmsrv:definition" in name]
    assert names == []


async def test_a_deleted_definition_leaves_no_timer(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, "on_delay_ms": 3000})
    await site.put({1: 81})
    await functions.call("alarm_definition_delete", "hot")
    await site.pass_ms(5000)
    assert await site.alarms() == []


async def test_a_storm_keeps_order_when_its_definition_goes(functions: Functions) -> None:
    """More than 10 transitions journal by tick; what waits of a definition that goes is forgotten."""
    site = await Site(functions).start()
    for number in range(20):
        await functions.call("alarm_define", f"d{number:02}", HOT)
    await site.put({1: 81})
    assert len(await site.alarms()) == 0
    await functions.call("alarm_definition_delete", "d19")
    for _ in range(3):
        await site.pass_ms(100)
    assert len(await site.alarms(open=True)) == 19
    await site.put({1: 10})
    for _ in range(3):
        await site.pass_ms(100)
    assert {one["status"] for one in await site.alarms()} == {"Returned"}
    await check_indexes(site)


async def test_all_problems_at_once_and_nothing_stored(functions: Functions) -> None:
    await standing(functions)
    before = await keyspace(functions)
    bad = {
        "source": "comsrv:x", "detector": "Hi", "limit": "high", "level": "Loud", "colour": 1, "message": 5,
        "tags": "a", "latching": "yes", "enabled": 1, "on_delay_ms": -1, "off_delay_ms": 1e12,
        "deadband": -1,
    }  # fmt: skip
    with pytest.raises(InvalidError) as caught:
        await functions.call("alarm_define", "hot", bad)
    for part in (*(name for name in bad if name != "detector"), "limit must be a finite number"):
        assert part in str(caught.value)
    for name, document in (
        ("hot", {**HOT, "detector": "Magic"}),
        ("hot", {**HOT, "detector": "Deviation"}),
        ("hot", {**HOT, "id": "cold"}),
        ("a:b", HOT),
        ("journal", HOT),
    ):
        with pytest.raises(InvalidError):
            await functions.call("alarm_define", name, document)
    assert await keyspace(functions) == before


@pytest.mark.parametrize(
    ("definition", "values", "quality"),
    [
        ({"detector": "HiHi", "limit": 80}, {1: 81}, {}),
        ({"detector": "LoLo", "limit": 80}, {1: 79}, {}),
        ({"detector": "State", "limit": 1}, {1: 1}, {}),
        ({"detector": "Deviation", "limit": 5, "other": "comsrv:1001:T:2"}, {1: 10, 2: 16}, {}),
        ({"detector": "Discrepancy", "limit": 0.5, "other": "comsrv:1001:T:2"}, {1: 1, 2: 0}, {}),
        ({"detector": "Quality"}, {}, {1: "bad:timeout"}),
        ({"detector": "Quality", "limit": "bad:sentinel"}, {}, {1: "bad:sentinel"}),
        ({"detector": "NoData", "limit": 5000}, {}, {1: "bad:stale"}),
    ],
)
async def test_detectors(
    functions: Functions, definition: dict[str, Any], values: dict[int, float], quality: dict[int, str]
) -> None:
    site = await Site(functions).start()
    await site.put({1: 50, 2: 50})
    document = {"source": "comsrv:1001:T:1", "level": "Minor", "limit": 80}
    await functions.call("alarm_define", "d", {**{k: v for k, v in document.items() if k != "limit"}, **definition})
    if definition["detector"] != "LoLo":
        assert await site.alarms() == []
    await site.put(values, quality)
    await site.pass_ms(5000)
    assert [one["status"] for one in await site.alarms()] == ["New"]
