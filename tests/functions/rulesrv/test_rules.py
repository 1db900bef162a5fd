"""Rules: their documents, what is refused, switching, deletion, evaluation without effect."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.errors import InvalidError, LimitError, NotFoundError, StateError
from libs.redis.client import execute
from tests.support.definitions import said
from tests.support.refusal import refused
from tests.support.site import Site, keyspace

REF = "comsrv:1001:T:1"
HIGH: dict[str, Any] = {
    "name": "high", "conditions": [{"source": REF, "operator": ">", "value": 10}],
    "actions": [{"type": "create_alarm", "params": {"title": "high", "level": "Minor"}}],
}  # fmt: skip


async def put(site: Site, rule: str = "r1", **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.json("rule_upsert", rule, HIGH | changes)
    return found


async def stats(site: Site, rule: str = "r1") -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.read_json("rule_stats", rule)
    return found


async def test_a_rule_is_kept_byte_for_byte_with_its_id(site: Site) -> None:
    text = b'{ "id":"r1", "name":"x", "conditions":[{"source":"comsrv:1001:T:1","operator":">","value":1.0}] }'
    stored = await site.functions.call("rule_upsert", "r1", text)
    assert said(stored) == text.replace(b" }", b"}")
    assert await site.functions.read("rule_get", "rulesrv:rule:r1") == stored
    assert (await put(site, "r2"))["id"] == "r2"
    page = await site.functions.read_json("rule_list", None, {"limit": 1})
    assert ([r["id"] for r in page["items"]], page["cursor"]) == (["r1"], "r1")
    assert await site.members(f"rulesrv:watch:{REF}") == {"r1", "r2"}


async def test_a_new_rule_sees_the_present_values(site: Site) -> None:
    await site.put({1: 50})
    await put(site)
    assert await site.firings() == [("r1", "fired", 0)]


def leaf(**changes: Any) -> dict[str, Any]:
    return {"conditions": [{"source": REF, "operator": ">", "value": 1} | changes]}


def action(kind: str, **params: Any) -> dict[str, Any]:
    return {"actions": [{"type": kind, "params": params}]}


COMMAND: dict[str, Any] = {"channel": 1001, "type": "A", "point": 1, "value": 5}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": None}, "name must be a text"),
        ({"conditions": []}, "conditions must be a list of conditions"),
        ({"conditions": {"all": []}}, "conditions.all must be a list"),
        ({"conditions": {"all": [], "any": []}}, "does not belong beside"),
        ({"conditions": [5]}, "conditions[0] must be an object"),
        (leaf(source="comsrv:1001:T"), 'conditions[0].source "comsrv:1001:T" is no reference'),
        (leaf(source="comsrv:x:T:1"), "is no reference"),
        (leaf(operator="~"), "conditions[0].operator must be one of"),
        (leaf(operator="deviation"), "conditions[0].operator must be one of"),
        (leaf(value="ten"), "conditions[0].value must be a finite number"),
        (leaf(value={"source": "x"}), "conditions[0].value.source is no reference"),
        (leaf(operator="between", value=[5, 1]), "must be [low, high]"),
        (leaf(operator="in", value=[]), "must be a list of numbers"),
        (leaf(for_ms=-1), "conditions[0].for_ms must be"),
        (leaf(for_ms="1s"), "conditions[0].for_ms must be"),
        (leaf(hysteresis=-1), "conditions[0].hysteresis must be"),
        (leaf(operator="==", hysteresis=1), "conditions[0].hysteresis must be"),
        (leaf(forms=1), "conditions[0].forms is unknown"),
        ({"actions": 5}, "actions must be a list"),
        ({"actions": [{"type": "explode"}]}, "actions[0].type must be create_alarm, resolve_alarm, command"),
        ({"actions": [{"type": "publish"}]}, "actions[0].params is missing"),
        (action("create_alarm"), "actions[0].params.title must be a text"),
        (action("create_alarm", title="x", level="Bad"), "actions[0].params.level must be"),
        (action("create_alarm", title="x", source=5), "actions[0].params.source must be a text"),
        (action("create_alarm", title="x", colour="red"), "actions[0].params.colour is unknown"),
        (action("command", **COMMAND | {"channel": 12345678901}), "actions[0].params.channel must be a number"),
        (action("command", **COMMAND | {"value": "full"}), "actions[0].params.value must be a number"),
        (action("command", **COMMAND | {"ttl_ms": 0}), "actions[0].params.ttl_ms must be an integer"),
        (action("command", value=1), "actions[0].params.target is missing"),
        (action("command", target="grid", value=1), "actions[0].params.target is no reference"),
        (action("command", target="comsrv:1001:T:1", value=1), "actions[0].params.target is a value that is read"),
        (leaf(operator="quality", value="rotten"), "conditions[0].value must be good, bad, uncertain or missing"),
        (action("publish", topic="a:b"), "actions[0].params.topic must match"),
        ({"actions": [{"type": "publish", "params": {"topic": "x"}}] * 17}, "at most 16"),
        ({"cooldown_ms": "1h"}, "cooldown_ms must be an integer"),
        ({"enabled": "yes"}, "enabled must be true or false"),
        ({"on_bad": "first"}, "on_bad must be hold"),
        ({"prio": 1}, "prio is unknown"),
        ({"id": "other"}, "id other is not the key's rule r1"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_with_its_path(site: Site, changes: dict[str, Any], text: str) -> None:
    async with refused(site.functions, InvalidError, text):
        await put(site, **changes)


async def test_all_problems_are_told_at_once(site: Site) -> None:
    wrong = leaf(operator="~", for_ms=-1) | action("publish", topic="a b") | {"cooldown_ms": -1}
    with pytest.raises(InvalidError) as caught:
        await put(site, **wrong)
    for field in ("conditions[0].operator", "conditions[0].for_ms", "actions[0].params.topic", "cooldown_ms"):
        assert field in str(caught.value)


@pytest.mark.parametrize("rule", ["a:b", "a b", "x" * 65, "rules", "é"])
async def test_what_is_no_id_is_refused(site: Site, rule: str) -> None:
    async with refused(site.functions, InvalidError, "rule"):
        await put(site, rule)


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"source": REF, "operator": ">", "value": 1}
    for _ in range(depth):
        tree = {"all": [tree]}
    return tree


async def test_32_levels_fit_and_1000_are_refused(site: Site) -> None:
    await put(site, conditions=nested(31))
    async with refused(site.functions, InvalidError, "nested deeper than 32"):
        await put(site, conditions=nested(32))
    for depth, error, text in (
        (100, InvalidError, "nested deeper than 32"),
        (200, LimitError, "nested deeper than 128"),
        (1000, InvalidError, "nested"),
    ):
        document = '{"name":"x","conditions":' + '{"not":' * depth + "{}" + "}" * depth + "}"
        async with refused(site.functions, error, text):
            await site.functions.call("rule_upsert", "r1", document)


async def test_size_is_bounded(site: Site) -> None:
    async with refused(site.functions, InvalidError, "past 256 conditions"):
        await put(site, conditions=[{"source": REF, "operator": ">", "value": n} for n in range(257)])
    async with refused(site.functions, LimitError, "1048576"):
        await put(site, description="x" * 1_048_577)
    for text in ('{"name":NaN}', '{"name":0x10}', '{"name":Infinity}', '{"name":1e999}', "{", "[]", "5", ""):
        async with refused(site.functions, InvalidError):
            await site.functions.call("rule_upsert", "r1", text)


async def test_a_changed_rule_starts_anew(site: Site) -> None:
    await put(site)
    await site.put({1: 50})
    (alarm,) = await site.members("alarmsrv:alarms:active")
    await put(site, conditions=[{"source": "comsrv:1001:T:2", "operator": ">", "value": 10}])
    assert (await site.hash(f"alarmsrv:alarm:{alarm}"))["status"] == "Returned"
    assert await site.members(f"rulesrv:watch:{REF}") == set()
    await site.put({1: 5})
    await site.put({1: 50})
    assert (await stats(site))["count"] == 0
    await site.put({2: 50})
    assert (await stats(site))["count"] == 1


async def test_a_rule_that_is_off_watches_nothing(site: Site) -> None:
    await put(site)
    switched = await site.functions.json("rule_enable", "r1", "false")
    assert switched["enabled"] is False
    await site.put({1: 50})
    assert await site.firings() == []
    evaluated = await site.functions.read_json("rule_evaluate", "r1")
    assert (evaluated["enabled"], evaluated["result"]) == (False, True)
    for name in ("rule_trigger_action", "rule_update_state"):
        async with refused(site.functions, StateError, "rule r1 is off"):
            await site.functions.call(name, "r1", {"now_ms": site.now})
    await site.functions.call("rule_enable", "r1", "true")
    assert await site.firings() == [("r1", "fired", 0)]
    async with refused(site.functions, InvalidError, "one of true, false"):
        await site.functions.call("rule_enable", "r1", "maybe")


async def test_switching_changes_nothing_else(site: Site) -> None:
    payload = b'{"type":"publish","params":{"topic":"t","payload":{"enabled": true,"a":[]}}}'
    condition = b'{"source":"comsrv:1001:T:1","operator":">","value":1}'
    text = b'{"name":"x","actions":[%b],"conditions":[%b],"id":"r1","enabled": true}' % (payload, condition)
    await site.functions.call("rule_upsert", "r1", text)
    off = await site.functions.call("rule_enable", "r1", "false")
    assert said(off) == text.replace(b',"enabled": true}', b',"enabled":false}').replace(
        b'"payload":{,', b'"payload":{'
    )
    on = await site.functions.call("rule_enable", "r1", "true")
    assert said(on) == said(off).replace(b'"enabled":false', b'"enabled":true')
    assert await site.functions.call("rule_enable", "r1", "true") == on


async def test_a_deleted_rule_leaves_nothing_but_its_history(site: Site) -> None:
    await put(site, **leaf(for_ms=1000))
    await site.put({1: 50})
    assert await site.functions.json("rule_delete", "r1") == {"deleted": "r1"}
    await site.pass_ms(2000)
    assert await site.firings() == []
    assert [name for name in await keyspace(site.functions) if name.startswith(b"rulesrv:")] == []
    for name in ("rule_get", "rule_stats", "rule_evaluate"):
        with pytest.raises(NotFoundError):
            await site.functions.read(name, "r1")
    for name in ("rule_delete", "rule_trigger_action", "rule_update_state"):
        async with refused(site.functions, NotFoundError, "rule r1"):
            await site.functions.call(name, "r1")


async def test_evaluation_acts_on_nothing(site: Site) -> None:
    await put(site)
    await site.put({1: 5})
    before = await keyspace(site.functions)
    found = await site.functions.read_json("rule_evaluate", "r1", {"values": {REF: 50}})
    assert (found["result"], found["active"]) == (True, False)
    assert found["conditions"] == [
        {
            "path": "conditions[0]", "source": REF, "operator": ">", "value": 10, "actual": 50.0, "quality": "good",
            "result": True,
        }
    ]  # fmt: skip
    assert (await site.functions.read_json("rule_evaluate", "r1"))["result"] is False
    batch = await site.functions.read_json("rule_batch_evaluate", None, {"ids": ["r1"], "values": {REF: 50}})
    assert [item["result"] for item in batch["items"]] == [True]
    every = await site.functions.read_json("rule_batch_evaluate", None)
    assert [item["rule"] for item in every["items"]] == ["r1"]
    assert await keyspace(site.functions) == before
    with pytest.raises(InvalidError, match="no reference"):
        await site.functions.read("rule_evaluate", "r1", {"values": {"x": 1}})
    with pytest.raises(InvalidError, match="finite number"):
        await site.functions.read("rule_evaluate", "r1", {"values": {REF: "nan"}})
    with pytest.raises(NotFoundError):
        await site.functions.read("rule_batch_evaluate", None, {"ids": ["r9"]})


async def test_what_others_hear_of_a_firing(site: Site) -> None:
    client = site.functions.client
    actions = [{"type": "publish", "params": {"topic": "peak", "payload": {"limit": 10}}}]
    await put(site, actions=actions)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("rulesrv:triggered", "rulesrv:published:peak")
        await site.put({1: 50})
        heard: dict[str, Any] = {}
        while len(heard) < 2:
            message = await pubsub.get_message(timeout=5)
            if message and message["type"] == "message":
                heard[message["channel"].decode()] = orjson.loads(message["data"])
    assert heard["rulesrv:published:peak"]["payload"] == {"limit": 10}
    triggered = heard["rulesrv:triggered"]
    assert (triggered["rule"], triggered["event"]) == ("r1", "fired")
    assert triggered["inputs"] == [{"ref": REF, "value": 50.0, "quality": "good", "at_ms": site.now}]
    assert triggered["actions"] == [{"type": "publish", "result": "peak"}]
    (entry,) = await site.entries("rulesrv:firings")
    assert entry["version"] == "1"


async def test_counts_over_all_rules(site: Site) -> None:
    await put(site)
    await put(site, "r2", enabled=False)
    await put(site, "r3", conditions=[{"source": "comsrv:1001:T:9", "operator": ">", "value": 1}])
    await site.put({1: 50})
    found = await site.functions.read_json("rule_stats", None)
    assert found == {"rules": 3, "enabled": 2, "active": 1, "unknown": 1}
    assert await execute(site.functions.client, "SCARD", "rulesrv:rules") == 3


@pytest.mark.parametrize("end", ["rule_delete", "rule_upsert"])
async def test_one_that_does_not_compile_any_more_leaves_no_alarm_standing(site: Site, end: str) -> None:
    """Deleted, or replaced by one that compiles: what it raised has nobody else to end it."""
    await put(site)
    await site.put({1: 20})
    await execute(site.functions.client, "SET", "rulesrv:rule:r1", '{"id":"r1"}')
    await execute(site.functions.client, "SET", "voltage:generation", "another")
    assert [alarm["status"] for alarm in await site.alarms()] == ["New"]
    await site.functions.call(end, "r1", *([{**HIGH, "enabled": False}] if end == "rule_upsert" else []))
    assert [alarm["status"] for alarm in await site.alarms()] == ["Returned"]


async def test_one_that_is_off_and_was_looked_at_is_read_again(site: Site) -> None:
    """For a look its points are resolved, without being watched: a reload must not take it for one that is."""
    await site.functions.call("alarm_define", "hot", {"source": REF, "detector": "Hi", "limit": 90, "level": "Minor"})
    await put(site, enabled=False)
    await site.put({1: 20})
    await site.functions.read_json("rule_evaluate", "r1", {})
    await execute(site.functions.client, "INCR", "voltage:image")
    await site.put({1: 95})
    assert [alarm["origin"] for alarm in await site.alarms()] == ["alarm:hot"]
