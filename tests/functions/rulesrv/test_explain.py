"""Why a rule fired, or did not: nothing is written by asking."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError
from tests.support.site import START, Site, keyspace

T1, T2, A1 = "comsrv:1001:T:1", "comsrv:1001:T:2", "comsrv:1001:A:1"


def leaf(operator: str, value: Any = None, source: str = T1, **more: Any) -> dict[str, Any]:
    return {"source": source, "operator": operator, **({} if value is None else {"value": value}), **more}


async def put(site: Site, conditions: Any, *actions: dict[str, Any], rule: str = "r1", **more: Any) -> None:
    document = {"name": rule, "conditions": conditions, "actions": list(actions), **more}
    await site.functions.call("rule_upsert", rule, document)


async def explain(site: Site, rule: str = "r1") -> dict[str, Any]:
    before = await keyspace(site.functions)
    found: dict[str, Any] = await site.functions.read_json("rule_explain", rule)
    assert await keyspace(site.functions) == before
    return found


async def evaluate(site: Site, values: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.read_json("rule_evaluate", "r1", {"values": values or {}, **more})
    return found


async def test_a_hold_that_runs_says_when_it_ends(site: Site) -> None:
    await put(site, [leaf(">", 10, for_ms=5000), leaf("<", 90)])
    await site.put({1: 5})
    found = await explain(site)
    assert (found["result"], found["why"]) == (False, "its conditions do not hold")
    assert found["decided_by"] == ["conditions[0]"]
    await site.put({1: 50})
    await site.pass_ms(2000)
    found = await explain(site)
    assert (found["result"], found["why"]) == (False, "a hold must end first")
    assert found["conditions"]["conditions"][0]["hold"] == {"since_ms": START, "until_ms": START + 5000}
    await site.put({}, {1: "bad:timeout"})
    found = await explain(site)
    assert (found["result"], found["why"]) == (None, "it can't decide: what decides is unknown")
    first, second = found["conditions"]["conditions"]
    assert (first["missing"], first["hold"]) == ("it is bad:timeout", {"paused": True, "left_ms": 3000})
    assert (second["result"], second["missing"]) == (None, "it is bad:timeout")
    await site.put({1: 50})
    await site.pass_ms(3000)
    found = await explain(site)
    assert (found["active"], found["why"]) == (True, "it has fired, and is armed again when its conditions end")
    assert (found["count"], found["fired_at_ms"]) == (1, START + 5000)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (leaf(">", 1), "it has no value yet"),
        (leaf(">", 1, "comsrv:1001:T:99"), "the channel has no such point"),
        (leaf(">", 1, "comsrv:7:T:1"), "there is no channel 7"),
        (leaf(">", 1, "modsrv:m:p"), "there is no model m"),
        (leaf("==", "active", "rule:nobody"), "there is no rule nobody"),
        (leaf(">", {"source": "comsrv:7:T:1"}, "comsrv:1001:T:3"), "comsrv:7:T:1: there is no channel 7"),
        (leaf(">", 1, "comsrv:1001:T:3", aggregate="mean", window_ms=60_000), "less than 50 % of its window was good"),
        ({"time": {"zone": "Asia/Tokyo"}}, "there is no table of the time zone Asia/Tokyo yet; rulesrv hands it over"),
        ({"time": {"zone": "UTC", "dates": "holidays"}}, "there is no calendar holidays"),
    ],
)
async def test_what_is_missing_is_named(site: Site, condition: dict[str, Any], reason: str) -> None:
    await site.put({3: 5})
    await put(site, [condition])
    await site.pass_ms(1)
    found = await explain(site)
    assert found["result"] is None
    (said,) = found["conditions"]["conditions"]
    assert said["missing"].startswith(reason)
    # Only what asks for a point, a model or a rule that nobody has can never be known.
    gone = (
        "no such point" in reason
        or "there is no channel" in reason
        or reason.startswith(("there is no model", "there is no rule"))
    )
    assert said.get("exists", True) is not gone


async def test_what_the_actions_would_come_to(site: Site) -> None:
    actions: list[dict[str, Any]] = [
        {"type": "command", "params": {"target": A1, "value": 5}},
        {"type": "command", "params": {"target": A1, "value": 500}},
        {"type": "resolve_alarm", "params": {"alarm": "alarm:hot"}},
        {"type": "notify", "params": {"message": "x", "level": "Minor"}},
        {"type": "publish", "params": {"topic": "x"}},
        {"type": "disable_rule", "params": {"rule": "nobody"}},
        {"type": "create_alarm", "params": {"title": "{value:1} of {limit}", "level": "Major"}},
        {"type": "enable_rule", "params": {"group": "night"}},
    ]
    await put(site, [leaf(">", 10)], *actions)
    assert (await explain(site))["actions"][0]["problem"] == "withheld: an input is not good"
    await site.put({1: 5, 2: 20})
    said = (await explain(site))["actions"]
    assert said[0] == {"type": "command", "would": "command comsrv:1001:A:1 to 5"}
    assert "INVALID" in said[1]["problem"]
    assert [one.get("problem", "") for one in said[2:]] == [
        "no alarm is open", "no route of notification takes the level Minor", "", "NOTFOUND rule nobody", "", "",
    ]  # fmt: skip
    assert [one["would"] for one in said[4:] if "would" in one] == [
        "publish on x", "raise Major: 5.0 of 10", "switch on the rules of group night",
    ]  # fmt: skip
    high = {"type": "command", "params": {"target": A1, "value": 1}}
    await put(site, [leaf(">", 10, T2)], high, rule="high", priority=9)
    said = (await explain(site))["actions"]
    assert said[0]["problem"] == "withheld: rule high of priority 9 commands the point"


async def test_why_it_does_not_fire(site: Site) -> None:
    await put(site, [leaf(">", 10)], cooldown_ms=5000)
    await site.put({1: 50})
    await site.put({1: 0})
    await site.put({1: 50})
    found = await explain(site)
    assert (found["result"], found["why"]) == (True, "its conditions hold; it fires when its cooldown ends")
    assert found["cooldown_until_ms"] == START + 5000
    await site.functions.call("rule_enable", "r1", "false")
    assert (await explain(site))["why"] == "it is switched off"


async def test_a_rate_is_looked_at_as_of_the_instant_of_the_look(site: Site) -> None:
    await put(site, [leaf("rate", 10, window_ms=1000)])
    await site.put({1: 0})
    await site.pass_ms(100)
    await site.put({1: 8})
    assert (await evaluate(site, {T1: 15}))["result"] is True, "15 more than 100 ms ago"
    await site.pass_ms(5000)
    assert (await evaluate(site, {T1: 15}))["result"] is False, "and 7 more than since 5 s"
    await site.put({1: 15})
    assert (await explain(site))["result"] is False, "as it then turns out"
    await site.put({1: 50})
    assert [(await evaluate(site, at_ms=site.now + later))["result"] for later in (900, 1100)] == [True, False]


async def test_every_kind_of_condition_is_evaluated_with_simulated_values(site: Site) -> None:
    at_nine, at_noon = 9 * 3_600_000, 12 * 3_600_000
    await put(site, {"all": [
        leaf("rising"), leaf("rate", 5), leaf(">", 10, aggregate="mean", window_ms=60_000),
        leaf("==", "active", "alarm:hot"),
        leaf("in", ["pending"], "command:1001:A:1"), {"time": {"zone": "UTC", "from": "08:00", "to": "10:00"}},
        {"not": leaf("==", "active", "rule:other")},
    ]})  # fmt: skip
    assert (await evaluate(site))["result"] is False
    await site.put({1: 5})
    values = {T1: 50, "alarm:hot": "active", "command:1001:A:1": "pending", "rule:other": "idle"}
    found = await evaluate(site, values, at_ms=at_nine)
    assert [one["result"] for one in found["conditions"]] == [True, True, True, True, True, True, False]
    assert found["result"] is True
    assert (await evaluate(site, values, at_ms=at_noon))["decided_by"] == ["conditions.all[5]"]
    for wrong in ({"alarm:hot": "on"}, {"alarm:hot": 1}, {"time:UTC": 1}, {T1: "x"}):
        with pytest.raises(InvalidError, match="values"):
            await evaluate(site, wrong)
