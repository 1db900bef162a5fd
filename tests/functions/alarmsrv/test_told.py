"""What the outbox is told of alarms that something keeps quiet: when that ends, as of a raise, and once."""

from __future__ import annotations

from typing import Any

import pytest

from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.site import Site

STOPPED = {"source": "comsrv:1001:S:1", "operator": "==", "value": 0}
ROUTE = {"to": ["webhook:pager"], "escalation": [{"after_s": 20, "to": ["webhook:boss"]}]}


async def told(site: Site) -> list[tuple[str, str | None]]:
    """Return what is in the outbox: events, and as what they are told."""
    return [(entry["event"], entry.get("told_as")) for entry in await site.entries("alarmsrv:outbox")]


async def begin(functions: Functions, **more: Any) -> Site:
    site = await Site(functions).start()
    await functions.call("alarm_route_upsert", "shift", ROUTE)
    await functions.call("alarm_define", "hot", {**HOT, **more})
    return site


async def mark(site: Site, kind: str, *, on: bool) -> None:
    """Keep the definition's alarms quiet, or end that."""
    who = {"by": "anna", "now_ms": site.now}
    if kind == "condition":
        await site.put({1: 0 if on else 1}, kind="S")
    elif kind == "group":
        await site.functions.call("alarm_suppress" if on else "alarm_unsuppress", "group:feeder", who)
    elif kind == "out_of_service":
        await site.functions.call("alarm_out_of_service", "alarm:hot", {**who, "in_service": not on})
    elif on:
        await site.functions.call("alarm_shelve", "alarm:hot", {**who, "duration_ms": 4000})
    else:
        await site.pass_ms(4000)


EVENTS = {"shelved": "unshelved", "condition": "unsuppressed", "group": "unsuppressed", "out_of_service": "in_service"}


@pytest.mark.parametrize("kind", EVENTS)
async def test_an_alarm_that_was_born_quiet_is_told_when_that_ends(functions: Functions, kind: str) -> None:
    """As of a raise, with the time of escalation counted from then, and once."""
    site = await begin(functions, suppress_when=[STOPPED], group="feeder")
    await mark(site, kind, on=True)
    await site.put({1: 90})
    assert await told(site) == []
    await mark(site, kind, on=False)
    assert await told(site) == [(EVENTS[kind], "raised")]
    await site.pass_ms(19_999)
    assert len(await told(site)) == 1
    await site.pass_ms(1)
    assert (await told(site))[1:] == [("escalated", None)]
    await mark(site, kind, on=True)
    await mark(site, kind, on=False)
    assert len(await told(site)) == 2, "it was told before"


async def test_the_last_reason_counts(functions: Functions) -> None:
    site = await begin(functions, group="feeder")
    await mark(site, "group", on=True)
    await mark(site, "shelved", on=True)
    await site.put({1: 90})
    await mark(site, "shelved", on=False)
    assert await told(site) == []
    await mark(site, "group", on=False)
    assert await told(site) == [("unsuppressed", "raised")]


async def test_told_before_is_not_told_again_but_what_came_meanwhile_is(functions: Functions) -> None:
    site = await begin(functions)
    await site.put({1: 90})
    await mark(site, "shelved", on=True)
    await mark(site, "shelved", on=False)
    assert await told(site) == [("raised", None)]
    await mark(site, "shelved", on=True)
    await site.put({1: 10})
    await site.put({1: 90})
    await mark(site, "shelved", on=False)
    assert await told(site) == [("raised", None), ("unshelved", "recurred")]


async def test_what_asks_nobody_any_more_is_not_told(functions: Functions) -> None:
    """Ended or acknowledged meanwhile: neither the shift nor who comes next; if it comes again, as of a raise."""
    site = await begin(functions)
    await mark(site, "shelved", on=True)
    await site.put({1: 90})
    await site.put({1: 10})
    await mark(site, "shelved", on=False)
    await site.pass_ms(30_000)
    assert await told(site) == []
    await site.put({1: 90})
    assert await told(site) == [("recurred", "raised")]
    (alarm,) = await site.alarms(open=True)
    await functions.call("acknowledge_alarm", alarm["id"], "anna", site.now)
    await site.put({1: 10})
    await mark(site, "shelved", on=True)
    await site.put({1: 90})
    (alarm,) = await site.alarms(open=True)
    await functions.call("acknowledge_alarm", alarm["id"], "anna", site.now)
    await mark(site, "shelved", on=False)
    await site.pass_ms(30_000)
    assert len(await told(site)) == 1


async def test_one_shot_ends_with_the_condition_and_tells_nobody(functions: Functions) -> None:
    site = await begin(functions)
    await mark(site, "shelved", on=True)
    await site.put({1: 90})
    (alarm,) = await site.alarms(open=True)
    await functions.call("alarm_shelve", alarm["id"], {"one_shot": True, "now_ms": site.now})
    await site.put({1: 10})
    await site.pass_ms(30_000)
    assert [entry["event"] for entry in await site.entries("alarmsrv:journal")][-2:] == ["unshelved", "returned"]
    assert await told(site) == []


async def test_a_shift_that_begins_is_told_what_stands_and_its_escalation_counts_from_then(
    functions: Functions,
) -> None:
    """Of its own route alone: what others are told of the alarm, and when, stays as it is."""
    site = await begin(functions)
    await functions.call("alarm_route_upsert", "night", ROUTE)
    await site.put({1: 90})
    await site.pass_ms(20_000)
    (alarm,) = await site.alarms(open=True)
    document = {"alarms": [alarm["id"], "gone"], "began_ms": site.now, "now_ms": site.now, "done": True}
    assert await functions.json("alarm_route_standing", "night", document) == {"told": 1}
    await site.pass_ms(20_000)
    entries = [(one["kind"], one.get("route")) for one in await site.entries("alarmsrv:outbox")]
    assert entries == [("event", None), ("escalation", None), ("standing", "night"), ("escalation", "night")]
    await functions.call("acknowledge_alarm", alarm["id"], "anna", site.now)
    assert await functions.json("alarm_route_standing", "night", document) == {"told": 0}
    assert await site.hash("alarmsrv:outbox:shifts") == {"night": str(document["began_ms"])}
