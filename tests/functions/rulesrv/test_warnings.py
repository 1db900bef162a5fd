"""What a rule names and does not exist yet is said, and counts once it is there."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError
from tests.support.site import Site

RULE: dict[str, Any] = {
    "name": "r", "conditions": [
        {"source": "comsrv:1001:T:1", "operator": ">", "value": {"source": "comsrv:7:T:1"}},
        {"any": [{"source": "modsrv:boiler:temp", "operator": ">", "value": 1}]},
        {"source": "rule:other", "operator": "==", "value": "active"},
        {"source": "comsrv:1001:T:1", "operator": "<", "value": 90},
    ],
    "actions": [
        {"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 1}},
        {"type": "command", "params": {"target": "comsrv:1001:A:99", "value": 1}},
        {"type": "model_action", "params": {"model": "boiler", "action": "start", "value": 1}},
        {"type": "enable_rule", "params": {"rule": "third"}},
        {"type": "disable_rule", "params": {"group": "none"}},
        {"type": "publish", "params": {"topic": "t"}},
    ],
}  # fmt: skip


async def warnings(site: Site, *rules: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = await site.functions.read_json("rule_warnings", None, {"ids": list(rules)})
    return found


async def test_what_is_not_there_is_named_with_its_path(site: Site) -> None:
    await site.functions.call("rule_upsert", "r", RULE)
    end = "; it counts once it is there"
    assert await warnings(site, "r", "unknown") == {
        "r": [
            "conditions[0].value.source comsrv:7:T:1: there is no channel 7" + end,
            "conditions[1].any[0].source modsrv:boiler:temp: there is no model boiler" + end,
            "conditions[2].source rule:other: there is no rule other" + end,
            "actions[1] comsrv:1001:A:99: the channel has no such point" + end,
            "actions[2] modsrv:boiler:start: there is no model boiler" + end,
            "actions[3] rule:third: there is no rule third" + end,
        ]
    }


async def test_what_appears_is_no_warning_any_more(site: Site) -> None:
    await site.functions.call("rule_upsert", "r", RULE)
    for rule in ("other", "third"):
        await site.functions.call(
            "rule_upsert", rule, {"name": rule, "conditions": RULE["conditions"][3:], "actions": []}
        )
    mapping = {"channel": 1001, "data": {"temp": 1, "start": 2}}
    await site.functions.call("model_upsert", "boiler", {"name": "b", "mapping": mapping})
    assert [text.partition(";")[0] for text in (await warnings(site, "r", "other"))["r"]] == [
        "conditions[0].value.source comsrv:7:T:1: there is no channel 7",
        "actions[1] comsrv:1001:A:99: the channel has no such point",
        "actions[2] modsrv:boiler:start: it is nothing that can be commanded",
    ]


async def test_a_hundred_at_once(site: Site) -> None:
    assert await warnings(site, *(f"r{n}" for n in range(100))) == {}
    with pytest.raises(InvalidError, match="ids must be a list of at most 100"):
        await warnings(site, *(f"r{n}" for n in range(101)))
