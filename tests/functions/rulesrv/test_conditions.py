"""Conditions on changes, aggregates, states and windows of time."""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from typing import Any

import pytest

from libs.errors import InvalidError, StateError
from libs.redis.client import execute
from services.rulesrv.zones import table_of
from tests.support.refusal import refused
from tests.support.site import START, Site

T1 = "comsrv:1001:T:1"
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def leaf(operator: str = ">", value: Any = None, **more: Any) -> dict[str, Any]:
    return {"source": T1, "operator": operator, **({} if value is None else {"value": value}), **more}


async def put(site: Site, conditions: Any, rule: str = "r1", **more: Any) -> None:
    await site.functions.call("rule_upsert", rule, {"name": rule, "conditions": conditions, "actions": [], **more})


async def result(site: Site, rule: str = "r1") -> bool | None:
    found: bool | None = (await site.functions.read_json("rule_stats", rule))["result"]
    return found


async def forget(site: Site) -> None:
    """Let the server compile everything anew, as after a restart."""
    await execute(site.functions.client, "SET", site.functions.key("voltage:generation"), "other")


# ---------------------------------------------------------------- changes


@pytest.mark.parametrize(("operator", "fired"), [("changed", [2, 3, 5, 6]), ("rising", [2, 5]), ("falling", [3, 6])])
async def test_each_change_fires_once(site: Site, operator: str, fired: list[int]) -> None:
    await put(site, [leaf(operator)])
    for value in (5, 7, 6, 6, 8, 1):
        site.now += 1
        await site.put({1: value})
    assert [at for _, event, at in await site.firings() if event == "fired"] == fired
    assert await result(site) is False


async def test_a_change_is_told_from_the_last_good_value_also_after_a_restart(site: Site) -> None:
    await put(site, [leaf("changed")])
    await site.put({1: 5})
    await site.put({1: 9}, {1: "uncertain:substituted"})
    assert await result(site) is None
    await forget(site)
    await site.put({1: 5})
    assert await site.firings() == []
    await forget(site)
    await site.put({1: 6})
    assert len(await site.firings()) == 2


async def test_a_change_stays_true_within_its_time(site: Site) -> None:
    await put(site, [leaf("rising", within_ms=1000)])
    await site.put({1: 1})
    await site.put({1: 2})
    await site.pass_ms(600)
    await site.put({1: 3})
    await forget(site)
    await site.pass_ms(999)
    assert await site.firings() == [("r1", "fired", 0)]
    await site.pass_ms(1)
    assert await site.firings() == [("r1", "fired", 0), ("r1", "cleared", 1600)]


async def test_rate_over_a_window(site: Site) -> None:
    await put(site, [leaf("rate", 5, window_ms=1000, direction="rising")])
    for value in (0, 3, 6):
        await site.put({1: value})
        site.now += 100
    assert await site.firings() == [("r1", "fired", 200)]
    await site.pass_ms(2000)
    assert await result(site) is False


async def test_a_rate_takes_two_values_of_one_instant_and_an_event_that_comes_late(site: Site) -> None:
    await put(site, [leaf("rate", 10, window_ms=1000)])
    for value in (0, 15, 50):
        await site.put({1: value})
    await site.pass_ms(1000)
    assert await site.firings() == [("r1", "fired", 0), ("r1", "cleared", 1000)]
    site.now += 5000
    await site.put({1: 51})
    event = {"epoch": site.epoch, "seq": 99, "now_ms": site.now, "at_ms": site.now, "block": "e", "origin": "event"}
    await site.functions.call("comsrv_ingest", 1001, {**event, "events": [["T", "1", site.now - 10, "90.000000", ""]]})
    assert (await site.firings())[2:] == [("r1", "fired", 5990), ("r1", "cleared", 6000)]


# ---------------------------------------------------------------- aggregates


def over(aggregate: str, operator: str, value: Any, window_ms: int = 60_000, **more: Any) -> dict[str, Any]:
    return leaf(operator, value, aggregate=aggregate, window_ms=window_ms, **more)


