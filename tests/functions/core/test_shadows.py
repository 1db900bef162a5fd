"""Shadows: a rule or an alarm definition beside the active one that acts on nothing and is noted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.refusal import refused
from tests.support.site import START, Site, keyspace

REF = "comsrv:1001:T:1"
KINDS = {"rule": ("rule_upsert", "rule_delete"), "alarm_definition": ("alarm_define", "alarm_definition_delete")}


@pytest.fixture
async def site(functions: Functions) -> Site:
    return await Site(functions).start()


def rule(limit: float, **more: Any) -> dict[str, Any]:
    command = {"type": "command", "params": {"target": "comsrv:1001:A:1", "value": 50}}
    return {
        "name": "hot",
        "conditions": [{"source": REF, "operator": ">", "value": limit}],
        "actions": [command],
        **more,
    }


def definition(limit: float, **more: Any) -> dict[str, Any]:
    return {"source": REF, "detector": "Hi", "limit": limit, "level": "Major", "message": "{value} of {limit}", **more}


MADE = {"rule": rule, "alarm_definition": definition}


async def start(site: Site, said: dict[str, Any] | None, kind: str = "rule", of: str = "x", **more: Any) -> Any:
    asked = {"kind": kind, "by": "ann", **more}
    if said is not None:
        asked["definition"] = orjson.dumps(said).decode()
    return await site.functions.json("shadow_start", of, asked)


async def noted(site: Site, kind: str = "rule", of: str = "x") -> list[tuple[str, str, int]]:
    entries = await site.entries(f"voltage:shadow:{kind}:{of}:log")
    return [(one["who"], one["event"], int(one["at_ms"]) - START) for one in entries]


async def commands(site: Site) -> int:
    return int(await execute(site.functions.client, "ZCARD", "comsrv:1001:commands:queue"))


@pytest.mark.parametrize("kind", KINDS)
async def test_both_are_noted_and_only_the_active_one_acts(site: Site, kind: str) -> None:
    await site.functions.call(KINDS[kind][0], "x", MADE[kind](80))
    shadow = await start(site, MADE[kind](70), kind)
    assert (shadow["of"], shadow["by"], shadow["started_at_ms"], shadow["active"]) == ("x", "ann", START, False)
    await site.put({1: 75})
    assert (await site.firings(), await site.alarms()) == ([], [])
    await site.pass_ms(1000)
    await site.put({1: 85})
    await site.pass_ms(1000)
    await site.put({1: 60})
    assert await noted(site, kind) == [
        ("shadow", "began", 0), ("shadow", "on", 0), ("active", "on", 1000), ("shadow", "off", 2000),
        ("active", "off", 2000),
    ]  # fmt: skip
    states = [(one["active"], one["shadow"]) for one in await site.entries(f"voltage:shadow:{kind}:x:log")]
    assert states == [("0", "0"), ("0", "1"), ("1", "1"), ("1", "0"), ("0", "0")]
    would = [one["would"] for one in await site.entries(f"voltage:shadow:{kind}:x:log")]
    said = "command comsrv:1001:A:1 to 50" if kind == "rule" else "raise Major: 85 of 80"
    assert orjson.loads(would[2])[0]["would"] == said, "of the active one, too, what it came to"
    assert len(await site.alarms()) == (kind == "alarm_definition")
    assert [one[1] for one in await site.firings()] == (["fired", "cleared"] if kind == "rule" else [])


async def test_what_it_would_do_is_checked_as_if_it_were_done(site: Site) -> None:
    second_leaf = {"source": "comsrv:1001:T:2", "operator": "quality", "value": "bad"}
    any_of = {"any": [rule(70)["conditions"][0], {"all": [second_leaf, rule(70)["conditions"][0]]}]}
    await start(site, rule(70, conditions=any_of))
    await site.put({1: 75, 2: 1})
    await site.put({1: 60})
    await site.put({2: 1}, {2: "bad:timeout"})
    await site.put({1: 80})
    (_, first, _, second) = await site.entries("voltage:shadow:rule:x:log")
    assert orjson.loads(first["would"]) == [{"type": "command", "would": "command comsrv:1001:A:1 to 50"}]
    assert orjson.loads(first["inputs"])[0]["value"] == 75
    assert orjson.loads(second["would"]) == [{"type": "command", "problem": "withheld: an input is not good"}]
    assert await commands(site) == 0
    tag = {"type": "A", "point": 1, "kind": "lockout", "by": "bob", "reason": "hands", "now_ms": site.now}
    await site.functions.call("point_tag", 1001, tag)
    await site.put({1: 60, 2: 1})
    await site.put({1: 75})
    last = (await site.entries("voltage:shadow:rule:x:log"))[-1]
    assert "lockout tag of bob" in orjson.loads(last["would"])[0]["problem"]


async def test_what_the_active_one_commands_is_not_in_the_way(site: Site) -> None:
    await site.functions.call("rule_upsert", "x", rule(70))
    await start(site, rule(70))
    for value in (75, 60, 75):
        await site.put({1: value})
        await site.pass_ms(100)
    would = {one["would"] for one in await site.entries("voltage:shadow:rule:x:log") if one["event"] == "on"}
    assert [orjson.loads(one)[0]["would"] for one in would] == ["command comsrv:1001:A:1 to 50"]


async def test_an_alarm_says_what_it_would_raise(site: Site) -> None:
    await start(site, definition(70), "alarm_definition")
    await site.put({1: 75})
    (_, on) = await site.entries("voltage:shadow:alarm_definition:x:log")
    assert orjson.loads(on["would"]) == [{"type": "alarm", "would": "raise Major: 75 of 70"}]


async def test_a_hold_of_a_shadow_outlives_a_restart(site: Site) -> None:
    held = [{"source": REF, "operator": ">", "value": 70, "for_ms": 5000}]
    await start(site, {"name": "held", "conditions": held})
    await site.put({1: 75})
    await site.pass_ms(3000)
    await execute(site.functions.client, "SET", "voltage:generation", "another")
    await site.pass_ms(2000)
    assert await noted(site) == [("shadow", "began", 0), ("shadow", "on", 5000)]
    assert (await site.functions.read_json("shadow_get", "x", {"kind": "rule"}))["active"] is True


@pytest.mark.parametrize("kind", KINDS)
async def test_the_active_one_that_changes_or_goes_is_noted(site: Site, kind: str) -> None:
    upsert, delete = KINDS[kind]
    await site.functions.call(upsert, "x", MADE[kind](80))
    await site.put({1: 85})
    await start(site, MADE[kind](95), kind)
    await site.pass_ms(1000)
    await site.functions.call(delete, "x", site.now)
    assert await noted(site, kind) == [("shadow", "began", 0), ("active", "off", 1000)]
    assert (await site.entries(f"voltage:shadow:{kind}:x:log"))[0]["active"] == "1"


@pytest.mark.parametrize("kind", KINDS)
async def test_promoted_it_is_the_active_one_with_a_version(site: Site, kind: str) -> None:
    await site.functions.call(KINDS[kind][0], "x", MADE[kind](80))
    await start(site, MADE[kind](70), kind, reason="earlier")
    await site.put({1: 75})
    asked = {"kind": kind, "by": "bob", "version": 2}
    async with refused(site.functions, ConflictError, "has version 1, not 2"):
        await site.functions.call("shadow_promote", "x", asked)
    done = await site.functions.json("shadow_promote", "x", asked | {"version": 1})
    assert (done["version"], done["author"], done["reason"]) == (2, "bob", "earlier")
    assert len(await site.firings()) + len(await site.alarms()) == 1
    assert not await execute(site.functions.client, "KEYS", "voltage:shadow*")


async def test_it_ends_and_leaves_nothing(site: Site) -> None:
    before = await keyspace(site.functions)
    held = [{"source": REF, "operator": ">", "value": 70, "for_ms": 5000}]
    await start(site, {"name": "held", "conditions": held})
    await site.put({1: 75})
    assert (await site.functions.read_json("shadow_list", None, {"kind": "rule"}))["items"][0]["of"] == "x"
    assert await site.functions.json("shadow_stop", "x", {"kind": "rule"}) == {"stopped": "x"}
    left = set(await keyspace(site.functions)) - set(before)
    assert not [name for name in left if b"shadow" in name or b"timers" in name]


async def test_refusals_leave_everything_as_it_was(site: Site) -> None:
    marked = rule(80, requires_approval=True)
    await site.functions.call("rule_upsert", "marked", marked)
    await start(site, rule(70), of="marked")
    for name, of, asked, error, text in (
        ("shadow_start", "x", {"kind": "model", "version": 1}, InvalidError, "a model has no shadow"),
        ("shadow_start", "x", {"kind": "rule"}, InvalidError, "definition is missing"),
        ("shadow_start", "x", {"kind": "rule", "version": 3}, NotFoundError, "version 3"),
        ("shadow_start", "x", {"kind": "rule", "definition": "{}"}, InvalidError, "conditions must"),
        ("shadow_get", "x", {"kind": "rule"}, NotFoundError, "rule x has no shadow"),
        ("shadow_stop", "x", {"kind": "rule"}, NotFoundError, "rule x has no shadow"),
        ("shadow_promote", "marked", {"kind": "rule", "by": "bob"}, StateError, "requires approval"),
    ):
        async with refused(site.functions, error, text):
            await site.functions.call(name, of, asked)


async def test_there_are_at_most_50(site: Site) -> None:
    for number in range(50):
        await start(site, rule(70), of=f"r{number}")
    asked = {"kind": "rule", "definition": orjson.dumps(rule(1)).decode()}
    async with refused(site.functions, LimitError, "50 shadows"):
        await site.functions.call("shadow_start", "more", asked)
    await start(site, rule(71), of="r7")
