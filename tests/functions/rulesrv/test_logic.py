"""When a rule fires: three-valued logic, holds, hysteresis, cooldown, priorities, bad inputs."""

from __future__ import annotations

from typing import Any

import pytest

from libs.redis.client import execute
from tests.support.site import Site


def leaf(point: int, operator: str = ">", value: Any = 10, **more: Any) -> dict[str, Any]:
    return {"source": f"comsrv:1001:T:{point}", "operator": operator, "value": value, **more}


async def put(site: Site, conditions: Any, rule: str = "r1", **more: Any) -> None:
    document = {"name": rule, "conditions": conditions, "actions": [], **more}
    await site.functions.call("rule_upsert", rule, document)


async def result(site: Site, rule: str = "r1") -> bool | None:
    found: bool | None = (await site.functions.read_json("rule_stats", rule))["result"]
    return found


async def test_a_standing_condition_triggers_once(site: Site) -> None:
    await put(site, [leaf(1)])
    for value in (5, 50, 60, 70, 5, 50):
        site.now += 1
        await site.put({1: value})
    assert await site.firings() == [("r1", "fired", 2), ("r1", "cleared", 5), ("r1", "fired", 6)]


# 1 true, 2 false, 3 unknown.
@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"all": [leaf(1), leaf(2)]}, False),
        ({"all": [leaf(1), leaf(3)]}, None),
        ({"all": [leaf(2), leaf(3)]}, False),
        ({"any": [leaf(1), leaf(3)]}, True),
        ({"any": [leaf(2), leaf(3)]}, None),
        ({"any": [leaf(2), leaf(2)]}, False),
        ({"not": leaf(3)}, None),
        ({"not": leaf(2)}, True),
        ({"all": [{"not": {"any": [leaf(2)]}}, leaf(1)]}, True),
        ([leaf(1), leaf(1, "<", 100)], True),
        ([leaf(1, "==", {"source": "comsrv:1001:T:4"})], True),
        ([leaf(1, "!=", {"source": "comsrv:1001:T:3"})], None),
        ([leaf(1, "in", [1, 50])], True),
        ([leaf(1, "between", [50, 51])], True),
        ([leaf(1, "between", [51, 52])], False),
        ([leaf(3, "quality", "bad")], True),
        ([leaf(3, "quality", "bad:timeout")], True),
        ([leaf(3, "quality", "good")], False),
        ([leaf(1, "quality", "good")], True),
        ([leaf(19, "quality", "missing")], True),
        ([leaf(19, ">", 0)], None),
    ],
)
async def test_kleene(site: Site, tree: Any, expected: bool | None) -> None:
    await put(site, tree)
    await site.put({1: 50, 2: 5, 4: 50}, {3: "bad:timeout"})
    assert await result(site) is expected
    assert (await site.functions.read_json("rule_evaluate", "r1"))["result"] is expected


async def test_unknown_neither_fires_nor_clears(site: Site) -> None:
    await put(site, [leaf(1)])
    await site.put({1: 50})
    await site.put({}, {1: "bad:timeout"})
    assert (await site.functions.read_json("rule_stats", "r1"))["active"] is True
    await site.put({1: 60})
    assert len(await site.firings()) == 1
    await site.put({}, {1: "uncertain:substituted"})
    assert await result(site) is None
    await site.put({1: 5})
    assert [event for _, event, _ in await site.firings()] == ["fired", "cleared"]


async def test_a_hold_counts_from_the_value_and_fires_at_its_due_instant(site: Site) -> None:
    await put(site, [leaf(1, for_ms=1000)])
    await site.put({1: 50})
    await site.pass_ms(999)
    assert await site.firings() == []
    await site.pass_ms(500)
    assert await site.firings() == [("r1", "fired", 1000)]
    await site.put({1: 5})
    assert (await site.firings())[-1] == ("r1", "cleared", 1499)


async def test_a_hold_that_breaks_begins_again(site: Site) -> None:
    await put(site, [leaf(1, for_ms=1000)])
    await site.put({1: 50})
    await site.pass_ms(900)
    await site.put({1: 5})
    await site.put({1: 50})
    await site.pass_ms(999)
    assert await site.firings() == []
    await site.pass_ms(1)
    assert await site.firings() == [("r1", "fired", 1900)]


async def test_unknown_pauses_a_hold(site: Site) -> None:
    await put(site, [leaf(1, for_ms=1000)])
    await site.put({1: 50})
    await site.pass_ms(600)
    await site.put({}, {1: "bad:timeout"})
    await site.pass_ms(5000)
    await site.put({1: 50})
    await site.pass_ms(399)
    assert await site.firings() == []
    await site.pass_ms(1)
    assert await site.firings() == [("r1", "fired", 6000)]


async def test_a_late_block_holds_from_its_own_instant(site: Site) -> None:
    await put(site, [leaf(1, for_ms=1000)])
    document = {
        "epoch": site.epoch, "seq": 1, "block": "b", "now_ms": site.now + 5000, "at_ms": site.now + 100,
        "sections": [{"type": "T", "ids": ["1"], "values": ["50.000000"]}],
    }  # fmt: skip
    await site.functions.call("comsrv_ingest", 1001, document)
    await site.pass_ms(5000)
    assert await site.firings() == [("r1", "fired", 1100)]


