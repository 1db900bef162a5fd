"""Every state of an alarm and every event: where it leads, what the journal says, and what is refused with STATE.

The tables here are written from DESIGN.md section 4 and ISA-18.2, not from the Lua.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.errors import StateError
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes, events
from tests.support.site import Site, keyspace

REALARM_MS = 60_000
# State -> the definition beside HOT, and what leads there.
WAYS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Normal": ({}, ("end",)),
    "New": ({}, ("begin",)),
    "Acknowledged": ({}, ("begin", "acknowledge")),
    "Returned": ({}, ("begin", "end")),
    "Returned latched": ({"latching": True}, ("begin", "end")),
    "Acknowledged latched": ({"latching": True}, ("begin", "acknowledge", "end")),
    "Resolved": ({}, ("begin", "acknowledge", "end")),
    "New, no acknowledgement needed": ({"level": "Warning"}, ("begin",)),
    "New Info": ({"level": "Info", "realarm_ms": None}, ("begin",)),
}
STATE, SAME = "STATE", "same"
# What becomes of it: the new state, and what the journal says; STATE is a refusal, SAME no change.
EXPECTED: dict[str, dict[str, tuple[str, str] | str]] = {
    "Normal": {"begin": ("New", "raised"), "end": SAME, "wait": SAME},
    "New": {
        "begin": SAME, "end": ("Returned", "returned"), "acknowledge": ("Acknowledged", "acknowledged"),
        "resolve": STATE, "wait": ("New", "realarmed"), "shelve": ("New", "shelved"), "shelve_once": ("New", "shelved"),
        "unshelve": SAME, "suppress": ("New", "suppressed"), "unsuppress": SAME, "out": ("New", "out_of_service"),
        "in": SAME,
    },
    "Acknowledged": {
        "begin": SAME, "end": ("Resolved", "resolved"), "acknowledge": SAME, "resolve": STATE,
        "wait": ("New", "realarmed"), "shelve": ("Acknowledged", "shelved"), "shelve_once": ("Acknowledged", "shelved"),
        "unshelve": SAME, "suppress": ("Acknowledged", "suppressed"), "unsuppress": SAME,
        "out": ("Acknowledged", "out_of_service"), "in": SAME,
    },
    "Returned": {
        "begin": ("New", "recurred"), "end": SAME, "acknowledge": ("Resolved", "acknowledged"),
        "resolve": ("Resolved", "resolved"), "wait": SAME, "shelve": ("Returned", "shelved"), "shelve_once": STATE,
        "unshelve": SAME, "suppress": ("Returned", "suppressed"), "unsuppress": SAME,
        "out": ("Returned", "out_of_service"), "in": SAME,
    },
    "Returned latched": {
        "begin": ("New", "recurred"), "end": SAME, "acknowledge": ("Acknowledged latched", "acknowledged"),
        "resolve": ("Resolved", "resolved"), "wait": SAME, "shelve": ("Returned latched", "shelved"),
        "shelve_once": STATE, "unshelve": SAME, "suppress": ("Returned latched", "suppressed"), "unsuppress": SAME,
        "out": ("Returned latched", "out_of_service"), "in": SAME,
    },
    "Acknowledged latched": {
        "begin": ("New", "recurred"), "end": SAME, "acknowledge": SAME, "resolve": ("Resolved", "resolved"),
        "wait": SAME, "shelve": ("Acknowledged latched", "shelved"), "shelve_once": STATE, "unshelve": SAME,
        "suppress": ("Acknowledged latched", "suppressed"), "unsuppress": SAME,
        "out": ("Acknowledged latched", "out_of_service"), "in": SAME,
    },
    "Resolved": {
        "end": SAME, "acknowledge": STATE, "resolve": SAME, "wait": SAME, "shelve": STATE, "shelve_once": STATE,
        "unshelve": STATE, "suppress": STATE, "unsuppress": STATE, "out": STATE, "in": STATE,
    },
    "New, no acknowledgement needed": {
        "end": ("Resolved", "resolved"), "acknowledge": ("Acknowledged", "acknowledged"), "resolve": STATE,
        "wait": ("New", "realarmed"), "shelve": ("New", "shelved"),
    },
    "New Info": {
        "end": ("Resolved", "resolved"), "acknowledge": STATE, "resolve": STATE, "wait": SAME, "shelve": STATE,
        "shelve_once": STATE, "unshelve": SAME, "suppress": ("New", "suppressed"),
    },
}  # fmt: skip


async def do(site: Site, alarm: str | None, event: str) -> bytes | None:
    """Let an event happen: to the point, to the clock, or by a person."""
    call, who = site.functions.call, {"by": "anna", "now_ms": site.now}
    if event in {"begin", "end"}:
        return await site.put({1: 90 if event == "begin" else 10})
    if event == "wait":
        return await site.pass_ms(REALARM_MS)
    if event in {"acknowledge", "resolve"}:
        return await call(f"{event}_alarm", alarm, "anna", site.now)
    name, more = {
        "shelve": ("alarm_shelve", {"duration_ms": 1000}),
        "shelve_once": ("alarm_shelve", {"one_shot": True}),
        "out": ("alarm_out_of_service", {}),
        "in": ("alarm_out_of_service", {"in_service": True}),
    }.get(event, (f"alarm_{event}", {}))
    return await call(name, alarm, {**who, **more})


async def state(site: Site) -> tuple[str, str | None]:
    """Return where the newest alarm is in its life, and its id."""
    found = await site.alarms()
    if not found:
        return "Normal", None
    return found[0]["status"] + (" latched" if found[0].get("latched") else ""), found[0]["id"]


def cases() -> list[Any]:
    return [(start, event) for start, row in EXPECTED.items() for event in row]


@pytest.mark.parametrize(("start", "event"), cases())
async def test_every_state_and_every_event(functions: Functions, start: str, event: str) -> None:
    site = await Site(functions).start()
    more, way = WAYS[start]
    definition = {name: value for name, value in {**HOT, "realarm_ms": REALARM_MS, **more}.items() if value is not None}
    await functions.call("alarm_define", "hot", definition)
    for step in way:
        await do(site, (await state(site))[1], step)
    reached, alarm = await state(site)
    assert start.startswith(reached)
    site.now += 1
    before, journal = await keyspace(functions), await events(functions)
    expected = EXPECTED[start][event]
    if expected == STATE:
        with pytest.raises(StateError):
            await do(site, alarm, event)
        assert await keyspace(functions) == before
        return
    await do(site, alarm, event)
    after = await events(functions)
    assert after[: len(journal)] == journal
    said = [name for name, _, _ in after[len(journal) :]]
    if expected == SAME:
        assert (await state(site), said) == ((reached, alarm), [])
    else:
        assert ((await state(site))[0], said) == (expected[0], [expected[1]])
    await check_indexes(site)


SHELVED = {"unshelved": (), "timed": ("shelve",), "one_shot": ("shelve_once",)}
ASKED = {"shelve": "timed", "shelve_once": "one_shot", "unshelve": "unshelved"}
SHELVING = {
    "unshelved": {**ASKED, "end": "unshelved"},
    "timed": {**ASKED, "expire": "unshelved", "end": "timed"},
    "one_shot": {**ASKED, "expire": "unshelved", "end": "unshelved"},
}


@pytest.mark.parametrize(("start", "event"), [(start, event) for start, row in SHELVING.items() for event in row])
async def test_every_way_of_shelving(functions: Functions, start: str, event: str) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, "max_shelve_ms": 5000})
    await site.put({1: 90})
    for step in SHELVED[start]:
        await do(site, (await state(site))[1], step)
    if event == "expire":
        await site.pass_ms(5000)
    else:
        await do(site, (await state(site))[1], event)
    (alarm,) = await site.alarms()
    shelved = alarm["shelved"]
    found = "unshelved" if shelved is None else ("one_shot" if shelved["one_shot"] else "timed")
    assert found == SHELVING[start][event]
    assert shelved is None or shelved["until_ms"] <= site.now + 5000, "one shot has the maximum, too"


@pytest.mark.parametrize("verb", ["suppress", "out"])
async def test_every_way_of_suppression_and_service(functions: Functions, verb: str) -> None:
    """By hand and by a group, in every order: marked as long as anybody holds it, and a person ends only a person's."""
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, "group": "g"})
    await site.put({1: 90})
    _, alarm = await state(site)
    back = {"suppress": "unsuppress", "out": "in"}[verb]
    field = {"suppress": "suppressed", "out": "out_of_service"}[verb]

    async def marked(name: str | None, event: str) -> bool:
        await do(site, name, event)
        return orjson.loads(await functions.read("get_alarm", alarm))[field] is not None

    assert await marked(alarm, verb)
    assert await marked("group:g", verb)
    assert await marked(alarm, back), "the group holds it"
    with pytest.raises(StateError, match=r"stands|its group"):
        await do(site, alarm, back)
    assert not await marked("group:g", back)
    assert not await marked(alarm, back), "without a mark nothing changes"
    entries = await events(functions)
    on, off = {"suppress": ("suppressed", "unsuppressed"), "out": ("out_of_service", "in_service")}[verb]
    assert [event for event, status, _ in entries if status == "New"] == ["raised", on, off]
    assert [event for event, status, _ in entries if status == "Normal"] == [on, off], "the group's own"
    await check_indexes(site)


