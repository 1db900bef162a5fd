"""Alarms by hand, many at once, lists, counts and retention."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes, events, standing
from tests.support.site import START, Site, keyspace

DOOR: dict[str, Any] = {
    "title": "Door open", "description": "container 3", "level": "Minor", "source": "north door", "tags": ["door"],
    "by": "anna",
}  # fmt: skip


async def test_an_alarm_by_hand(functions: Functions) -> None:
    site = await Site(functions).start()
    alarm = await functions.json("store_alarm", "door", {**DOOR, "value": 1.5, "comment": "seen by the guard"})
    expected = {"id": "door", "status": "New", "count": 1, "value": 1.5, "ack_required": True, "created_by": "anna"}
    for field, value in {**DOOR, **expected}.items():
        assert field == "by" or alarm[field] == value
    before = await keyspace(functions)
    assert await functions.json("store_alarm", "door", DOOR) == alarm, "the same again is a repeat"
    assert await keyspace(functions) == before
    made = await functions.json("store_alarm", None, {"title": "x", "level": "Info"})
    assert (made["source"], made["ack_required"]) == ("manual", False)
    await functions.call("acknowledge_alarm", "door", "ben")
    assert (await functions.json("resolve_alarm", "door", "ben"))["status"] == "Resolved"
    assert await site.members("alarmsrv:alarms:active") == {made["id"]}
    assert ("raised", "New", "anna") in await events(functions)
    await check_indexes(site)
    with pytest.raises(ConflictError, match=r"alarm door is Resolved, .*choose another id"):
        await functions.call("store_alarm", "door", DOOR)


async def test_refusals_of_an_alarm_by_hand(functions: Functions) -> None:
    await functions.call("store_alarm", "door", DOOR)
    before = await keyspace(functions)
    with pytest.raises(ConflictError, match="alarm door is open and says something else"):
        await functions.call("store_alarm", "door", {**DOOR, "title": "Window open"})
    with pytest.raises(InvalidError) as caught:
        await functions.call("store_alarm", "x", {"level": "Loud", "tags": {"a": 1}, "ack_required": 1, "colour": 2})
    for part in ("title", "level", "tags", "ack_required", "colour"):
        assert part in str(caught.value)
    for name, change in (
        ("x", {"value": "high"}), ("x", {"source": "s" * 129}), ("x", {"id": "y"}), ("a:b", {}), ("x", {"comment": 5}),
    ):  # fmt: skip
        with pytest.raises(InvalidError):
            await functions.call("store_alarm", name, {**DOOR, **change})
    assert await keyspace(functions) == before


async def test_acknowledge_many(functions: Functions) -> None:
    site, alarm = await standing(functions)
    for name in ("a", "b", "c"):
        await functions.call("store_alarm", name, DOOR)
    await functions.call("acknowledge_alarm", "b", "anna")
    await functions.call("resolve_alarm", "c", "anna")
    await site.put({1: 10})
    ids = [alarm, "a", "b", "c", "nobody", "a"]
    reply = await functions.json("acknowledge_alarms_batch", None, {"ids": ids, "by": "ben", "comment": "all seen"})
    assert (reply["acknowledged"], reply["unchanged"]) == ([alarm, "a"], ["b", "a"])
    assert [(one["id"], one["code"]) for one in reply["failed"]] == [("c", "STATE"), ("nobody", "NOTFOUND")]
    assert {one["id"]: one["status"] for one in await site.alarms()} == {
        alarm: "Resolved", "a": "Acknowledged", "b": "Acknowledged", "c": "Resolved",
    }  # fmt: skip
    await check_indexes(site)
    before = await keyspace(functions)
    for document, error in (
        ({"by": "ben"}, InvalidError), ({"ids": {"a": 1}, "by": "ben"}, InvalidError), ({"ids": ["a"]}, InvalidError),
        ({"ids": ["a:b"], "by": "ben"}, InvalidError), ({"ids": ["a"] * 501, "by": "ben"}, LimitError),
    ):  # fmt: skip
        with pytest.raises(error):
            await functions.call("acknowledge_alarms_batch", None, document)
    assert await keyspace(functions) == before


async def fill(functions: Functions) -> list[dict[str, Any]]:
    """Store 60 alarms of every level, three sources and states; return them newest first."""
    await functions.call("alarm_system_configure", None, {"flood": {"enabled": False}})
    stored = []
    for number in range(60):
        document = {
            "title": "t", "level": ("Critical", "Major", "Minor", "Warning", "Info")[number % 5],
            "source": f"s{number % 3}", "now_ms": START + number // 4 * 10,
        }  # fmt: skip
        alarm = await functions.json("store_alarm", f"a{number:02}", document)
        if number % 4 == 1 and alarm["level"] != "Info":
            alarm = await functions.json("acknowledge_alarm", alarm["id"], "anna")
        elif number % 4 == 2:
            alarm = await functions.json("resolve_alarm", alarm["id"], "anna")
        stored.append(alarm)
    return sorted(stored, key=lambda one: (one["created_at_ms"], one["id"]), reverse=True)


QUERIES: list[dict[str, Any]] = [
    {},
    {"status": "New"},
    {"status": "Resolved", "level": "Major"},
    {"open": True, "level": "Critical", "source": "s0"},
    {"source": "s1", "from_ms": START + 30, "to_ms": START + 90},
    {"level": "Minor", "status": "Acknowledged", "source": "s2", "from_ms": START + 10},
    {"source": "nowhere"},
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("plan", ["few", "walk"])
async def test_all_filters_together(functions: Functions, query: dict[str, Any], plan: str) -> None:
    """Every page of a query agrees with the plain filter, by either plan."""
    site = await Site(functions).start()
    everything = await fill(functions)
    if plan == "walk":  # an index past 100 members is not looked at whole
        crowd = [f"x{number}" for number in range(101)]
        for name in ("level:Critical", "level:Major", "level:Minor", "source:s0", "source:s1", "source:s2"):
            await functions.client.sadd(f"alarmsrv:alarms:by_{name}", *crowd)

    def wanted(alarm: dict[str, Any]) -> bool:
        return (
            all(alarm[field] == query[field] for field in ("status", "level", "source") if field in query)
            and (not query.get("open") or alarm["status"] != "Resolved")
            and query.get("from_ms", 0) <= alarm["created_at_ms"] <= query.get("to_ms", 2**53)
        )

    expected = [alarm["id"] for alarm in everything if wanted(alarm)]
    found, cursor = [], None
    while True:
        page = await functions.read_json("query_alarms", None, {**query, "limit": 7, "cursor": cursor})
        found += [alarm["id"] for alarm in page["items"]]
        assert len(page["items"]) <= 7
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == expected
    assert site.now == START


async def test_lists_by_what_keeps_an_alarm_quiet(functions: Functions) -> None:
    site = await Site(functions).start()
    for number, more in enumerate(({"area": "Hall 1"}, {"area": "Hall 2", "group": "g"}, {"equipment": "pump"})):
        await functions.call("alarm_define", f"d{number}", {**HOT, **more})
    await site.put({1: 90})
    await functions.call("alarm_shelve", "alarm:d0", {"duration_ms": 1000, "now_ms": site.now})
    await functions.call("alarm_suppress", "group:g", {"now_ms": site.now})
    await functions.call("alarm_out_of_service", "equipment:pump", {"now_ms": site.now})
    for query, names in (
        ({"shelved": True}, ["d0"]), ({"shelved": False}, ["d2", "d1"]), ({"suppressed": True}, ["d1"]),
        ({"out_of_service": True}, ["d2"]), ({"area": "Hall 2"}, ["d1"]), ({"equipment": "pump"}, ["d2"]),
        ({"group": "g", "suppressed": False}, []), ({"area": "Hall 1", "level": "Major", "open": True}, ["d0"]),
    ):  # fmt: skip
        assert [alarm["definition"] for alarm in await site.alarms(**query)] == names, query
    await check_indexes(site)
    # What a definition says anew, and what is gone, is found by no old name.
    await functions.call("alarm_define", "d1", {**HOT, "area": "Hall 3", "equipment": "fan", "level": "Critical"})
    assert (await site.alarms(area="Hall 2"), len(await site.alarms(area="Hall 3", equipment="fan"))) == ([], 1)
    await check_indexes(site)
    await site.put({1: 10})
    await site.pass_ms(2000)
    for alarm in await site.alarms(open=True):
        await functions.call("acknowledge_alarm", alarm["id"], "anna", site.now)
    await check_indexes(site)
    await functions.call("cleanup_old_alarms", None, {"before_ms": site.now + 1, "now_ms": site.now})
    assert await site.alarms() == []
    await check_indexes(site)


async def test_active_alarms_and_counts(functions: Functions) -> None:
    await Site(functions).start()
    everything = await fill(functions)
    page = await functions.read_json("get_active_alarms", None, {"level": "Critical"})
    assert [one["id"] for one in page["items"]] == [
        one["id"] for one in everything if one["level"] == "Critical" and one["status"] != "Resolved"
    ]
    counts = await functions.read_json("get_alarm_stats", None)
    assert counts == {
        "total": 60, "active": 45, "definitions": 0,
        "by_status": {"New": 33, "Acknowledged": 12, "Returned": 0, "Resolved": 15},
        "by_level": {"Critical": 9, "Major": 9, "Minor": 9, "Warning": 9, "Info": 9},
    }  # fmt: skip
    for wrong in ({"level": "Loud"}, {"status": "Open"}, {"colour": 1}, {"cursor": "x"}, {"limit": 0}, {"limit": 1001}):
        with pytest.raises(InvalidError):
            await functions.read("query_alarms", None, wrong)
    with pytest.raises(NotFoundError):
        await functions.read("get_alarm", "nobody")


async def test_counts_that_do_not_add_up_are_not_believed(functions: Functions) -> None:
    await Site(functions).start()
    await functions.call("store_alarm", "a", DOOR)
    right = await functions.read_json("get_alarm_stats", None)
    await functions.client.hincrby("alarmsrv:alarms:counts", "Info", 7)
    assert await functions.read_json("get_alarm_stats", None) == right


async def test_a_call_looks_at_so_many_and_says_that_there_is_more(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_system_configure", None, {"flood": {"enabled": False}})
    await functions.call("alarm_define", "hot", {**HOT, "group": "g"})
    await site.put({1: 90})
    for number in range(300):
        await functions.call("store_alarm", f"a{number}", {**DOOR, "now_ms": START + 1})
    assert len(await site.alarms()) == 40, "where no limit is given"
    assert len(await site.alarms(limit=300)) == 300
    first = await functions.read_json("query_alarms", None, {"group": "g"})
    assert (first["items"], first["cursor"] is None) == ([], False)
    second = await functions.read_json("query_alarms", None, {"group": "g", "cursor": first["cursor"]})
    assert ([alarm["definition"] for alarm in second["items"]], second["cursor"]) == (["hot"], None)


async def test_only_old_resolved_alarms_are_removed(functions: Functions) -> None:
    site = await Site(functions).start()
    for name in ("a", "b", "c", "open"):
        await functions.call("store_alarm", name, {**DOOR, "now_ms": site.now})
    for name in ("a", "b"):
        await functions.call("resolve_alarm", name, "anna", site.now)
    await site.pass_ms(86_400_000)
    await functions.call("resolve_alarm", "c", "anna", site.now)
    await site.pass_ms(1)
    assert await functions.json("cleanup_old_alarms", None) == {"removed": 0, "more": False}
    assert await functions.json("cleanup_old_alarms", None, {"days": 1, "limit": 1}) == {"removed": 1, "more": True}
    assert await functions.json("cleanup_old_alarms", None, {"days": 1}) == {"removed": 1, "more": False}
    assert {one["id"] for one in await site.alarms()} == {"c", "open"}
    assert await functions.json("cleanup_old_alarms", None, {"before_ms": site.now}) == {"removed": 1, "more": False}
    assert {one["id"] for one in await site.alarms()} == {"open"}
    await check_indexes(site)
    before = await keyspace(functions)
    for wrong in ({"days": -1}, {"days": "x"}, {"limit": 1001}, {"before_ms": 1.5}):
        with pytest.raises(InvalidError):
            await functions.call("cleanup_old_alarms", None, wrong)
    assert await keyspace(functions) == before
