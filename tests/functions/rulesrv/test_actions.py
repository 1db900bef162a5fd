"""What rules do: to alarms, models, people and each other; two rules that command one point; rules in a circle."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs import expression
from libs.errors import InvalidError
from libs.redis import bundle
from libs.redis.client import execute
from tests.support.refusal import refused
from tests.support.site import Site

T1, T2, T3 = (f"comsrv:1001:T:{n}" for n in (1, 2, 3))
A1 = "comsrv:1001:A:1"


def over(limit: float, source: str = T1, **more: Any) -> dict[str, Any]:
    return {"source": source, "operator": ">", "value": limit, **more}


def action(kind: str, **params: Any) -> dict[str, Any]:
    return {"type": kind, "params": params}


async def put(site: Site, rule: str, conditions: Any, *actions: dict[str, Any], **more: Any) -> None:
    document = {"name": rule, "conditions": conditions, "actions": list(actions), **more}
    await site.functions.call("rule_upsert", rule, document)


async def outcomes(site: Site) -> list[str]:
    """Return what each firing's actions came to, in short: rule, event, and result or problem."""
    found = []
    for entry in await site.entries("rulesrv:firings"):
        said = [f"{one.get('problem') or 'done'}{' over ' + one['over'] if 'over' in one else ''}"
                for one in orjson.loads(entry["actions"])]  # fmt: skip
        found.append(f"{entry['rule']} {entry['event']} {', '.join(said)}".strip())
    return found


async def commanded(site: Site) -> list[tuple[str, float]]:
    """Return what was commanded, oldest first: by which rule, and the value."""
    page = await site.functions.read_json("command_list", None, {})
    return [(one["source"]["name"], float(one["value"])) for one in reversed(page["items"])]


# ---------------------------------------------------------------- what a firing keeps


async def test_a_firing_keeps_values_branch_version_and_what_each_action_did(site: Site) -> None:
    tree = {"any": [over(100), {"all": [over(10), {"not": over(50, T2)}]}]}
    for value in (1, 500):
        await put(site, "r1", tree, action("publish", topic="x"), action("command", target=A1, value=value))
    await site.put({1: 20, 2: 30})
    (entry,) = await site.entries("rulesrv:firings")
    assert (entry["event"], entry["version"]) == ("fired", "2")
    assert orjson.loads(entry["branch"]) == ["conditions.any[1].all[0]", "conditions.any[1].all[1].not"]
    assert [one["value"] for one in orjson.loads(entry["inputs"])] == [20.0, 20.0, 30.0]
    published, refused_ = orjson.loads(entry["actions"])
    assert published == {"type": "publish", "result": "x"}
    assert "INVALID" in refused_["problem"]
    assert "100" in refused_["problem"]


async def test_texts_show_values(site: Site) -> None:
    await site.put({2: 7})
    title = "{value:2} over {limit:0} at {source}, beside {point:comsrv:1001:T:2:0} ({name}, {quality})"
    await put(site, "r1", [over(10)], action("create_alarm", title=title, level="Info"))
    await site.put({1: 20.25})
    (alarm,) = await site.alarms()
    assert alarm["title"] == f"20.25 over 10 at {T1}, beside 7 (r1, good)"
    for text, problem in (("{nothing}", "nothing"), ("{point:x}", "point"), ("{value" * 3, "params.title")):
        async with refused(site.functions, InvalidError, problem):
            await put(site, "r2", [over(10)], action("create_alarm", title=text))


async def test_an_alarm_is_resolved_as_by_hand(site: Site) -> None:
    hot = {"name": "hot", "source": T1, "detector": "Hi", "limit": 80, "level": "Major"}
    await site.functions.call("alarm_define", "hot", hot)
    await put(site, "clean", [over(0, T2)], action("resolve_alarm", alarm="alarm:hot"))
    await site.put({1: 90})
    await site.put({2: 1})
    assert "can't be resolved" in (await outcomes(site))[0], "its condition stands"
    await site.put({2: 0})
    await site.put({1: 10})
    assert [one["status"] for one in await site.alarms()] == ["Returned"]
    await site.put({2: 1})
    assert [one["status"] for one in await site.alarms(status="Resolved")] == ["Resolved"]
    await site.put({2: 0})
    await site.put({2: 1})
    assert (await outcomes(site))[-1] == "clean fired done"