async def test_a_value_from_the_future_holds_from_now(site: Site) -> None:
    await put(site, [leaf(1, for_ms=1000)])
    document = {
        "epoch": site.epoch, "seq": 1, "block": "b", "now_ms": site.now, "at_ms": site.now + 3_600_000,
        "sections": [{"type": "T", "ids": ["1"], "values": ["50.000000"]}],
    }  # fmt: skip
    await site.functions.call("comsrv_ingest", 1001, document)
    await site.pass_ms(1000)
    assert await site.firings() == [("r1", "fired", 1000)]


async def test_hysteresis_clears_only_past_the_margin(site: Site) -> None:
    await put(site, [leaf(1, hysteresis=2)], "high")
    await put(site, [leaf(1, "<", 0, hysteresis=2)], "low")
    for value in (11, 9, 8, 7.999, 8.5, -1, 1, 2, 2.001):
        site.now += 1
        await site.put({1: value})
    assert await site.firings() == [
        ("high", "fired", 1), ("high", "cleared", 3), ("low", "fired", 6), ("low", "cleared", 8),
    ]  # fmt: skip


async def test_cooldown_keeps_quiet_and_then_looks_again(site: Site) -> None:
    await put(site, [leaf(1)], cooldown_ms=1000)
    await site.put({1: 50})
    await site.put({1: 5})
    await site.pass_ms(500)
    await site.put({1: 50})
    await site.pass_ms(499)
    assert len(await site.firings()) == 2
    await site.pass_ms(1)
    assert await site.firings() == [("r1", "fired", 0), ("r1", "cleared", 0), ("r1", "fired", 1000)]


async def test_the_higher_priority_acts_first(site: Site) -> None:
    for rule, priority in (("a", 1), ("b", 9), ("c", 9)):
        await put(site, [leaf(1)], rule, priority=priority)
    await site.put({1: 50})
    assert [rule for rule, _, _ in await site.firings()] == ["b", "c", "a"]


async def test_no_data_needs_its_time(site: Site) -> None:
    await put(site, [leaf(1, "no_data", 1000)])
    await site.put({1: 50})
    await site.pass_ms(2000)
    await site.put({}, {1: "bad:timeout"})
    await site.pass_ms(1000)
    await site.put({1: 50})
    assert await site.firings() == [("r1", "fired", 3000), ("r1", "cleared", 3000)]


COMMAND = [{"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 50}}]


async def queued(site: Site) -> int:
    return int(await execute(site.functions.client, "ZCARD", "comsrv:1001:queued"))


async def test_a_command_needs_every_input_good(site: Site) -> None:
    await put(site, {"any": [leaf(1), leaf(2)]}, actions=COMMAND)
    await site.put({1: 50}, {2: "bad:timeout"})
    (entry,) = await site.entries("rulesrv:firings")
    assert "withheld: an input is not good" in entry["actions"]
    assert await queued(site) == 0


async def test_on_bad_last_takes_the_last_good_value(site: Site) -> None:
    await put(site, [leaf(1)], on_bad="last", actions=COMMAND)
    await site.put({1: 50})
    await site.put({1: 5})
    assert await queued(site) == 1
    await site.put({1: 60}, {1: "uncertain:not_verified"})
    assert await queued(site) == 2
    await site.put({}, {1: "bad:timeout"})
    assert (await site.functions.read_json("rule_stats", "r1"))["active"] is True


async def test_a_command_that_can_not_be_given_is_a_problem_of_the_firing_not_of_the_block(site: Site) -> None:
    actions = [{"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 5000}}, *COMMAND]
    await put(site, [leaf(1)], actions=actions)
    await site.put({1: 50})
    (entry,) = await site.entries("rulesrv:firings")
    assert "INVALID value 5000 is above the maximum 100" in entry["actions"]
    assert await queued(site) == 1
    assert await site.hash("comsrv:1001:T") == {"1": "50.000000"}


async def test_a_rule_has_one_open_alarm_and_counts_on_it(site: Site) -> None:
    await put(site, [leaf(1)], actions=[{"type": "create_alarm", "params": {"title": "hot", "level": "Major"}}])
    for value in (50, 5, 50):
        await site.put({1: value})
    (alarm,) = await site.alarms()
    assert (alarm["count"], alarm["status"], alarm["rule"], alarm["value"]) == (2, "New", "r1", 50.0)
    await site.put({}, {1: "bad:timeout"})
    (alarm,) = await site.alarms()
    assert alarm["uncertain"] is True


async def test_a_trigger_by_hand_acts_whatever_the_condition_says(site: Site) -> None:
    await put(site, [leaf(1)], actions=COMMAND)
    await site.put({1: 5})
    reply = await site.functions.json("rule_trigger_action", "r1", {"now_ms": site.now})
    assert reply["actions"][0]["type"] == "command"
    assert await queued(site) == 1
    assert await site.functions.json("rule_update_state", "r1", {"now_ms": site.now}) == {
        "rule": "r1", "active": False, "result": False, "count": 0,
    }  # fmt: skip
