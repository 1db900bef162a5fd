"""What asks for no attention and why: by condition, group, equipment, channel and unit; first-out; re-alarm."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes, standing
from tests.support.site import START, Site, keyspace


async def journal(site: Site) -> list[tuple[str, str, str]]:
    """Return the journal as (origin, event, user)."""
    return [(e["origin"], e["event"], e["user"]) for e in await site.entries("alarmsrv:journal")]


async def suppressed(site: Site) -> dict[str, str | None]:
    """Return by definition who suppresses its open alarm."""
    page = await site.functions.read_json("query_alarms", None, {"open": True})
    return {
        alarm["origin"].split(":", 1)[1]: (alarm["suppressed"] or {}).get("by")
        for alarm in page["items"]
        if alarm["origin"].startswith("alarm:")
    }


async def test_shelving_outlasts_the_occurrence(functions: Functions) -> None:
    """A chattering point that was shelved stays quiet, also when it comes again."""
    site, alarm = await standing(functions, level="Warning")
    await functions.call("alarm_shelve", alarm, {"duration_ms": 5000, "by": "anna", "now_ms": site.now})
    await site.put({1: 10})
    assert await site.alarms(open=True) == []
    await site.put({1: 90})
    (again,) = await site.alarms(open=True)
    assert again["id"] != alarm
    assert again["shelved"] == {"until_ms": site.now + 5000, "by": "anna", "one_shot": False}
    await site.pass_ms(5000)
    (again,) = await site.alarms(open=True)
    assert again["shelved"] is None
    assert (await journal(site))[-1] == ("alarm:hot", "unshelved", "timer")


async def test_a_definition_is_shelved_before_its_alarm_comes(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", HOT)
    who = {"by": "anna", "now_ms": site.now}
    reply = await functions.json("alarm_shelve", "alarm:hot", {**who, "duration_ms": 5000})
    assert reply["shelved"] == {"by": "anna", "until_ms": site.now + 5000, "one_shot": False}
    assert (await functions.json("alarm_out_of_service", "alarm:hot", who))["out_of_service"]["by"] == "anna"
    await functions.call("alarm_define", "hot", {**HOT, "limit": 70})
    await site.put({1: 75})
    (alarm,) = await site.alarms()
    assert (alarm["shelved"]["by"], alarm["out_of_service"]["by"]) == ("anna", "anna"), "a change keeps it"
    await functions.call("alarm_definition_delete", "hot")
    assert await functions.read_json("alarm_marks", None) == {"items": []}
    with pytest.raises(NotFoundError):
        await functions.call("alarm_suppress", "alarm:hot", who)


async def test_why_and_where_it_is_quiet_outlasts_the_occurrence(functions: Functions) -> None:
    """The comment and the name that was marked: on every alarm raised under the mark, in its journal, in the list."""
    site, alarm = await standing(functions, level="Warning", group="feeder", equipment="pump")
    who = {"by": "anna", "now_ms": site.now}
    said = {"alarm:hot": "valve in repair", "group:feeder": "start-up", "equipment:pump": "bearing"}
    await functions.call("alarm_shelve", "alarm:hot", {**who, "duration_ms": 5000, "comment": said["alarm:hot"]})
    await functions.call("alarm_suppress", "group:feeder", {**who, "comment": said["group:feeder"]})
    await functions.call("alarm_out_of_service", "equipment:pump", {**who, "comment": said["equipment:pump"]})
    items = (await functions.read_json("alarm_marks", None))["items"]
    assert {item["name"]: item["comment"] for item in items} == said
    await site.put({1: 10})
    await execute(functions.client, "DEL", "voltage:generation")
    await site.put({1: 90})
    (again,) = await site.alarms(open=True)
    assert again["id"] != alarm
    assert again["shelved"]["comment"] == "valve in repair"
    assert again["suppressed"] == {"by": "anna", "name": "group:feeder", "comment": "start-up"}
    assert again["out_of_service"] == {"by": "anna", "name": "equipment:pump", "comment": "bearing"}
    entries = [e for e in await site.entries("alarmsrv:journal") if e["alarm"] == again["id"]]
    assert [(e["event"], e["comment"]) for e in entries] == [
        ("raised", ""), ("shelved", "valve in repair"), ("suppressed", "start-up"), ("out_of_service", "bearing"),
    ]  # fmt: skip
    await site.pass_ms(5000)
    await functions.call("alarm_unsuppress", "group:feeder", who)
    await functions.call("alarm_out_of_service", "equipment:pump", {**who, "in_service": True})
    left = await site.hash(f"alarmsrv:alarm:{again['id']}")
    assert [field for field in left if field.startswith(("shelved", "suppressed", "out_of"))] == []


async def test_marks_of_before_they_had_a_comment_are_read(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", HOT)
    await execute(
        functions.client, "HSET", "alarmsrv:marks", "suppressed|alarm:hot|hand", '{"by":"anna","at_ms":1}',
        "shelved|alarm:hot|hand", '{"by":"ben","at_ms":1,"until_ms":2000000}',
    )  # fmt: skip
    await execute(functions.client, "DEL", "voltage:generation")
    await site.put({1: 90})
    (alarm,) = await site.alarms()
    assert alarm["suppressed"] == {"by": "anna", "name": "alarm:hot"}
    assert alarm["shelved"] == {"by": "ben", "until_ms": 2_000_000, "one_shot": False}


async def test_what_a_group_holds_is_not_ended_at_one_of_its_alarms(functions: Functions) -> None:
    """With an open alarm and without one: refused, and it says what holds it."""
    site, alarm = await standing(functions, group="feeder", level="Warning")
    who = {"by": "anna", "now_ms": site.now}
    await functions.call("alarm_suppress", "group:feeder", who)
    await functions.call("alarm_out_of_service", "group:feeder", who)

    async def refused(name: str) -> None:
        with pytest.raises(StateError, match=r"what suppresses it stands \(group:feeder, by anna\)"):
            await functions.call("alarm_unsuppress", name, who)
        with pytest.raises(StateError, match=r"is out of service \(group:feeder, by anna\)"):
            await functions.call("alarm_out_of_service", name, {**who, "in_service": True})

    await refused(alarm)
    await refused("alarm:hot")
    await site.put({1: 10})
    assert await site.alarms(open=True) == []
    await refused("alarm:hot")
    reply = await functions.json("alarm_suppress", "alarm:hot", who)
    assert reply["suppressed"] == {"by": "anna", "name": "alarm:hot"}
    reply = await functions.json("alarm_unsuppress", "alarm:hot", who)
    assert reply["suppressed"] == {"by": "anna", "name": "group:feeder"}, "the group's still holds"
    assert (await functions.json("alarm_unsuppress", "group:feeder", who))["suppressed"] is None


async def test_the_maximum_of_a_definition(functions: Functions) -> None:
    site, alarm = await standing(functions, max_shelve_ms=5000)
    with pytest.raises(InvalidError, match="1 to 5000"):
        await functions.call("alarm_shelve", alarm, {"duration_ms": 5001})
    await functions.call("alarm_shelve", alarm, {"one_shot": True, "now_ms": site.now})
    await site.pass_ms(4999)
    assert (await site.alarms())[0]["shelved"]
    await site.pass_ms(1)
    assert (await site.alarms())[0]["shelved"] is None, "one shot lasts at most that long, too"
    await functions.call("alarm_define", "hot", {**HOT, "max_shelve_ms": 0})
    with pytest.raises(StateError, match="does not let it be shelved"):
        await functions.call("alarm_shelve", alarm, {"duration_ms": 1})
    with pytest.raises(InvalidError, match="shelving is of an alarm"):
        await functions.call("alarm_shelve", "group:g", {"duration_ms": 1})


async def test_suppressed_by_its_condition(functions: Functions) -> None:
    site = await Site(functions).start()
    stopped = {"source": "comsrv:1001:S:1", "operator": "==", "value": 0}
    await functions.call("alarm_define", "low", {**HOT, "detector": "Lo", "limit": 5, "suppress_when": [stopped]})
    await site.put({1: 0}, kind="S")
    await site.put({1: 1})
    assert await suppressed(site) == {"low": "condition"}
    await site.put({1: 1}, kind="S")
    assert await suppressed(site) == {"low": None}
    await site.put({}, {1: "bad:timeout"}, kind="S")
    assert await suppressed(site) == {"low": None}, "unknown changes nothing"
    await site.put({1: 0}, kind="S")
    await functions.call("alarm_define", "low", {**HOT, "detector": "Lo", "limit": 5})
    assert await suppressed(site) == {"low": None}, "the condition is gone with the change"
    assert [event for _, event, _ in await journal(site)] == [
        "raised", "suppressed", "unsuppressed", "suppressed", "unsuppressed", "redefined",
    ]  # fmt: skip


async def test_suppressed_in_the_call_that_raises_it(functions: Functions) -> None:
    """Both points come in one block: the condition counts before the alarm, so it never asked for attention."""
    site = await Site(functions).start()
    stopped = {"source": "comsrv:1001:T:2", "operator": "==", "value": 0}
    await functions.call("alarm_define", "low", {**HOT, "detector": "Lo", "limit": 5, "suppress_when": [stopped]})
    await site.put({1: 1, 2: 0})
    first = (await site.entries("alarmsrv:journal"))[0]
    assert (first["event"], await suppressed(site)) == ("raised", {"low": "condition"})
    async with functions.client.pubsub() as pubsub:
        await pubsub.subscribe("alarmsrv:new")
        await site.put({1: 10, 2: 1})
        await functions.call("acknowledge_alarm", (await site.alarms())[0]["id"], "anna")
        await site.put({1: 1, 2: 0})
        messages = [m async for m in _received(pubsub)]
    assert len(messages) == 1
    assert b'"suppressed":{"by":"condition","name":"alarm:low"}' in messages[0]


async def _received(pubsub: Any) -> Any:
    while message := await pubsub.get_message(timeout=0.2):
        if message["type"] == "message":
            yield message["data"]


CIRCLES: list[tuple[dict[str, dict[str, Any]], dict[str, Any], str | None]] = [
    (
        {"ma": {"suppresses": ["alarm:mb"]}},
        {"suppresses": ["alarm:ma"]},
        "alarm:mb suppresses alarm:ma, alarm:ma suppresses alarm:mb",
    ),
    (
        {"ma": {"suppresses": ["equipment:pump"], "group": "g"}},
        {"suppresses": ["alarm:x", "group:g"], "equipment": "pump"},
        r"suppresses\[1\]: .*: alarm:mb suppresses group:g with alarm:ma, alarm:ma suppresses equipment:pump with",
    ),
    (
        {
            "ma": {"suppresses": ["alarm:mc"], "source": "comsrv:1002:T:1"},
            "mc": {"suppresses": ["comsrv:1001:unit:5"], "source": "comsrv:1002:T:1"},
        },
        {"suppresses": ["alarm:ma"]},
        "alarm:ma suppresses alarm:mc, alarm:mc suppresses comsrv:1001:unit:5 with alarm:mb",
    ),
    (
        {"ma": {"suppresses": ["comsrv:1001"], "source": "comsrv:1002:T:1"}},
        {"suppresses": ["comsrv:1002:unit:7"]},
        "alarm:mb suppresses comsrv:1002:unit:7 with alarm:ma, alarm:ma suppresses comsrv:1001 with alarm:mb",
    ),
    ({"ma": {"suppresses": ["group:g"], "group": "g"}}, {"suppresses": ["group:g"], "group": "g"}, "with alarm:ma"),
    ({"ma": {"suppresses": ["alarm:mb"], "enabled": False}}, {"suppresses": ["alarm:ma"]}, None),
    ({"ma": {"suppresses": ["alarm:mb"]}}, {"suppresses": ["alarm:ma"], "enabled": False}, None),
    ({"ma": {"suppresses": ["alarm:mb"]}, "mb": {"suppresses": ["alarm:x"]}}, {"suppresses": ["alarm:mc"]}, None),
    ({}, {"suppresses": ["group:g", "comsrv:1001", "equipment:pump"], "group": "g", "equipment": "pump"}, None),
]


@pytest.mark.parametrize(("stored", "last", "way"), CIRCLES)
async def test_definitions_that_would_hide_each_other_are_refused(
    functions: Functions, stored: dict[str, dict[str, Any]], last: dict[str, Any], way: str | None
) -> None:
    for channel, unit in ((1001, 5), (1002, 7)):
        document = {"name": "test", "protocol": "virtual", "points": {"T": [{"id": 1, "mapping": {"slave_id": unit}}]}}
        await functions.call("channel_upsert", channel, document)
    for name, more in stored.items():
        await functions.call("alarm_define", name, {**HOT, **more})
    if way is None:
        await functions.call("alarm_define", "mb", {**HOT, **last})
        return
    before = await keyspace(functions)
    with pytest.raises(InvalidError, match=way):
        await functions.call("alarm_define", "mb", {**HOT, **last})
    assert await keyspace(functions) == before


async def test_the_alarm_of_its_own_unit_is_not_hidden_by_a_definition(functions: Functions) -> None:
    """It suppresses its whole channel, and its unit falls silent: the unit's alarm suppresses it, and is seen."""
    site = await Site(functions).start()
    points = {"T": [{"id": 1, "mapping": {"slave_id": 5}}]}
    await functions.call("channel_upsert", 1001, {"name": "test", "protocol": "virtual", "points": points})
    await functions.call("alarm_define", "tripped", {**HOT, "suppresses": ["comsrv:1001"]})
    await site.put({1: 90})
    units = {unit: {"state": "down"} for unit in ("5", "6")}
    document = {"epoch": site.epoch, "now_ms": site.now, "state": "running", "units": units}
    await functions.call("channel_renew", "1001", document)
    await site.pass_ms(10_000)
    found = {alarm["origin"]: alarm["suppressed"] for alarm in await site.system_alarms()}
    assert found["system:unit:1001:5"] is None
    assert found["system:unit:1001:6"]["by"] == "alarm:tripped"
    assert await suppressed(site) == {"tripped": "system:unit:1001:5"}


