"""Time: the callers' instants, the machine's clock, and steps of it."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.refusal import refused
from tests.support.site import START, Site

HOUR_MS = 3_600_000


async def server_ms(functions: Functions) -> int:
    seconds, micros = await execute(functions.client, "TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_time_never_goes_back_for_a_caller(site: Site) -> None:
    assert (await site.functions.json("voltage_tick", None, {"now_ms": START + 50}))["now_ms"] == START + 50
    assert (await site.functions.json("voltage_tick", None, {"now_ms": START + 20}))["now_ms"] == START + 50


async def test_timers_fire_in_order_at_their_due_instants_twenty_a_call(site: Site) -> None:
    for number in range(1, 31):
        rule = {
            "name": "high", "conditions": [
                {"source": "comsrv:1001:T:1", "operator": ">", "value": 1, "for_ms": 1000 - number},
            ], "actions": [],
        }  # fmt: skip
        await site.functions.call("rule_upsert", f"r{number:02}", rule)
    await site.put({1: 5})
    reply = await site.functions.json("voltage_tick", None, {"now_ms": START + 5000})
    assert (reply["fired"], reply["drained"], reply["more"]) == (20, 0, True)
    assert [at for _, _, at in await site.firings()] == [1000 - number for number in range(30, 20, -1)]
    reply = await site.functions.json("voltage_tick", None, {"now_ms": START + 5000})
    assert (reply["fired"], reply["drained"], reply["more"]) == (10, 8, True), "timers first, then eight that wait"
    for drained, more in ((8, True), (4, False)):
        reply = await site.functions.json("voltage_tick", None, {"now_ms": START + 5000})
        assert (reply["fired"], reply["drained"], reply["more"]) == (0, drained, more)
    assert [at for _, _, at in await site.firings()] == [1000 - number for number in range(30, 0, -1)]


@pytest.fixture
async def real(functions: Functions) -> Site:
    """Give channel 1001 on the real clock, with a rule that must hold for an hour and a half."""
    site = Site(functions)
    site.now = await server_ms(functions)
    definition = {"id": 1001, "name": "x", "protocol": "virtual", "points": {"T": [{"id": 1}], "A": [{"id": 1}]}}
    await functions.call("channel_upsert", 1001, definition)
    claimed = await functions.json("channel_claim", 1001, {"owner": "me", "interval_ms": 1000})
    site.epoch = claimed["epoch"]
    return site


async def step_back(functions: Functions, step_ms: int) -> None:
    """Put the namespace where it would be had the machine's clock been ahead until now."""
    last = int(await execute(functions.client, "HGET", "voltage:clock", "last"))
    await execute(functions.client, "HSET", "voltage:clock", "last", str(last + step_ms))
    for member, due in (await timers(functions)).items():
        await execute(functions.client, "ZADD", "voltage:timers", str(due + step_ms), member)


async def timers(functions: Functions) -> dict[str, float]:
    found: list[Any] = await execute(functions.client, "ZRANGE", "voltage:timers", 0, -1, "WITHSCORES")
    return {member.decode(): due for member, due in found}


async def test_the_clock_an_hour_back_freezes_nothing_and_fires_nothing_twice(real: Site) -> None:
    functions = real.functions
    rule = {"name": "on", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1}], "actions": []}
    held = {"name": "held", "conditions": [
        {"source": "comsrv:1001:T:1", "operator": ">", "value": 1, "for_ms": HOUR_MS}], "actions": []}  # fmt: skip
    await functions.call("rule_upsert", "on", rule)
    await functions.call("rule_upsert", "held", held)
    await real.put({1: 5})
    before = await timers(functions)
    await step_back(functions, HOUR_MS)
    real.now = await server_ms(functions)
    await real.put({1: 6})
    after = await timers(functions)
    # What was left of the hold and of the lease is kept; nothing waits an hour longer.
    assert after.keys() == before.keys() == {"lease|1001", "hold|rule:held#1"}
    assert all(abs(after[name] - before[name]) < 5000 for name in after)
    assert await real.hash("comsrv:1001:T") == {"1": "6.000000"}
    assert len(await real.entries("rulesrv:firings")) == 1
    events = await real.entries("voltage:events")
    assert [e["what"] for e in events] == ["clock_step"]
    assert -HOUR_MS - 5000 < int(events[0]["detail"].removesuffix(" ms")) < -HOUR_MS + 5000
    assert (await real.hash("voltage:clock"))["steps"] == "1"
    (alarm,) = await real.system_alarms()
    assert (alarm["source"], alarm["status"]) == ("system:clock", "Returned")
    assert alarm["title"].startswith("The clock was set back: by 3")


async def test_after_a_step_back_windows_changes_and_rates_go_on(functions: Functions) -> None:
    site = Site(functions)
    site.now = await server_ms(functions) + HOUR_MS
    await site.start()
    for name, leaf in {
        "mean": {"source": "comsrv:1001:T:1", "operator": ">", "value": 4, "aggregate": "mean", "window_ms": 6000},
        "moved": {"source": "comsrv:1001:T:2", "operator": "changed", "within_ms": 1000},
        "fast": {"source": "comsrv:1001:T:3", "operator": "rate", "value": 10, "window_ms": 1000},
    }.items():
        await functions.call("rule_upsert", name, {"name": name, "conditions": [leaf], "actions": []})
    still = {"name": "still", "source": "comsrv:1001:T:4", "detector": "Stuck", "limit": 7000, "level": "Minor"}
    await functions.call("alarm_define", "still", still)
    await site.put({1: 5, 2: 5, 3: 5, 4: 5})
    await site.pass_ms(6000)
    await site.put({2: 6, 3: 20})
    assert await results(functions, "mean", "moved", "fast") == [True, True, True]
    # From here on time is that of the machine, an hour behind.
    await execute(functions.client, "HDEL", "voltage:clock", "simulation")
    await functions.call("voltage_tick", None)
    assert (await site.hash("voltage:clock"))["steps"] == "1"
    assert await results(functions, "mean", "moved", "fast") == [True, True, True]
    await functions.call("voltage_tick", None, {"now_ms": await server_ms(functions) + 1500})
    assert await results(functions, "mean", "moved", "fast") == [True, False, False]
    assert [alarm["definition"] for alarm in await site.alarms()] == ["still"]