async def test_a_model_is_set_by_an_expression_over_good_points(site: Site) -> None:
    await site.functions.call("template_upsert", "t", {
        "name": "t", "class": "battery", "data_points": {"p": {"base_id": 3, "kind": "T"}},
        "actions": {"set": {"base_id": 1, "kind": "A"}},
    })  # fmt: skip
    mapping = {"channel": 1001, "data": {"p": 3}, "action": {"set": "A:1"}}
    await site.functions.call("model_upsert", "m", {"name": "m", "template": "t", "mapping": mapping})
    twice = "modsrv:m:p * 2"
    set_it = action("model_action", model="m", action="set", expression=twice, program=expression.parse(twice))
    await put(site, "r1", [over(10)], set_it)
    await site.put({1: 20})
    assert await outcomes(site) == ["r1 fired withheld: modsrv:m:p is not good"]
    await site.put({1: 0, 3: 12})
    await site.put({1: 20})
    assert await commanded(site) == [("r1", 24.0)]


async def test_people_are_told_where_a_route_wants_it(site: Site) -> None:
    await put(site, "r1", [over(10)], action("notify", message="at {value:0}", level="Major"))
    await site.put({1: 20})
    assert await outcomes(site) == ["r1 fired no route of notification takes the level Major"]
    await site.functions.call("alarm_route_upsert", "duty", {"levels": ["Major"], "to": ["email:duty@example.com"]})
    await site.put({1: 0})
    await site.put({1: 30})
    entries = await site.entries("alarmsrv:outbox")
    assert [(one["event"], one["title"]) for one in entries] == [("notice", "at 30")]


# ---------------------------------------------------------------- rules that switch rules


async def test_rules_are_switched_when_all_else_is_through(site: Site) -> None:
    await put(site, "a", [over(10)], action("publish", topic="a"), group="day", priority=1)
    await put(site, "b", [over(10)], action("publish", topic="b"), group="day", enabled=False)
    await put(site, "night", [over(10)], action("disable_rule", group="day"), priority=9)
    await site.put({1: 20})
    assert await outcomes(site) == ["night fired done", "a fired done", "a cleared"]
    states = [(await site.functions.read_json("rule_stats", rule))["enabled"] for rule in ("a", "b", "night")]
    assert states == [False, False, True]
    await put(site, "dawn", [over(0, T2)], action("enable_rule", group="day"), action("enable_rule", rule="nobody"))
    await site.put({2: 1})
    assert (await outcomes(site))[3:] == [
        "dawn fired done, NOTFOUND rule nobody", "a fired done", "b fired done",
    ]  # fmt: skip


# ---------------------------------------------------------------- two rules, one point


async def test_the_priority_decides_and_the_loser_says_so(site: Site) -> None:
    await put(site, "low", [over(10, T2)], action("command", target=A1, value=5), priority=10)
    await put(site, "high", [over(10, T1)], action("command", target=A1, value=50), priority=80)
    await site.put({1: 20})
    await site.put({2: 20})
    lost = "low fired withheld: rule high of priority 80 commands the point"
    assert await outcomes(site) == ["high fired done", lost]
    await site.put({1: 0})
    assert (await outcomes(site))[2:] == ["high cleared", "low resumed done"]
    await site.put({1: 20})
    assert (await outcomes(site))[4:] == ["high fired done over rule low"]
    assert await commanded(site) == [("high", 50.0), ("low", 5.0), ("high", 50.0)]


async def test_both_at_once_command_once(site: Site) -> None:
    await put(site, "low", [over(10)], action("command", target=A1, value=5), priority=10)
    await put(site, "high", [over(10)], action("command", target=A1, value=50), priority=80)
    await site.put({1: 20})
    assert await commanded(site) == [("high", 50.0)]


# ---------------------------------------------------------------- rules in a circle


