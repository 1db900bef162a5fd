"""What the detectors see, and when: each instant by the clock of the test."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, standing
from tests.support.site import START, Site, keyspace

POINT = {"source": "comsrv:1001:T:1", "level": "Minor"}


async def transitions(site: Site) -> list[tuple[str, int]]:
    """Return the journal as (event, instant after the start)."""
    return [(entry["event"], int(entry["at_ms"]) - START) for entry in await site.entries("alarmsrv:journal")]


async def feed(site: Site, samples: list[tuple[int, float]], until: int) -> None:
    """Put values at instants after the start; between them only time passes, tick by tick."""
    for at, value in samples:
        await pass_until(site, at)
        await site.put({1: value})
    await pass_until(site, until)


async def pass_until(site: Site, at: int) -> None:
    while site.now < START + at:
        await site.pass_ms(min(100, START + at - site.now))


RATES: list[tuple[dict[str, Any], list[tuple[int, float]], list[tuple[str, int]]]] = [
    # It rose by 6 within 1 s; it ends when the low value is a second old.
    ({}, [(0, 10), (400, 13), (800, 16)], [("raised", 800), ("resolved", 1400)]),
    ({"direction": "falling"}, [(0, 10), (400, 13), (800, 16)], []),
    ({"direction": "falling"}, [(0, 10), (500, 4)], [("raised", 500), ("resolved", 1500)]),
    # The same change over longer than the window is none.
    ({}, [(0, 10), (600, 12), (1200, 14), (1800, 16)], []),
    # A value holds until the next one comes: the 10 was there until just before the 20.
    ({}, [(0, 10), (3000, 20)], [("raised", 3000), ("resolved", 4000)]),
    # Up and down between two polls of the same value.
    ({}, [(0, 10), (100, 20), (200, 10)], [("raised", 100), ("resolved", 1200)]),
    ({"direction": "rising"}, [(0, 10), (100, 20), (200, 10)], [("raised", 100), ("resolved", 200)]),
    # With a deadband it ends only when less than 5 - 3 is left.
    ({"deadband": 3}, [(0, 10), (900, 16), (1000, 13)], [("raised", 900), ("resolved", 2000)]),
    # A delay after it.
    ({"on_delay_ms": 300}, [(0, 10), (400, 16)], [("raised", 700), ("resolved", 1400)]),
]


@pytest.mark.parametrize(("more", "samples", "expected"), RATES)
async def test_rate(
    functions: Functions, more: dict[str, Any], samples: list[tuple[int, float]], expected: list[tuple[str, int]]
) -> None:
    site = await Site(functions).start()
    definition = {**POINT, "detector": "Rate", "limit": 5, "window_ms": 1000, "ack_required": False, **more}
    await functions.call("alarm_define", "fast", definition)
    await feed(site, samples, 6000)
    assert await transitions(site) == expected


async def test_a_slow_ramp_of_many_samples_keeps_little(functions: Functions) -> None:
    """More turning points than are kept exactly: the change is seen to a 32nd of the window, the state stays small."""
    site = await Site(functions).start()
    await functions.call("alarm_define", "fast", {**POINT, "detector": "Rate", "limit": 90, "window_ms": 1000})
    for step in range(400):
        site.now += 5
        await site.put({1: step * 0.5})
    ((event, at),) = await transitions(site)
    assert event == "raised"
    assert 905 <= at <= 940, "after 181 steps it is 90.5; it stays above 90 to the end"
    state = await site.hash("alarmsrv:definition:fast:state")
    assert len(state["window:1"]) < 3000


async def test_stuck(functions: Functions) -> None:
    site = await Site(functions).start()
    definition = {**POINT, "detector": "Stuck", "limit": 2000, "ack_required": False}
    await functions.call("alarm_define", "stuck", definition)
    samples: list[tuple[int, float]] = [(100, 5.0), (1000, 5.1), (2000, 5.2), (5000, 5.3)]
    await feed(site, samples, 6000)
    assert await transitions(site) == [("raised", 4000), ("resolved", 5000)]
    await site.put({}, {1: "bad:timeout"})
    await pass_until(site, 12_000)
    assert len(await transitions(site)) == 2, "a point that is not good is not known to be stuck"
    await site.put({1: 5.3})
    await pass_until(site, 14_000)
    assert (await transitions(site))[-1] == ("raised", 14_000)


async def test_a_stuck_point_costs_one_timer(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "stuck", {**POINT, "detector": "Stuck", "limit": 2000})
    for value in range(50):
        await site.put({1: value})
    timers = await execute(functions.client, "ZRANGE", "voltage:timers", 0, -1)
    assert [name for name in timers if b"again" in name] == [b"again|alarm:stuck#1"]


async def test_discrepancy_gives_each_command_its_time(functions: Functions) -> None:
    site = await Site(functions).start()
    definition = {
        "source": "comsrv:1001:S:1", "other": "comsrv:1001:C:1", "detector": "Discrepancy", "level": "Warning",
        "on_delay_ms": 1000,
    }  # fmt: skip
    await functions.call("alarm_define", "breaker", definition)
    await site.put({1: 0}, kind="S")
    await site.put({1: 1}, kind="C")
    await pass_until(site, 800)
    await site.put({1: 1}, kind="S")
    await pass_until(site, 3000)
    assert await transitions(site) == [], "it followed in time"
    await site.put({1: 0}, kind="C")
    await pass_until(site, 3500)
    await site.put({1: 2}, kind="C")
    await pass_until(site, 4499)
    assert await transitions(site) == [], "the second command has its whole time"
    await pass_until(site, 4500)
    await site.put({1: 2}, kind="S")
    assert await transitions(site) == [("raised", 4500), ("resolved", 4500)]


async def test_what_comes_back_within_the_off_delay_waits_for_nothing(functions: Functions) -> None:
    site = await Site(functions).start()
    delays = {"on_delay_ms": 3000, "off_delay_ms": 1500, "ack_required": False}
    definition = {**POINT, "detector": "Hi", "limit": 50, **delays}
    await functions.call("alarm_define", "hot", definition)
    # Over, gone for half a second twice, unknown for longer than the delay, and gone for good.
    await feed(site, [(0, 60), (3300, 0), (3800, 60), (4300, 0), (4800, 60), (5200, 0)], 5300)
    await site.put({1: 0}, quality={1: "bad:timeout"})
    await pass_until(site, 8000)
    await site.put({1: 60})
    await pass_until(site, 12_000)
    assert [event for event, _ in await transitions(site)] == ["raised", "uncertain", "certain"]
    await site.put({1: 0})
    await pass_until(site, 14_000)
    assert (await transitions(site))[-1] == ("resolved", 13_500)


async def test_a_new_command_has_its_whole_time_within_the_off_delay_too(functions: Functions) -> None:
    site = await Site(functions).start()
    definition = {
        "source": "comsrv:1001:S:1", "other": "comsrv:1001:C:1", "detector": "Discrepancy", "level": "Warning",
        "on_delay_ms": 1000, "off_delay_ms": 500, "ack_required": False,
    }  # fmt: skip
    await functions.call("alarm_define", "breaker", definition)
    await site.put({1: 0}, kind="S")
    await site.put({1: 1}, kind="C")
    await pass_until(site, 1200)
    for at, state in ((1200, 1), (1400, 0), (1600, 1)):
        await pass_until(site, at)
        await site.put({1: state}, kind="S")
    await pass_until(site, 1800)
    await site.put({1: 0}, kind="C")
    await pass_until(site, 2500)
    await site.put({1: 0}, kind="S")
    await pass_until(site, 4000)
    assert await transitions(site) == [("raised", 1000), ("resolved", 2100)]


async def test_deadband_percent_is_of_the_limit(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("alarm_define", "hot", {**HOT, "limit": -50, "deadband_percent": 10})
    for value, status in ((-49, "New"), (-54, "New"), (-55.5, "Returned")):
        await site.put({1: value})
        assert [alarm["status"] for alarm in await site.alarms()] == [status]


async def test_limits_out_of_order_are_refused(functions: Functions) -> None:
    await Site(functions).start()
    for name, detector, limit in (("lolo", "LoLo", 5), ("lo", "Lo", 10), ("hi", "Hi", 80), ("hihi", "HiHi", 90)):
        await functions.call("alarm_define", name, {**POINT, "detector": detector, "limit": limit})
    before = await keyspace(functions)
    for name, detector, limit, other in (
        ("lo", "Lo", 81, "hi"), ("hi", "Hi", 9, "lo"), ("hihi", "HiHi", 70, "hi"), ("more", "LoLo", 11, "lo"),
    ):  # fmt: skip
        with pytest.raises(InvalidError, match=rf"limit {limit} of {detector} is .* in alarm definition {other}"):
            await functions.call("alarm_define", name, {**POINT, "detector": detector, "limit": limit})
    assert await keyspace(functions) == before
    for more in ({"set": "night"}, {"enabled": False}, {"source": "comsrv:1001:T:2"}):
        await functions.call("alarm_define", "other", {**POINT, "detector": "Lo", "limit": 81, **more})


async def test_a_point_that_does_not_exist_counts_once_it_appears(functions: Functions) -> None:
    site = await Site(functions).start()
    definition = {
        "source": "modsrv:bat:soc", "detector": "Lo", "limit": 20, "level": "Major",
        "message": "{value} % at {point:comsrv:7:T:1}",
        "suppress_when": [{"source": "comsrv:8:S:1", "operator": "==", "value": 1}],
    }  # fmt: skip
    await functions.call("alarm_define", "low", definition)
    await functions.call("alarm_define", "hot", HOT)
    asked = {"ids": ["low", "hot", "nobody"]}
    reply = await functions.read_json("alarm_definition_warnings", None, asked)
    assert [warning.split(" is no point")[0] for warning in reply.pop("low")] == [
        "source modsrv:bat:soc", "message: comsrv:7:T:1", "suppress_when[0].source comsrv:8:S:1",
    ]  # fmt: skip
    assert reply == {}
    template = {"name": "Battery", "data_points": {"soc": {"base_id": 1, "unit": "%"}}}
    await functions.call("template_upsert", "battery", template)
    await functions.call(
        "model_upsert", "bat", {"name": "Bat", "template": "battery", "mapping": {"channel": 1001, "data": {"soc": 1}}}
    )
    await site.put({1: 12.5})
    (alarm,) = await site.alarms()
    assert (alarm["source"], alarm["title"]) == ("modsrv:bat:soc", "12.5 % at ?")
    assert len((await functions.read_json("alarm_definition_warnings", None, asked))["low"]) == 2


async def test_names_that_stand_for_nothing_are_taken_with_a_warning(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("channel_upsert", 1001, {"name": "test", "protocol": "virtual", "points": {"T": [{"id": 1}]}})
    await functions.call("alarm_define", "there", {**HOT, "group": "g", "equipment": "e"})
    names = ["group", "equipment"]
    good = ["alarm:there", *(f"{name}:{name[0]}" for name in names), "comsrv:1001"]
    bad = ["alarm:typo", *(f"{name}:typo" for name in names), "comsrv:99", "comsrv:99:unit:1", "rule:typo#1"]
    nope = {"source": "alarm:nope", "operator": "==", "value": "New"}
    await functions.call("alarm_define", "hot", {**HOT, "suppresses": [*good, *bad], "suppress_when": [nope]})
    said = (await functions.read_json("alarm_definition_warnings", None, {"ids": ["hot"]}))["hot"]
    assert said == [
        "suppress_when[0].source alarm:nope: there is no alarm definition nope; it counts once it is there",
        "suppresses[4] alarm:typo: there is no alarm definition typo; it counts once it is there",
        "suppresses[5] group:typo: no alarm definition has the group typo; it counts once it is there",
        "suppresses[6] equipment:typo: no alarm definition has the equipment typo; it counts once it is there",
        "suppresses[7] comsrv:99: there is no channel 99; it counts once it is there",
        "suppresses[8] comsrv:99:unit:1: there is no channel 99; it counts once it is there",
        "suppresses[9] rule:typo#1: there is no rule typo; it counts once it is there",
    ]
    for name in ("group:typo", "equipment:typo", "comsrv:99"):
        (warning,) = (await functions.json("alarm_suppress", name, {"by": "anna", "now_ms": site.now}))["warnings"]
        assert warning.startswith(name)
    assert "warnings" not in await functions.json("alarm_suppress", "group:g", {"by": "anna", "now_ms": site.now})


MESSAGES = [
    ("plain", "plain"),
    ("{value} {unit}, limit {limit}", "81.25 kW, limit 80"),
    ("{value:0} and {value:3}", "81 and 81.250"),
    ("{{literal}} {quality}", "{literal} good"),
    ("{point:comsrv:1001:T:2} {point:comsrv:1001:T:2:1} {point:comsrv:1001:T:3}", "20 20.0 ?"),
    ("{level} {area} {equipment} {group} {id} {priority} {source}", "Major Hall 3 pump1 g hot 700 comsrv:1001:T:1"),
]


@pytest.mark.parametrize(("message", "title"), MESSAGES)
async def test_messages(functions: Functions, message: str, title: str) -> None:
    site = await Site(functions).start()
    points = {"T": [{"id": 1, "unit": "kW"}, {"id": 2}]}
    await functions.call("channel_upsert", 1001, {"name": "test", "protocol": "virtual", "points": points})
    more = {"message": message, "area": "Hall 3", "equipment": "pump1", "group": "g"}
    await functions.call("alarm_define", "hot", {**HOT, **more})
    await site.put({2: 20, 1: 81.25})
    assert [alarm["title"] for alarm in await site.alarms()] == [title]


@pytest.mark.parametrize(
    ("change", "value", "title"),
    [
        ({}, 81.256789, "Hi comsrv:1001:T:1: 81.2568 kW (limit 80)"),
        ({"source": "comsrv:1001:T:2", "detector": "Lo", "limit": 0.25}, -0.5, "Lo comsrv:1001:T:2: -0.5 (limit 0.25)"),
        ({"limit": 1_000_000}, 1_234_567, "Hi comsrv:1001:T:1: 1234567 kW (limit 1000000)"),
        ({"name": "Hall too hot"}, 90, "Hall too hot"),
        ({"detector": "State", "limit": 3}, 3, "State comsrv:1001:T:1"),
    ],
)
async def test_a_limit_without_a_message_says_value_unit_and_limit(
    functions: Functions, change: dict[str, Any], value: float, title: str
) -> None:
    site = await Site(functions).start()
    points = {"T": [{"id": 1, "unit": "kW"}, {"id": 2}]}
    await functions.call("channel_upsert", 1001, {"name": "test", "protocol": "virtual", "points": points})
    definition = {name: said for name, said in HOT.items() if name != "message"} | change
    await functions.call("alarm_define", "hot", definition)
    await site.put({int(definition["source"][-1]): value})
    assert [alarm["title"] for alarm in await site.alarms()] == [title]


@pytest.mark.parametrize(
    ("band", "said"), [({}, "0"), ({"deadband": 2.5}, "2.5"), ({"deadband_percent": 5}, "4"), ({"deadband": 0}, "0")]
)
async def test_a_message_says_the_deadband_that_results(
    functions: Functions, band: dict[str, float], said: str
) -> None:
    site, _ = await standing(functions, message="hysteresis {deadband}", **band)
    assert [alarm["title"] for alarm in await site.alarms()] == [f"hysteresis {said}"]


async def test_an_alarm_that_comes_again_says_the_value_of_this_time(functions: Functions) -> None:
    site, _ = await standing(functions, message="at {value}")
    await site.put({1: 10})
    await site.put({1: 95.5})
    assert [(alarm["count"], alarm["title"]) for alarm in await site.alarms()] == [(2, "at 95.5")]
    entries = await site.entries("alarmsrv:journal")
    assert [(entry["event"], entry["title"]) for entry in entries] == [
        ("raised", "at 81"), ("returned", "at 81"), ("recurred", "at 95.5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("at {colour}", r"message: \{colour\} is unknown; there are value, unit"),
        ("at {value", "message: a { at byte 4 stands alone; write it twice"),
        ("at }", "message: a } at byte 4 stands alone"),
        ("{point:comsrv:x:T:1}", r"message: \{point:comsrv:x:T:1\} names no reference"),
        ("{value:9}", r"message: \{value:9\} is unknown; decimals are 0 to 6, as \{value:1\}"),
        ("{point:comsrv:1:T:1:x}", r"message: \{point:comsrv:1:T:1:x\} is unknown; decimals are 0 to 6"),
        ("{value}" * 17, "message: at most 16 fields are taken, not 17"),
    ],
)
async def test_a_message_with_an_unknown_field_is_refused(functions: Functions, message: str, problem: str) -> None:
    with pytest.raises(InvalidError, match=problem):
        await functions.call("alarm_define", "hot", {**HOT, "message": message})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"detector": "Magic"}, 'detector "Magic" is unknown; there are HiHi, Hi, Lo, LoLo, State, Deviation, Rate'),
        ({"detector": "Quality", "limit": "rotten"}, "limit must be good, bad, uncertain or missing"),
        ({"window_ms": 5}, "window_ms does not go with detector Hi"),
        ({"detector": "Rate", "limit": 0}, "limit must be the change, above 0"),
        ({"detector": "Rate", "direction": "up"}, "direction must be rising, falling or both"),
        ({"detector": "Stuck", "limit": 5, "deadband": 1}, "deadband does not go with detector Stuck"),
        ({"deadband": 1, "deadband_percent": 1}, "deadband_percent does not go beside deadband"),
        ({"deadband_percent": 5, "limit": 0}, "must be a number other than 0"),
        ({"level": "Info", "ack_required": True, "latching": True}, "ack_required .* event.*; latching .* event"),
        (
            {"suppress_when": [{"source": "x", "operator": "~"}]},
            r"suppress_when\[0\].operator .*; suppress_when\[0\].source",
        ),
        ({"suppresses": ["alarm:hot", "nobody"]}, r"suppresses\[0\] is the definition itself; suppresses\[1\] must be"),
        ({"group": "a b", "equipment": 5, "set": ""}, "equipment must match.*; group must match.*; set must match"),
        ({"guidance": {"cause": 5, "colour": "x"}}, "guidance.cause must be a text.*; guidance.colour is unknown"),
        ({"detector": "Deviation", "other": HOT["source"]}, "other is the source itself"),
        ({"limit": 9e15 * 2, "deadband": 1e16}, r"deadband must be .* 2\^53.*; limit must be a number from -2\^53 to"),
        ({"detector": "NoData", "limit": 0.5}, "limit must be a whole number of milliseconds, at most 31 days"),
        (
            {"detector": "Stuck", "limit": 32 * 86_400_000},
            "limit must be a whole number of milliseconds, at most 31 days",
        ),
        (
            {"tags": ["x" * 321, *["y"] * 102]},
            r"tags has 103 items, at most 100 .*; tags\[0\] must be a text of at most",
        ),
        ({"tags": {"a": 1}}, "tags must be a list of texts"),
        ({"priority": 1001, "realarm_ms": 5}, "priority must be an integer from 1 to 1000; realarm_ms must be an"),
    ],
)
async def test_what_can_not_be_is_refused_with_its_path(
    functions: Functions, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidError, match=problem):
        await functions.call("alarm_define", "hot", {**HOT, **change})
    assert await keyspace(functions) == {}


async def test_a_refusal_is_a_list_of_paths_and_problems(functions: Functions) -> None:
    """All that is wrong at once, also with a detector that there is not; what the site says has a path, too."""
    bad = {
        "detector": "Magic", "message": "{value:9}", "suppress_when": [{"source": "x", "operator": ">", "value": 1}],
        "suppresses": ["a\u001fb"], "guidance": {"cause": 1},
    }  # fmt: skip
    with pytest.raises(InvalidError) as caught:
        await functions.call("alarm_define", "hot", {**HOT, **bad})
    problems = caught.value.problems
    assert [problem.where for problem in problems] == [
        "detector", "guidance.cause", "message", "suppress_when[0].source", "suppresses[0]",
    ]  # fmt: skip
    assert problems[2].message == "{value:9} is unknown; decimals are 0 to 6, as {value:1}"
    assert "\x1f" not in str(caught.value)
    await functions.call("alarm_define", "low", {**HOT, "detector": "Lo", "suppresses": ["alarm:hot"]})
    with pytest.raises(InvalidError) as caught:
        await functions.call("alarm_define", "hot", {**HOT, "limit": 70, "suppresses": ["alarm:low"]})
    assert [problem.where for problem in caught.value.problems] == ["limit", "suppresses[0]"]
    for change in ({"limit": "x"}, {"detector": "Stuck", "limit": "x"}, {"detector": "Deviation"}, {"id": "cold"}):
        with pytest.raises(InvalidError) as caught:
            await functions.call("alarm_define", "hot", {**HOT, **change})
        assert {problem.where for problem in caught.value.problems} <= {"limit", "other", "id"}
        assert caught.value.problems