async def test_suppressed_by_an_alarm_that_stands(functions: Functions) -> None:
    """Group and equipment: what follows from a cause is suppressed while the cause is active, acknowledged or not."""
    site = await Site(functions).start()
    cause = {**HOT, "source": "comsrv:1001:T:2", "suppresses": ["group:feeder", "equipment:pump", "alarm:single"]}
    await functions.call("alarm_define", "cause", cause)
    for point, (name, more) in enumerate(
        {"a": {"group": "feeder"}, "b": {"equipment": "pump"}, "single": {}, "free": {"group": "other"}}.items(), 3
    ):
        await functions.call("alarm_define", name, {**HOT, "source": f"comsrv:1001:T:{point}", **more})
    await site.put({3: 90})
    await site.put({2: 90, 4: 90, 5: 90, 6: 90})
    by = "alarm:cause"
    assert await suppressed(site) == {"cause": None, "a": by, "b": by, "single": by, "free": None}
    await functions.call("alarm_suppress", "group:feeder", {"by": "anna", "now_ms": site.now})
    await site.put({2: 10})
    assert await suppressed(site) == {"cause": None, "a": "anna", "b": None, "single": None, "free": None}
    await functions.call("alarm_unsuppress", "group:feeder", {"by": "anna", "now_ms": site.now})
    assert set((await suppressed(site)).values()) == {None}
    await check_indexes(site)