@pytest.mark.parametrize(
    ("first", "second", "way"),
    [
        (("p", [over(5)], [action("command", target=A1, value=1)]),
         ("q", [over(5, A1)], [action("command", target="comsrv:1001:A:2", value=1)]), None),
        (("p", [over(5, "comsrv:1001:A:2")], [action("command", target=A1, value=1)]),
         ("q", [over(5, A1)], [action("command", target="comsrv:1001:A:2", value=1)]),
         f"rule q sets comsrv:1001:A:2, rule p sets {A1}, which rule q watches"),
        (("p", [{"source": "rule:q", "operator": "==", "value": "active"}], [action("enable_rule", rule="q")]),
         ("q", [over(5)], []), "rule p switches rule q on"),
        (("p", [{"source": "rule:q#1", "operator": "==", "value": "active"}], [action("command", target=A1, value=1)]),
         ("q", [over(5, A1)], [action("create_alarm", title="x")]), "rule q raises an alarm"),
        (("p", [over(1)], []),
         ("q", [{"source": "rule:q", "operator": "==", "value": "idle"}], []), "rule q turns, which rule q watches"),
    ],
)  # fmt: skip
async def test_a_circle_is_refused_with_the_way_round(
    site: Site, first: tuple[str, Any, Any], second: tuple[str, Any, Any], way: str | None
) -> None:
    await put(site, first[0], first[1], *first[2])
    if way is None:
        await put(site, second[0], second[1], *second[2])
        return
    async with refused(site.functions, InvalidError, way):
        await put(site, second[0], second[1], *second[2])
    await put(site, second[0], second[1], *second[2], enabled=False)
    async with refused(site.functions, InvalidError, way):
        await site.functions.call("rule_enable", second[0], "true")


async def test_a_rule_may_set_what_it_watches(site: Site) -> None:
    await put(site, "r1", [over(5, A1)], action("command", target=A1, value=1))
    await site.put({1: 9}, kind="A")
    assert await commanded(site) == [("r1", 1.0)]


async def test_a_cascade_acts_eight_deep(site: Site) -> None:
    for n in range(10):
        watched = over(5) if n == 0 else {"source": f"rule:r{n - 1}", "operator": "==", "value": "active"}
        await put(site, f"r{n}", [watched], action("publish", topic="x"))
    await site.put({1: 9})
    found = await outcomes(site)
    assert found[:8] == [f"r{n} fired done" for n in range(8)]
    assert found[8] == "r8 fired withheld: it follows from 8 rules one after the other"


# ---------------------------------------------------------------- bad inputs


async def test_the_other_point_of_a_comparison_must_be_good_too(site: Site) -> None:
    tree = {"any": [over(10), {"source": T1, "operator": ">", "value": {"source": T3}}]}
    await put(site, "r1", tree, action("command", target=A1, value=5))
    await site.put({1: 20, 3: 1}, {3: "bad:timeout"})
    assert await outcomes(site) == ["r1 fired withheld: an input is not good"]
    (entry,) = await site.entries("rulesrv:firings")
    assert [one["ref"] for one in orjson.loads(entry["inputs"])] == [T1, T1, T3]
    assert await commanded(site) == []


async def test_a_hold_goes_on_over_a_restart_and_a_stale_point_stops_its_command(site: Site) -> None:
    await put(site, "r1", [over(10, for_ms=5000)], action("command", target=A1, value=5))
    await site.put({1: 20})
    await site.pass_ms(2000)
    # The library is new to a server that was restarted; what it knew is in the keys.
    await execute(site.functions.client, "FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
    await site.pass_ms(2999)
    assert await commanded(site) == []
    await site.functions.call("channel_release", 1001, {"epoch": site.epoch, "now_ms": site.now})
    await site.pass_ms(60_000)
    assert await commanded(site) == [], "the point is stale: the hold waits with a millisecond to go"
    await site.claim()
    await site.put({1: 20})
    await execute(site.functions.client, "FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
    await site.pass_ms(1)
    assert await commanded(site) == [("r1", 5.0)]