async def test_a_mean_weighs_by_time(site: Site) -> None:
    await put(site, [over("mean", ">", 50, coverage=0)])
    await site.put({1: 0})
    await site.pass_ms(20_000)
    await site.put({1: 100})
    await site.pass_ms(20_000)
    assert await result(site) is False, "half of the time 0, half of it 100"
    await forget(site)
    await site.pass_ms(1000)
    assert await result(site) is True
    assert await site.firings() == [("r1", "fired", 40_000 + (1000 - START % 1000) % 1000 + 1000 * (START % 1000 == 0))]


async def test_extremes_leave_with_their_slice(site: Site) -> None:
    await put(site, [over("max", ">", 50, coverage=0)])
    await put(site, [over("min", "<", 0, coverage=0)], "low")
    await site.put({1: 10})
    await site.pass_ms(500)
    for value in (90, -5, 10):
        await site.put({1: value})
    await site.pass_ms(58_000)
    assert (await result(site), await result(site, "low")) == (True, True)
    await site.pass_ms(2000)
    assert (await result(site), await result(site, "low")) == (False, False)


async def test_a_count_of_what_came_to_be(site: Site) -> None:
    await put(site, [over("count", ">=", 2, when={"operator": "==", "value": 1}, coverage=0)])
    for value in (1, 0, 1):
        await site.put({1: value})
    assert await result(site) is False, "the first value is no change"
    await site.put({1: 0})
    await forget(site)
    await site.put({1: 1})
    assert await result(site) is True
    await site.pass_ms(61_000)
    assert await result(site) is False


async def test_an_aggregate_is_unknown_without_enough_good_time(site: Site) -> None:
    await put(site, [over("mean", ">=", 0)])
    await site.put({1: 5})
    await site.pass_ms(20_000)
    assert await result(site) is None
    await site.pass_ms(11_000)
    assert await result(site) is True
    await site.put({}, {1: "bad:timeout"})
    assert await result(site) is None
    await site.pass_ms(40_000)
    await site.put({1: 5})
    assert await result(site) is None


async def test_what_is_kept_of_a_window_goes_with_its_last_rule(site: Site) -> None:
    await put(site, [over("mean", ">=", 0)])
    await put(site, [over("max", ">=", 0)], "r2")
    await site.put({1: 5})
    for _ in range(300):
        await site.pass_ms(700)
        await site.put({1: 6})
    window = "rulesrv:window:60000:" + T1
    assert len(await site.hash(window)) == 61
    await site.functions.call("rule_delete", "r1")
    assert len(await site.hash(window)) == 61
    await site.functions.call("rule_delete", "r2")
    assert await site.hash(window) == {}


# ---------------------------------------------------------------- states

HOT: dict[str, Any] = {"name": "hot", "source": T1, "detector": "Hi", "limit": 80, "level": "Major"}


async def test_the_state_of_an_alarm(site: Site) -> None:
    await site.functions.call("alarm_define", "hot", HOT)
    await put(site, [{"source": "alarm:hot", "operator": "==", "value": "active"}])
    await put(site, [{"source": "alarm:hot", "operator": "in", "value": ["unacknowledged"]}], "seen")
    assert await result(site) is False
    await site.put({1: 90})
    assert (await result(site), await result(site, "seen")) == (True, True)
    await site.put({}, {1: "bad:timeout"})
    assert await result(site) is None, "the alarm is uncertain"
    await site.put({1: 90})
    (alarm,) = await site.alarms()
    await site.functions.call("acknowledge_alarm", alarm["id"], "anna", site.now)
    assert (await result(site), await result(site, "seen")) == (True, False)
    await forget(site)
    await site.put({1: 10})
    assert await result(site) is False


