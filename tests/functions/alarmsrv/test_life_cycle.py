"""The life of an alarm, from polled blocks to its end: New, Acknowledged, Returned, Resolved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.site import Site, keyspace

HOT: dict[str, Any] = {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 80, "level": "Major", "message": "hot"}


async def standing(functions: Functions, **more: Any) -> tuple[Site, str]:
    """Give a site whose definition `hot` has just raised its alarm."""
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, **more})
    await site.put({1: 81})
    (alarm,) = await site.alarms(open=True)
    assert (alarm["status"], alarm["count"]) == ("New", 1)
    return site, alarm["id"]


async def status(functions: Functions, alarm: str) -> str:
    return str((await functions.read_json("get_alarm", alarm))["status"])


async def check_indexes(site: Site) -> None:
    """Every index holds exactly the alarms it should."""
    records = {
        name.split(b":")[-1].decode(): await site.hash(name.decode())
        for name in await keyspace(site.functions)
        if name.startswith(b"alarmsrv:alarm:")
    }
    for record in records.values():
        assert await execute(
            site.functions.client, "ZSCORE", f"alarmsrv:alarms:in:{record['status']}", record["id"]
        ) == float(record["created_at_ms"])
        assert record["id"] in await site.members(f"alarmsrv:alarms:by_level:{record['level']}")
        assert record["id"] in await site.members(f"alarmsrv:alarms:by_source:{record['source']}")
    names = [name.decode() for name in await keyspace(site.functions)]
    listed = [
        member.decode()
        for name in names
        if name.startswith("alarmsrv:alarms:in:")
        for member in await execute(site.functions.client, "ZRANGE", name, 0, -1)
    ]
    assert sorted(listed) == sorted(records), "each alarm is in the list of one status"
    for field in ("level", "source"):
        indexed = [
            member
            for name in names
            if name.startswith(f"alarmsrv:alarms:by_{field}:")
            for member in await site.members(name)
        ]
        assert sorted(indexed) == sorted(records), f"by_{field} holds each alarm once"
    open_ones = {name for name, record in records.items() if record["status"] != "Resolved"}
    assert await site.members("alarmsrv:alarms:active") == open_ones
    assert set((await site.hash("alarmsrv:alarms:open")).values()) <= open_ones
    counts = {level: int(count) for level, count in (await site.hash("alarmsrv:alarms:counts")).items() if count != "0"}
    assert counts == Counter(records[name]["level"] for name in open_ones)
    few = {
        f"by_{field}:{record[field]}": {one["id"] for one in records.values() if one.get(field) == record[field]}
        for record in records.values()
        for field in ("area", "equipment")
        if field in record
    } | {
        f"quiet:{why}": {name for name, record in records.items() if f"{why}_by" in record}
        for why in ("shelved", "suppressed", "out_of_service")
    }
    prefixes = tuple(f"alarmsrv:alarms:{kind}:" for kind in ("by_area", "by_equipment", "quiet"))
    found = {
        name.removeprefix("alarmsrv:alarms:"): await site.members(name) for name in names if name.startswith(prefixes)
    }
    assert found == {name: members for name, members in few.items() if members}


async def events(functions: Functions) -> list[tuple[str, str, str]]:
    """Return the journal as (event, status, user)."""
    entries = await execute(functions.client, "XRANGE", functions.key("alarmsrv:journal"), "-", "+")
    decoded = [{a.decode(): b.decode() for a, b in entry.items()} for _, entry in entries]
    return [(entry["event"], entry["status"], entry["user"]) for entry in decoded]


async def test_returned_then_acknowledged_is_resolved(functions: Functions) -> None:
    site, alarm = await standing(functions)
    await site.put({1: 80})
    assert await status(functions, alarm) == "Returned"
    assert await site.members("alarmsrv:alarms:active") == {alarm}
    await check_indexes(site)
    closed = await functions.json("acknowledge_alarm", alarm, "anna", site.now, "seen")
    assert (closed["status"], closed["acknowledged_by"], closed["resolved_by"]) == ("Resolved", "anna", "anna")
    await check_indexes(site)
    assert await events(functions) == [
        ("raised", "New", ""), ("returned", "Returned", ""), ("acknowledged", "Resolved", "anna"),
    ]  # fmt: skip
    with pytest.raises(StateError):
        await functions.call("acknowledge_alarm", alarm, "anna")


async def test_acknowledged_then_ended_is_resolved(functions: Functions) -> None:
    site, alarm = await standing(functions)
    first = await functions.call("acknowledge_alarm", alarm, "anna", site.now, "on my way")
    before = await keyspace(functions)
    assert await functions.call("acknowledge_alarm", alarm, "ben", site.now) == first, "the second changes nothing"
    assert await keyspace(functions) == before
    document = orjson.loads(first)
    assert (document["status"], document["acknowledged_by"], document["comment"]) == (
        "Acknowledged",
        "anna",
        "on my way",
    )
    await site.put({1: 70})
    assert await status(functions, alarm) == "Resolved"
    assert (await functions.read_json("get_alarm", alarm))["resolved_by"] == "condition"
    await check_indexes(site)


async def test_a_recurrence_counts_on_the_open_alarm(functions: Functions) -> None:
    site, alarm = await standing(functions)
    await site.put({1: 70})
    await site.put({1: 90})
    found = await functions.read_json("get_alarm", alarm)
    assert (found["status"], found["count"], found["value"]) == ("New", 2, 90)
    assert len(await site.alarms()) == 1
    await site.put({1: 70})
    await functions.call("acknowledge_alarm", alarm, "anna")
    await site.put({1: 90})
    assert [one["status"] for one in await site.alarms()] == ["New", "Resolved"], "a new occurrence, a new record"
    await check_indexes(site)


async def test_without_acknowledgement_it_ends_with_its_condition(functions: Functions) -> None:
    site, alarm = await standing(functions, level="Warning")
    await site.put({1: 70})
    assert await status(functions, alarm) == "Resolved"
    assert await site.members("alarmsrv:alarms:active") == set()


async def test_unknown_neither_clears_nor_raises(functions: Functions) -> None:
    site, alarm = await standing(functions)
    await site.put({}, {1: "bad:timeout"})
    found = await functions.read_json("get_alarm", alarm)
    assert (found["status"], found["uncertain"]) == ("New", True)
    await site.put({1: 82})
    assert "uncertain" not in await functions.read_json("get_alarm", alarm)
    assert [event for event, _, _ in await events(functions)] == ["raised", "uncertain", "certain"]


async def test_a_rules_alarm_is_marked_uncertain_too(functions: Functions) -> None:
    site = await Site(functions).start()
    action = {"type": "create_alarm", "params": {"title": "hot", "level": "Major"}}
    condition = {"source": "comsrv:1001:T:1", "operator": ">", "value": 80}
    await functions.call("rule_upsert", "r1", {"name": "r1", "conditions": [condition], "actions": [action]})
    await site.put({1: 81})
    await site.put({}, {1: "bad:timeout"})
    (alarm,) = await site.alarms()
    assert alarm["uncertain"] is True


async def test_resolving_while_the_condition_stands_is_refused(functions: Functions) -> None:
    site, alarm = await standing(functions)
    before = await keyspace(functions)
    with pytest.raises(StateError, match="stands"):
        await functions.call("resolve_alarm", alarm, "anna", site.now)
    assert await keyspace(functions) == before
    await site.put({1: 70})
    closed = await functions.call("resolve_alarm", alarm, "anna", site.now, "checked")
    assert orjson.loads(closed)["status"] == "Resolved"
    assert await functions.call("resolve_alarm", alarm, "ben", site.now) == closed, "twice is a repeat"
    await check_indexes(site)


async def test_a_latched_alarm_waits_for_a_person(functions: Functions) -> None:
    site, alarm = await standing(functions, latching=True)
    await functions.call("acknowledge_alarm", alarm, "anna")
    await site.put({1: 70})
    found = await functions.read_json("get_alarm", alarm)
    assert (found["status"], found["latched"], found["active"]) == ("Acknowledged", True, False)
    assert (await functions.json("resolve_alarm", alarm, "anna"))["status"] == "Resolved"


async def test_a_rule_triggered_by_hand_leaves_an_alarm_a_person_can_close(functions: Functions) -> None:
    site = await Site(functions).start()
    action = {"type": "create_alarm", "params": {"title": "hot", "level": "Major"}}
    condition = {"source": "comsrv:1001:T:1", "operator": ">", "value": 80}
    await functions.call("rule_upsert", "r1", {"name": "r1", "conditions": [condition], "actions": [action]})
    await site.put({1: 10})
    await functions.call("rule_trigger_action", "r1")
    (alarm,) = await site.alarms()
    assert (await functions.json("resolve_alarm", alarm["id"], "anna"))["status"] == "Resolved"


async def test_delays(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, "on_delay_ms": 3000, "off_delay_ms": 2000})
    await site.put({1: 81})
    await site.pass_ms(2999)
    assert await site.alarms() == []
    await site.pass_ms(1)
    (alarm,) = await site.alarms()
    assert alarm["created_at_ms"] == site.now
    await site.put({1: 10})
    await site.pass_ms(1999)
    assert await status(functions, alarm["id"]) == "New"
    await site.pass_ms(1)
    assert await status(functions, alarm["id"]) == "Returned"


async def test_shelving(functions: Functions) -> None:
    site, alarm = await standing(functions)
    shelve = {"duration_ms": 5000, "comment": "Monday", "by": "anna", "now_ms": site.now}
    shelved = await functions.json("alarm_shelve", alarm, shelve)
    assert shelved["shelved"] == {
        "until_ms": site.now + 5000, "by": "anna", "one_shot": False, "comment": "Monday",
    }  # fmt: skip
    assert await site.members("alarmsrv:alarms:active") == {alarm}, "shelved ones stay"
    await site.pass_ms(5000)
    assert (await functions.read_json("get_alarm", alarm))["shelved"] is None
    await functions.call("alarm_shelve", alarm, {"one_shot": True, "by": "anna"})
    await site.put({1: 70})
    assert (await functions.read_json("get_alarm", alarm))["shelved"] is None, "until its condition ends"
    before = await keyspace(functions)
    await functions.call("alarm_unshelve", alarm, {"by": "anna"})
    assert await keyspace(functions) == before, "without shelving nothing changes"
    await functions.call("alarm_shelve", alarm, shelve)
    assert (await functions.json("alarm_unshelve", alarm, {"by": "ben"}))["shelved"] is None
    assert await execute(functions.client, "ZRANGE", "voltage:timers", 0, -1) == [b"lease|1001"]
    users = [(event, user) for event, _, user in await events(functions) if "shelved" in event]
    assert users == [
        ("shelved", "anna"), ("unshelved", "timer"), ("shelved", "anna"), ("unshelved", "condition"),
        ("shelved", "anna"), ("unshelved", "ben"),
    ]  # fmt: skip


async def test_suppressed_and_out_of_service(functions: Functions) -> None:
    site, alarm = await standing(functions)
    who = {"by": "anna", "comment": "start-up"}
    said = {**who, "name": "alarm:hot"}
    assert (await functions.json("alarm_suppress", alarm, who))["suppressed"] == said
    assert (await functions.json("alarm_out_of_service", alarm, who))["out_of_service"] == said
    assert (await functions.json("alarm_unsuppress", alarm, who))["suppressed"] is None
    returned = await functions.json("alarm_out_of_service", alarm, {**who, "in_service": True})
    assert returned["out_of_service"] is None
    assert [event for event, _, _ in await events(functions)] == [
        "raised", "suppressed", "out_of_service", "unsuppressed", "in_service",
    ]  # fmt: skip
    await check_indexes(site)


SHELVING = ("alarm_shelve", "alarm_unshelve", "alarm_suppress", "alarm_unsuppress", "alarm_out_of_service")


@pytest.mark.parametrize("name", SHELVING)
async def test_shelving_refusals(functions: Functions, name: str) -> None:
    site, alarm = await standing(functions)
    await site.put({1: 70})
    good = {"duration_ms": 1, "by": "anna", "now_ms": site.now}
    await functions.call("resolve_alarm", alarm, "anna")
    before = await keyspace(functions)
    with pytest.raises(StateError):
        await functions.call(name, alarm, good)
    with pytest.raises(NotFoundError):
        await functions.call(name, "nobody", good)
    with pytest.raises(InvalidError):
        await functions.call(name, alarm, {**good, "by": "x" * 65})
    assert await keyspace(functions) == before


@pytest.mark.parametrize("wrong", [{}, {"duration_ms": 86_400_001}, {"duration_ms": 0}, {"one_shot": False}])
async def test_shelving_lasts_at_most_a_day(functions: Functions, wrong: dict[str, Any]) -> None:
    _, alarm = await standing(functions)
    before = await keyspace(functions)
    with pytest.raises(InvalidError):
        await functions.call("alarm_shelve", alarm, wrong)
    assert await keyspace(functions) == before


@pytest.mark.parametrize("name", ["acknowledge_alarm", "resolve_alarm"])
async def test_refusals(functions: Functions, name: str) -> None:
    site, alarm = await standing(functions)
    before = await keyspace(functions)
    with pytest.raises(NotFoundError):
        await functions.call(name, "nobody", "anna", site.now)
    for arguments in ((), ("",), ("anna", "tomorrow"), ("anna", "", "x" * 513)):
        with pytest.raises(InvalidError):
            await functions.call(name, alarm, *arguments)
    assert await keyspace(functions) == before


async def test_each_change_is_published(functions: Functions) -> None:
    async with functions.client.pubsub() as pubsub:
        await pubsub.subscribe("alarmsrv:new", "alarmsrv:changed")
        site, alarm = await standing(functions)
        await site.put({1: 70})
        await functions.call("acknowledge_alarm", alarm, "anna")
        seen = []
        while message := await pubsub.get_message(timeout=0.2):
            if message["type"] == "message":
                seen.append((message["channel"].decode(), orjson.loads(message["data"])["status"]))
        assert seen == [("alarmsrv:new", "New"), ("alarmsrv:changed", "Returned"), ("alarmsrv:changed", "Resolved")]