async def system(site: Site, kind: str, name: str, *, active: bool) -> None:
    """Report to Redis what comsrv does when a channel or a unit goes down, and let its delay go by."""
    units = {"3": {"state": "down" if active and kind == "unit" else "up"}}
    state = "down" if active and kind == "channel" else "running"
    document = {"epoch": site.epoch, "now_ms": site.now, "state": state, "units": units}
    await site.functions.call("channel_renew", name, document)
    await site.pass_ms(10_000)


@pytest.mark.parametrize(("kind", "down"), [("channel", {"a", "b", "bat"}), ("unit", {"b"})])
async def test_suppressed_by_channel_and_unit(functions: Functions, kind: str, down: set[str]) -> None:
    """A channel that is down suppresses the alarms of its points; a unit, those of the points it answers for."""
    site = await Site(functions).start()
    points = {"T": [{"id": 1, "mapping": {"slave_id": 1}}, {"id": 2, "mapping": {"slave_id": 3}}, {"id": 3}]}
    await functions.call("channel_upsert", 1001, {"name": "test", "protocol": "virtual", "points": points})
    template = {"name": "Battery", "data_points": {"soc": {"base_id": 1}}}
    await functions.call("template_upsert", "battery", template)
    mapping = {"channel": 1001, "data": {"soc": 3}}
    await functions.call("model_upsert", "bat", {"name": "Bat", "template": "battery", "mapping": mapping})
    for name, source in (("a", "comsrv:1001:T:1"), ("b", "comsrv:1001:T:2"), ("bat", "modsrv:bat:soc")):
        await functions.call("alarm_define", name, {**HOT, "source": source})
    await site.put({1: 90, 2: 90, 3: 90})
    await system(site, kind, "1001", active=True)
    by = "system:channel:1001" if kind == "channel" else "system:unit:1001:3"
    assert await suppressed(site) == {name: by if name in down else None for name in ("a", "b", "bat")}
    await site.put({1: 10, 2: 10, 3: 10})
    for alarm in await site.alarms(open=True):
        await functions.call("resolve_alarm", alarm["id"], "anna")
    await site.put({1: 90, 2: 90, 3: 90})
    assert await suppressed(site) == {name: by if name in down else None for name in ("a", "b", "bat")}
    await system(site, kind, "1001", active=False)
    assert set((await suppressed(site)).values()) == {None}
    events = [event for origin, event, _ in await journal(site) if origin == "alarm:b"]
    assert events == ["raised", "suppressed", "returned", "resolved", "raised", "suppressed", "unsuppressed"]