async def test_the_state_of_a_rule_and_of_its_alarm(site: Site) -> None:
    raise_it = [{"type": "create_alarm", "params": {"title": "x", "level": "Minor"}}]
    await put(site, [{"source": "rule:r1", "operator": "==", "value": "active"}], "follows")
    await put(site, [{"source": "rule:r1#1", "operator": "!=", "value": "Normal"}], "alarmed")
    assert (await result(site, "follows"), await result(site, "alarmed")) == (None, False)
    await put(site, [leaf(">", 10)], actions=raise_it)
    await site.put({1: 50})
    assert (await result(site, "follows"), await result(site, "alarmed")) == (True, True)
    await site.functions.call("rule_enable", "r1", "false")
    assert (await result(site, "follows"), await result(site, "alarmed")) == (False, True)
    await put(site, [{"source": "rule:r1", "operator": "==", "value": "off"}], "off")
    assert await result(site, "off") is True
    await site.functions.call("rule_delete", "r1")
    assert await result(site, "off") is None


async def test_the_state_of_a_points_newest_command(site: Site) -> None:
    await put(site, [{"source": "command:1001:A:1", "operator": "==", "value": "pending"}])
    await put(site, [{"source": "command:1001:A:1", "operator": "in", "value": ["expired", "failed"]}], "lost")
    assert await result(site) is False
    await site.functions.call("command_submit", 1001, {"type": "A", "point": 1, "value": 5, "now_ms": site.now})
    assert (await result(site), await result(site, "lost")) == (True, False)
    await site.pass_ms(10_000)
    assert (await result(site), await result(site, "lost")) == (False, True)


# ---------------------------------------------------------------- windows of time


def ms(text: str, zone: dt.tzinfo = BERLIN, fold: int = 0) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


async def at(site: Site, instant: int) -> None:
    """Put the clock to an instant at which nothing is there yet, and hand over the zone's table."""
    site.now = instant
    await execute(site.functions.client, "HSET", site.functions.key("voltage:clock"), "last", str(instant))
    await site.claim()
    await site.functions.call("rule_zone", None, {"zone": "Europe/Berlin", **table_of("Europe/Berlin", instant)})


async def turns(site: Site, until: int) -> list[str]:
    """Let time pass in steps of at most ten minutes; return when the rule turned, by the site's clock."""
    while site.now < until:
        await site.pass_ms(min(600_000, until - site.now))
    found = []
    for entry in await site.entries("rulesrv:firings"):
        clock = dt.datetime.fromtimestamp(int(entry["at_ms"]) / 1000, BERLIN)
        found.append(f"{entry['event']} {clock:%m-%d %H:%M %z}")
    return found


def window(**more: Any) -> list[dict[str, Any]]:
    return [{"time": {"zone": "Europe/Berlin", **more}}]


@pytest.mark.parametrize(
    ("begin", "end", "spec", "expected"),
    [
        # Every day; over midnight.
        ("2026-11-20T12:00", "2026-11-21T12:00", {"from": "22:00", "to": "06:00"},
         ["fired 11-20 22:00 +0100", "cleared 11-21 06:00 +0100"]),
        # The night of Friday ends on Saturday, also where Saturday is not listed.
        ("2026-11-20T12:00", "2026-11-22T12:00", {"from": "22:00", "to": "06:00", "days": ["fri"]},
         ["fired 11-20 22:00 +0100", "cleared 11-21 06:00 +0100"]),
        # Clocks go forward at 02:00: the hour from 02:00 is not there.
        ("2026-03-29T00:30", "2026-03-29T06:00", {"from": "01:30", "to": "02:30"},
         ["fired 03-29 01:30 +0100", "cleared 03-29 03:00 +0200"]),
        ("2026-03-29T00:30", "2026-03-29T06:00", {"from": "02:00", "to": "03:00"}, []),
        # Clocks go back at 03:00: the hour from 02:00 is there twice.
        ("2026-10-25T00:30", "2026-10-25T06:00", {"from": "02:00", "to": "03:00"},
         ["fired 10-25 02:00 +0200", "cleared 10-25 03:00 +0100"]),
        ("2026-10-25T00:30", "2026-10-25T06:00", {"from": "02:30", "to": "03:00"},
         ["fired 10-25 02:30 +0200", "cleared 10-25 02:00 +0100",
          "fired 10-25 02:30 +0100", "cleared 10-25 03:00 +0100"]),
        # A leap day, and the last day of a month.
        ("2028-02-28T12:00", "2028-03-01T12:00", {"dates": ["2028-02-29"]},
         ["fired 02-29 00:00 +0100", "cleared 03-01 00:00 +0100"]),
        ("2027-12-31T12:00", "2028-01-01T12:00", {"months": [1], "to": "06:00"},
         ["fired 01-01 00:00 +0100", "cleared 01-01 06:00 +0100"]),
        # All week but a date.
        ("2026-12-24T12:00", "2026-12-26T12:00", {"from": "08:00", "to": "10:00", "except": ["2026-12-25"]},
         ["fired 12-26 08:00 +0100", "cleared 12-26 10:00 +0100"]),
    ],
)  # fmt: skip
async def test_a_window_follows_the_wall_clock(
    site: Site, begin: str, end: str, spec: dict[str, Any], expected: list[str]
) -> None:
    await at(site, ms(begin))
    await put(site, window(**spec))
    assert await turns(site, ms(end)) == expected