async def test_after_a_step_back_a_hold_says_when_it_began_and_a_new_command_restarts_it(functions: Functions) -> None:
    site = Site(functions)
    site.now = await server_ms(functions) + HOUR_MS
    await site.start()
    held = {"name": "held", "conditions": [
        {"source": "comsrv:1001:T:1", "operator": ">", "value": 1, "for_ms": 60_000}], "actions": []}  # fmt: skip
    await functions.call("rule_upsert", "held", held)
    follows = {"name": "follows", "source": "comsrv:1001:T:2", "detector": "Discrepancy", "other": "comsrv:1001:A:1",
        "on_delay_ms": 60_000, "level": "Major"}  # fmt: skip
    await functions.call("alarm_define", "follows", follows)
    await site.put({1: 5, 2: 5})
    await site.put({1: 1}, kind="A")
    began, left = site.now, 50_000
    await site.pass_ms(60_000 - left)
    await execute(functions.client, "HDEL", "voltage:clock", "simulation")
    step = int((await functions.json("voltage_tick", None))["now_ms"]) - site.now
    (said,) = (await functions.read_json("rule_explain", "held"))["conditions"]["conditions"]
    assert said["hold"] == {"since_ms": began + step, "until_ms": began + step + 60_000}
    site.now += step
    for generation in ("another", "a third"):
        # What was commanded before the step is no news, also where all is read from the keys again.
        await site.put({2: len(generation)})
        assert (await timers(functions))["hold|alarm:follows#1"] == began + step + 60_000
        await execute(functions.client, "SET", "voltage:generation", generation)
    await site.pass_ms(1000)
    await site.put({1: 2}, kind="A")
    assert (await timers(functions))["hold|alarm:follows#1"] == site.now + 60_000


async def results(functions: Functions, *rules: str) -> list[bool | None]:
    return [(await functions.read_json("rule_explain", rule))["result"] for rule in rules]


async def test_after_a_step_back_events_are_news_although_the_image_is_from_the_future(real: Site) -> None:
    await real.put({1: 5})
    await execute(real.functions.client, "HSET", "comsrv:1001:T:ts", "1", str(real.now + HOUR_MS))
    document = {
        "epoch": real.epoch, "seq": 9, "now_ms": real.now, "at_ms": real.now, "block": "e", "origin": "event",
        "events": [["T", "1", real.now, "7.000000", ""]],
    }  # fmt: skip
    await real.functions.call("comsrv_ingest", 1001, document)
    assert await real.hash("comsrv:1001:T") == {"1": "7.000000"}


async def test_a_command_does_not_live_an_hour_longer(real: Site) -> None:
    functions = real.functions
    await functions.call("command_submit", 1001, {"id": "c1", "type": "A", "point": 1, "value": 1, "ttl_ms": 600_000})
    before = (await timers(functions))["command|c1"]
    await step_back(functions, HOUR_MS)
    await functions.call("voltage_tick", None)
    assert abs((await timers(functions))["command|c1"] - before) < 5000
    selection = {"type": "A", "point": 1, "user": "ann", "ttl_ms": 600_000}
    await functions.call("command_select", 1001, selection)
    future = f'{{"by":"ann","until_ms":{await server_ms(functions) + HOUR_MS}}}'
    await execute(functions.client, "HSET", "comsrv:1001:selected", "A:1", future)
    assert (await functions.json("command_select", 1001, selection | {"user": "bob"}))["by"] == "bob"


async def test_the_clock_an_hour_ahead_ends_what_is_due_once(real: Site) -> None:
    functions = real.functions
    held = {"name": "held", "conditions": [
        {"source": "comsrv:1001:T:1", "operator": ">", "value": 1, "for_ms": 2000}], "actions": []}  # fmt: skip
    await functions.call("rule_upsert", "held", held)
    await real.put({1: 5})
    # The last instant is an hour ago, and so is everything that was due.
    await step_back(functions, -HOUR_MS)
    await functions.call("voltage_tick", None)
    await functions.call("voltage_tick", None)
    assert len(await real.entries("rulesrv:firings")) == 1
    assert await real.hash("comsrv:1001:T:q") == {"1": "bad:stale"}
    assert "clock_gap" in [e["what"] for e in await real.entries("voltage:events")]
    claimed = await functions.json("channel_claim", 1001, {"owner": "me", "interval_ms": 1000})
    real.epoch, real.now = claimed["epoch"], await server_ms(functions)
    await real.put({1: 6})
    assert await real.hash("comsrv:1001:T:q") == {}


async def test_who_is_ahead_of_redis_is_refused_but_in_a_simulation(real: Site) -> None:
    ahead = {"now_ms": await server_ms(real.functions) + 60_000}
    async with refused(real.functions, InvalidError, "ms ahead of Redis' clock"):
        await real.functions.call("voltage_tick", None, ahead)
    await execute(real.functions.client, "HSET", "voltage:clock", "simulation", "1")
    assert (await real.functions.json("voltage_tick", None, ahead))["now_ms"] == ahead["now_ms"]
