"""More transitions at once than a call may carry out: states change at once, actions drain in order."""

from __future__ import annotations

from libs.redis.client import execute
from tests.support.site import Site


async def rules(site: Site, count: int) -> None:
    for number in range(count):
        rule = {
            "name": "high", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 10}],
            "actions": [{"type": "create_alarm", "params": {"title": f"{number}", "level": "Minor"}}],
        }  # fmt: skip
        await site.functions.call("rule_upsert", f"r{number:03}", rule)


async def waiting(site: Site) -> int:
    return int(await execute(site.functions.client, "LLEN", "voltage:deferred"))


async def test_ten_act_in_the_call_and_the_rest_by_tick(site: Site) -> None:
    await rules(site, 50)
    await site.put({1: 50})
    stats = await site.functions.read_json("rule_stats", None)
    assert stats["active"] == 50
    assert len(await site.firings()) == 10
    assert await waiting(site) == 40
    for left in (32, 24, 16, 8, 0):
        site.now += 7
        done = await site.functions.json("voltage_tick", None, {"now_ms": site.now})
        assert (done["drained"], await waiting(site), done["more"]) == (8, left, left > 0)
    # In the order of their happening, each with its own instant.
    assert await site.firings() == [(f"r{number:03}", "fired", 0) for number in range(50)]
    assert len(await site.alarms(open=True, limit=60)) == 50


async def test_what_follows_waits_behind_what_waits(site: Site) -> None:
    await rules(site, 30)
    await site.put({1: 50})
    site.now += 1
    await site.put({1: 5})
    assert len(await site.firings()) == 10
    for _ in range(7):
        await site.pass_ms(0)
    fired = [(f"r{number:03}", "fired", 0) for number in range(30)]
    assert await site.firings() == [*fired, *((f"r{number:03}", "cleared", 1) for number in range(30))]
    assert {alarm["status"] for alarm in await site.alarms(open=True)} == {"Returned"}


async def test_a_rule_that_goes_while_its_end_waits_leaves_no_alarm_standing(site: Site) -> None:
    await rules(site, 15)
    await site.put({1: 50})
    await site.pass_ms(0)
    await site.put({1: 5})
    assert await waiting(site) == 5
    await site.functions.call("rule_delete", "r014")
    await site.pass_ms(0)
    assert {alarm["status"] for alarm in await site.alarms()} == {"Returned"}


async def test_a_command_that_waited_needs_its_inputs_good_still(site: Site) -> None:
    await rules(site, 10)
    rule = {
        "name": "late", "priority": -1, "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 10}],
        "actions": [{"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 5}}],
    }  # fmt: skip
    await site.functions.call("rule_upsert", "late", rule)
    await site.put({1: 50})
    assert await waiting(site) == 1
    await site.put({}, {1: "bad:timeout"})
    await site.pass_ms(0)
    assert "withheld: an input is not good" in (await site.entries("rulesrv:firings"))[-1]["actions"]
    assert await execute(site.functions.client, "ZCARD", "comsrv:1001:queued") == 0


async def test_a_storm_waits_also_while_the_functions_are_loaded_anew(site: Site) -> None:
    await rules(site, 15)
    await site.put({1: 50})
    await execute(site.functions.client, "FUNCTION", "LOAD", "REPLACE", await library(site))
    await site.pass_ms(0)
    assert len(await site.firings()) == 15


async def library(site: Site) -> bytes:
    (found,) = await execute(site.functions.client, "FUNCTION", "LIST", "LIBRARYNAME", "voltage", "WITHCODE")
    return bytes(found[b"library_code"])