async def test_a_time_zone_is_wanted_while_a_condition_names_it(site: Site) -> None:
    def of(zone: str) -> list[dict[str, Any]]:
        return [{"time": {"zone": zone}}]

    alarm = {"source": T1, "detector": "Hi", "limit": 5, "level": "Info"}
    await put(site, of("Asia/Tokyo"))
    await put(site, of("Asia/Tokyo"), "r2")
    await put(site, of("Europe/Rome"), "off", enabled=False)
    await site.functions.call("alarm_define", "hot", {**alarm, "suppress_when": of("Europe/Oslo")})
    shadow = {"kind": "rule", "definition": json.dumps({"name": "x", "conditions": of("Europe/Paris"), "actions": []})}
    await site.functions.call("shadow_start", "r1", shadow)
    assert await site.members("rulesrv:zones:wanted") == {"Asia/Tokyo", "Europe/Oslo", "Europe/Paris"}
    await put(site, of("UTC"))
    await site.functions.call("alarm_define", "hot", {**alarm, "suppress_when": of("Europe/Rome")})
    await site.functions.call("shadow_stop", "r1", {"kind": "rule"})
    assert await site.members("rulesrv:zones:wanted") == {"Asia/Tokyo", "UTC", "Europe/Rome"}
    await site.functions.call("rule_delete", "r2")
    await site.functions.call("rule_enable", "r1", "false")
    await site.functions.call("alarm_define", "hot", alarm)
    assert await site.members("rulesrv:zones:wanted") == set()
    await site.functions.call("alarm_define", "hot", {**alarm, "suppress_when": of("Europe/Oslo")})
    await site.functions.call("alarm_definition_delete", "hot")
    assert await site.members("rulesrv:zones:wanted") == set()


async def test_a_window_is_unknown_without_a_table_and_never_wrong(site: Site) -> None:
    site.now = ms("2026-11-20T12:00")
    await execute(site.functions.client, "HSET", site.functions.key("voltage:clock"), "last", str(site.now))
    await put(site, window(to="18:00"))
    assert await result(site) is None
    assert await site.members("rulesrv:zones:wanted") == {"Europe/Berlin"}
    table = {"zone": "Europe/Berlin", "from_ms": 0, "until_ms": ms("2026-11-20T13:00"), "changes": [[0, 3600]]}
    await site.functions.call("rule_zone", None, table)
    assert await result(site) is True
    await site.pass_ms(3_600_000)
    assert await result(site) is None, "the table ends"
    await site.functions.call("rule_zone", None, table | {"until_ms": ms("2027-11-20T13:00")})
    await forget(site)
    await site.pass_ms(1)
    assert await result(site) is True
    await site.pass_ms(5 * 3_600_000)
    assert await result(site) is False