async def test_a_rule_that_is_triggered_again_counts_on_its_alarm(functions: Functions) -> None:
    site = await Site(functions).start()
    action = {"type": "create_alarm", "params": {"title": "hot", "level": "Major"}}
    condition = {"source": "comsrv:1001:T:1", "operator": ">", "value": 80}
    await functions.call("rule_upsert", "r1", {"name": "r1", "conditions": [condition], "actions": [action]})
    await site.put({1: 90})
    for status in ("New", "Acknowledged"):
        (alarm,) = await site.alarms()
        assert alarm["status"] == status
        await functions.call("rule_trigger_action", "r1")
        assert [(one["status"], one["count"]) for one in await site.alarms()] == [(status, alarm["count"] + 1)]
        await functions.call("acknowledge_alarm", alarm["id"], "anna")


async def test_an_alarm_by_hand_resolves_by_hand(functions: Functions) -> None:
    site = await Site(functions).start()
    for before in ((), ("acknowledge",)):
        made = await functions.json("store_alarm", None, {"title": "door", "level": "Major"})
        for step in (*before, "shelve", "suppress", "out"):
            await do(site, made["id"], step)
        found = await functions.read_json("get_alarm", made["id"])
        assert [found[field]["by"] for field in ("shelved", "suppressed", "out_of_service")] == ["anna"] * 3
        await site.pass_ms(1000)
        for step in ("unsuppress", "in"):
            await do(site, made["id"], step)
        found = await functions.read_json("get_alarm", made["id"])
        assert [found[field] for field in ("shelved", "suppressed", "out_of_service")] == [None] * 3
        for step in ("shelve", "suppress", "resolve"):
            await do(site, made["id"], step)
        assert (await functions.read_json("get_alarm", made["id"]))["status"] == "Resolved"
        await check_indexes(site)
    assert await functions.read_json("alarm_marks", None) == {"items": []}, "its marks went with it"
