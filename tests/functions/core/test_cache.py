"""What is compiled is a cache derived from keys: it never outlives them."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InternalError, StateError
from libs.redis import bundle, library
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.site import Site

LEAF: dict[str, Any] = {"source": "comsrv:1001:T:1", "operator": ">", "value": 10}
RULE: dict[str, Any] = {"name": "high", "conditions": [LEAF], "actions": []}


async def evaluated(functions: Functions) -> object:
    return (await functions.read_json("rule_evaluate", "r1"))["result"]


async def test_after_flushall_nothing_is_remembered(site: Site) -> None:
    await site.functions.call("rule_upsert", "r1", RULE)
    await site.put({1: 50})
    await execute(site.functions.client, "FLUSHALL")
    with pytest.raises(StateError):
        await site.put({1: 60})
    again = await Site(site.functions).start()
    await again.put({1: 60})
    assert await again.firings() == []
    await again.functions.call("rule_upsert", "r1", {**RULE, "conditions": [LEAF | {"value": 100}]})
    assert await evaluated(again.functions) is False


async def test_the_same_number_of_calls_after_flushall_is_no_confusion(site: Site) -> None:
    """A counter would repeat; the generation is a token that never does."""
    for limit in (10, 100):
        await execute(site.functions.client, "FLUSHALL")
        again = await Site(site.functions).start()
        changed = {**RULE, "conditions": [LEAF | {"value": limit}]}
        await again.functions.call("rule_upsert", "r1", changed)
        await again.put({1: 50})
        assert await evaluated(again.functions) is (limit == 10)


async def test_loading_the_library_anew_loses_no_state(site: Site) -> None:
    held = {**RULE, "conditions": [LEAF | {"for_ms": 1000}]}
    await site.functions.call("rule_upsert", "r1", RULE | {"cooldown_ms": 500})
    await site.functions.call("rule_upsert", "r2", held)
    await site.put({1: 50})
    await library.load(site.functions.client)
    await site.put({1: 60})
    assert await site.firings() == [("r1", "fired", 0)]
    await site.pass_ms(600)
    await library.load(site.functions.client)
    await site.pass_ms(400)
    assert await site.firings() == [("r1", "fired", 0), ("r2", "fired", 1000)]
    await library.load(site.functions.client)
    await site.put({1: 5})
    assert [event for _, event, _ in await site.firings()] == ["fired", "fired", "cleared", "cleared"]


async def test_a_value_written_beside_the_functions_is_seen_after_the_next_accepted_call(site: Site) -> None:
    await site.functions.call("rule_upsert", "r1", RULE)
    await site.put({1: 5})
    await execute(site.functions.client, "HSET", "comsrv:1001:T", "1", "50.000000")
    await execute(site.functions.client, "INCR", "voltage:image")
    assert await evaluated(site.functions) is True


@pytest.mark.parametrize("text", ["{", '{"id":"r1"}', '{"id":"r1","name":"x","conditions":[],"colour":"red"}'])
async def test_a_rule_edited_beside_the_functions_stops_no_value(site: Site, text: str) -> None:
    await site.functions.call("rule_upsert", "r1", RULE)
    await execute(site.functions.client, "SET", "rulesrv:rule:r1", text)
    await execute(site.functions.client, "DEL", "voltage:generation")
    await site.put({1: 50})
    assert await site.hash("comsrv:1001:T") == {"1": "50.000000"}
    for name in ("rule_evaluate", "rule_stats"):
        with pytest.raises(StateError, match="store it anew"):
            await site.functions.read(name, "r1")
    await site.functions.call("rule_upsert", "r1", RULE)
    assert await evaluated(site.functions) is True


async def test_a_defect_is_INTERNAL_with_the_file_and_the_line(site: Site) -> None:  # noqa: N802 - the code as it reads
    await execute(site.functions.client, "SET", "voltage:timers", "no sorted set")
    with pytest.raises(InternalError) as caught:
        await site.functions.call("voltage_tick", None)
    await execute(site.functions.client, "DEL", "voltage:timers")
    assert "\n" not in str(caught.value)
    assert "WRONGTYPE" in str(caught.value)
    assert bundle.bundle().explain("user_function:1:").startswith("bundle:1")
    await site.put({1: 5})