async def test_a_calendar_names_dates_as_far_as_it_goes(site: Site) -> None:
    await at(site, ms("2026-12-23T12:00"))
    await put(site, window(dates="holidays"))
    assert await result(site) is None
    holidays = {"name": "holidays", "dates": ["2026-12-24/2026-12-26"], "through": "2026-12-31"}
    await site.functions.call("calendar_upsert", "holidays", holidays)
    assert await result(site) is False
    expected = ["fired 12-24 00:00 +0100", "cleared 12-27 00:00 +0100"]
    assert await turns(site, ms("2027-01-01T12:00")) == expected
    assert await result(site) is None, "nobody knows of the next year"
    async with refused(site.functions, StateError, "calendar holidays is named by rule:r1"):
        await site.functions.call("calendar_delete", "holidays")
    for wrong, text in (
        ({"dates": ["2027-02-29"]}, r"dates[0] must be dates"),
        ({"through": "soon"}, "through must be the last date"),
        ({"dates": []}, "dates must be dates"),
    ):
        async with refused(site.functions, InvalidError, text):
            await site.functions.call("calendar_upsert", "holidays", holidays | wrong)


async def test_a_window_joins_other_conditions(site: Site) -> None:
    await at(site, ms("2026-11-20T21:59"))
    await put(site, [leaf(">", 10, for_ms=60_000), *window(**{"from": "22:00"})])
    await site.put({1: 50})
    assert await turns(site, ms("2026-11-20T23:00")) == ["fired 11-20 22:00 +0100"]


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (leaf("changed", 5), "conditions[0].value does not go with changed"),
        (leaf("rising", for_ms=5), "conditions[0].for_ms does not go with rising"),
        (leaf(">", 5, within_ms=5), "conditions[0].within_ms goes with changed"),
        (leaf("rate"), "conditions[0].value must be the change, above 0"),
        (leaf("rate", 5, direction="up"), "conditions[0].direction must be rising"),
        (leaf(">", 5, aggregate="mean"), "conditions[0].window_ms is missing"),
        (leaf(">", 5, aggregate="median", window_ms=1000), "conditions[0].aggregate must be one of mean"),
        (leaf("quality", "bad", aggregate="mean", window_ms=1000), "conditions[0].operator of an aggregate"),
        (leaf(">", 5, aggregate="mean", window_ms=10), "conditions[0].window_ms must be a whole number"),
        (leaf(">", 5, aggregate="mean", window_ms=1000, when={}), "conditions[0].when goes with count only"),
        (leaf(">", 5, aggregate="count", window_ms=1000, when={"operator": "~"}), "conditions[0].when must be"),
        (leaf(">", 5, aggregate="mean", window_ms=1000, coverage=2), "conditions[0].coverage must be a share"),
        ({"source": "alarm:hot", "operator": ">", "value": 1}, "conditions[0].operator of a state"),
        ({"source": "alarm:hot", "operator": "==", "value": "on"}, "conditions[0].value must be one of Normal"),
        ({"source": "command:x:A:1", "operator": "==", "value": "sent"}, "conditions[0].source"),
        ({"time": {}}, "conditions[0].time must be {zone"),
        ({"time": {"zone": "../etc"}}, "conditions[0].time.zone must be a time zone"),
        ({"time": {"zone": "UTC", "from": "25:00"}}, "conditions[0].time.from must be a time of day"),
        ({"time": {"zone": "UTC", "from": "08:00", "to": "08:00"}}, "conditions[0].time.to must be another time"),
        ({"time": {"zone": "UTC", "days": ["monday"]}}, "conditions[0].time.days must be a list of mon"),
        ({"time": {"zone": "UTC", "dates": ["2027-02-29"]}}, "conditions[0].time.dates[0] must be dates"),
        ({"time": {"zone": "UTC", "hours": 5}}, "conditions[0].time.hours is unknown"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_with_its_path(site: Site, condition: dict[str, Any], text: str) -> None:
    async with refused(site.functions, InvalidError, text):
        await put(site, [condition])