async def test_first_out(functions: Functions) -> None:
    """The first alarm of a group is marked until all of the group are closed."""
    site = await Site(functions).start()
    for point in (1, 2, 3):
        definition = {**HOT, "source": f"comsrv:1001:T:{point}", "group": "trip", "priority": 100 * point}
        await functions.call("alarm_define", f"d{point}", definition)

    async def first() -> list[str]:
        return [alarm["definition"] for alarm in await site.alarms(open=True) if alarm.get("first_out")]

    await site.put({2: 90})
    await site.put({1: 90, 3: 90, 2: 10})
    assert await first() == ["d2"], "also when it has returned"
    await site.put({1: 10, 2: 10, 3: 10})
    for alarm in await site.alarms(open=True):
        await functions.call("acknowledge_alarm", alarm["id"], "anna")
    assert await first() == []
    await site.put({1: 90, 2: 90, 3: 90})
    assert await first() == ["d3"], "of one instant the one of the highest priority"
    assert await execute(functions.client, "SCARD", "alarmsrv:alarms:by_group:trip") == 3


async def test_the_first_out_that_was_closed_and_comes_again_is_it_still(functions: Functions) -> None:
    """What began it stays marked until the group is clear: acknowledged, over, and there again while others stand."""
    site = await Site(functions).start()
    for point in (1, 2):
        await functions.call("alarm_define", f"d{point}", {**HOT, "source": f"comsrv:1001:T:{point}", "group": "trip"})

    async def first() -> list[str]:
        return [alarm["definition"] for alarm in await site.alarms(open=True) if alarm.get("first_out")]

    await site.put({1: 90})
    await site.put({2: 90})
    for alarm in await site.alarms(open=True):
        await functions.call("acknowledge_alarm", alarm["id"], "anna")
    await site.put({1: 10})
    assert await first() == [], "it is closed"
    await site.put({1: 90})
    assert await first() == ["d1"]
    await functions.call("alarm_define", "d1", {**HOT, "group": "other"})
    assert await first() == ["d1"], "of the other group it is the only one"
    await functions.call("alarm_define", "d1", {**HOT, "group": "trip"})
    assert await first() == ["d1"], "and it began this one"
    await site.put({2: 10})
    await functions.call("alarm_define", "d1", {**HOT, "group": "trip", "level": "Info", "ack_required": None})
    assert await first() == [], "an event is no first-out"
    assert await site.hash("alarmsrv:alarms:first_outs") == {}, "the group is clear"


