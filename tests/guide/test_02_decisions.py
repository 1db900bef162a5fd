"""Page 2: everything that decides is a Redis Function, in the very call that brings the value."""

from __future__ import annotations

from typing import Any

from libs.redis.functions import Functions
from tests.guide.conftest import Poller

LOW: dict[str, Any] = {
    "name": "Battery nearly empty",
    "conditions": [{"source": "comsrv:1001:T:2", "operator": "<", "value": 15, "hysteresis": 2}],
    "actions": [
        {"type": "create_alarm", "params": {"level": "Major", "title": "State of charge low"}},
        {"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": -10}},
    ],
}


async def alarms(functions: Functions) -> list[dict[str, Any]]:
    page = await functions.read_json("get_active_alarms", None)
    return list(page["items"])


async def test_a_rule_raises_an_alarm_and_gives_a_command(functions: Functions, poller: Poller) -> None:
    """When the reply to the block is there, so are the alarm and the command; nobody saw the value without them."""
    await functions.call("rule_upsert", "soc_low", LOW)
    await poller.send({"2": "14.000000"})
    assert [alarm["title"] for alarm in await alarms(functions)] == ["State of charge low"]
    page = await functions.read_json("command_list", None, {"channel": 1001})
    assert [(c["value"], c["source"]) for c in page["items"]] == [(-10.0, {"kind": "rule", "name": "soc_low"})]


async def test_a_condition_that_stands_triggers_once(functions: Functions, poller: Poller) -> None:
    """An alarm is one occurrence: new values under the limit add nothing."""
    await functions.call("rule_upsert", "soc_low", LOW)
    for value in ("14.000000", "13.000000", "12.000000"):
        await poller.send({"2": value})
    assert (await functions.read_json("rule_stats", "soc_low"))["count"] == 1


async def test_an_alarm_ends_when_its_cause_is_gone_and_somebody_saw_it(functions: Functions, poller: Poller) -> None:
    """New, then Returned when the condition ends (past the hysteresis), then closed when acknowledged."""
    await functions.call("rule_upsert", "soc_low", LOW)
    await poller.send({"2": "14.000000"})
    await poller.send({"2": "16.000000"})
    assert [alarm["status"] for alarm in await alarms(functions)] == ["New"]
    await poller.send({"2": "17.500000"})
    (alarm,) = await alarms(functions)
    assert alarm["status"] == "Returned"
    await functions.call("acknowledge_alarm", alarm["id"], "ann")
    assert await alarms(functions) == []


async def test_what_is_not_known_decides_nothing(functions: Functions, poller: Poller) -> None:
    """A bad value is neither under the limit nor over it: nothing fires, and what stands, stays."""
    await functions.call("rule_upsert", "soc_low", LOW)
    await poller.send({"2": "50.000000"})
    await poller.send({"2": "0.000000"}, {"2": "bad:sentinel"})
    assert await alarms(functions) == []
    assert (await functions.read_json("rule_evaluate", "soc_low"))["result"] is None