async def test_re_alarm(functions: Functions) -> None:
    site, alarm = await standing(functions, realarm_ms=10_000)
    await functions.call("acknowledge_alarm", alarm, "anna", site.now)
    await site.pass_ms(9_999)
    assert (await site.alarms())[0]["status"] == "Acknowledged"
    await site.pass_ms(1)
    (found,) = await site.alarms()
    assert (found["status"], found["realarmed_at_ms"], found.get("acknowledged_by")) == ("New", START + 10_000, None)
    await functions.call("acknowledge_alarm", alarm, "anna", site.now)
    await functions.call("alarm_shelve", alarm, {"duration_ms": 15_000, "now_ms": site.now})
    await site.pass_ms(10_000)
    assert (await site.alarms())[0]["status"] == "Acknowledged", "a shelved one stays quiet"
    await site.pass_ms(100_000)
    assert [event for _, event, _ in await journal(site)].count("realarmed") == 2, "once for a time without calls"
    await site.put({1: 10})
    await site.pass_ms(100_000)
    assert [event for _, event, _ in await journal(site)].count("realarmed") == 2
    timers = await execute(functions.client, "ZRANGE", "voltage:timers", 0, -1)
    assert [name for name in timers if b"realarm" in name] == []


async def test_many_alarms_of_a_channel_are_suppressed_ten_a_call(functions: Functions) -> None:
    site = await Site(functions).start()
    for number in range(25):
        await functions.call("alarm_define", f"d{number:02}", {**HOT, "group": "g", "now_ms": None})
    await site.put({1: 90})
    for _ in range(4):
        await site.pass_ms(0)
    await functions.call("alarm_suppress", "group:g", {"by": "anna", "now_ms": site.now})
    assert sorted((await suppressed(site)).values(), key=str).count("anna") == 10
    for _ in range(2):
        await site.pass_ms(0)
    assert set((await suppressed(site)).values()) == {"anna"}
    found = [origin for origin, event, _ in await journal(site) if event == "suppressed" and origin.startswith("alarm")]
    assert found == [f"alarm:d{number:02}" for number in range(25)]
