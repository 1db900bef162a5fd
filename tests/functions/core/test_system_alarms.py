"""System alarms: what goes wrong with the system itself is an alarm, once, and not for longer than it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.site import Site

LEASE_MS = 3_000


@pytest.fixture
async def polled(functions: Functions) -> Site:
    """Give channel 1001 with a lease of 3 s."""
    site = await Site(functions).start()
    await claim(site)
    return site


async def claim(site: Site) -> None:
    document = {"owner": "test", "interval_ms": 1000, "now_ms": site.now}
    site.epoch = (await site.functions.json("channel_claim", site.channel, document))["epoch"]


async def renew(site: Site, state: str, units: dict[str, str] | None = None) -> None:
    """Let a second pass and say how the channel and its units are."""
    site.now += 1000
    found = {
        unit: {"state": "down" if problem else "running", "problem": problem} for unit, problem in (units or {}).items()
    }
    document = {"epoch": site.epoch, "state": state, "units": found, "now_ms": site.now}
    await site.functions.call("channel_renew", site.channel, document)


async def renew_for(site: Site, seconds: int, state: str, units: dict[str, str] | None = None) -> None:
    for _ in range(seconds):
        await renew(site, state, units)


async def seen(site: Site) -> dict[str, tuple[str, str]]:
    """Return origin -> source and status of all system alarms; there is one an origin."""
    alarms = await site.system_alarms()
    found = {alarm["origin"]: (alarm["source"], alarm["status"]) for alarm in alarms}
    assert len(found) == len(alarms)
    return found


CHANNEL = "system:channel:1001"
UNIT = "system:unit:1001:5"


async def test_a_channel_whose_lease_lapsed_is_an_alarm_after_ten_seconds_until_it_runs_again(polled: Site) -> None:
    await renew(polled, "running")
    await polled.pass_ms(LEASE_MS + 9_999)
    assert await seen(polled) == {}
    await polled.pass_ms(1)
    assert await seen(polled) == {CHANNEL: ("comsrv:1001", "New")}
    await claim(polled)
    await renew(polled, "starting")
    assert await seen(polled) == {CHANNEL: ("comsrv:1001", "New")}, "nobody knows yet"
    await renew(polled, "running")
    assert await seen(polled) == {CHANNEL: ("comsrv:1001", "Returned")}
    (alarm,) = await polled.system_alarms()
    assert (alarm["level"], alarm["tags"]) == ("Major", ["system", "channel"])
    assert "no comsrv polls it" in alarm["title"]
    assert "voltage doctor" in alarm["description"]


async def test_one_that_comes_again_says_its_new_cause(polled: Site) -> None:
    await renew(polled, "running")
    await polled.pass_ms(LEASE_MS + 10_000)
    await claim(polled)
    await renew(polled, "running")
    await renew_for(polled, 12, "down", {"5": "bad:timeout"})
    (alarm,) = [one for one in await polled.system_alarms() if one["origin"] == CHANNEL]
    assert (alarm["status"], alarm["count"]) == ("New", 2)
    assert "no comsrv polls it" not in alarm["title"]
    titles = [
        (entry["event"], "no comsrv polls it" in entry["title"])
        for entry in await polled.entries("alarmsrv:journal")
        if entry["origin"] == CHANNEL
    ]
    assert titles == [("raised", True), ("returned", True), ("recurred", False)]


async def test_a_restart_of_comsrv_and_a_missed_poll_are_no_alarm(polled: Site) -> None:
    await renew(polled, "running")
    await polled.pass_ms(LEASE_MS + 2_000)
    await claim(polled)
    await renew_for(polled, 2, "starting")
    await renew_for(polled, 3, "down", {"5": "bad:timeout"})
    await renew_for(polled, 20, "running", {"5": ""})
    assert await seen(polled) == {}


async def test_a_machine_that_was_off_is_no_alarm_of_each_channel(polled: Site) -> None:
    await renew(polled, "running")
    await polled.pass_ms(3_600_000)
    await polled.pass_ms(5_000)
    await claim(polled)
    await renew_for(polled, 20, "running")
    assert await seen(polled) == {}


async def test_a_unit_that_does_not_answer_is_an_alarm_of_its_own(polled: Site) -> None:
    await renew_for(polled, 11, "degraded", {"5": "bad:timeout", "6": ""})
    assert await seen(polled) == {UNIT: ("comsrv:1001:unit:5", "New")}
    assert "bad:timeout" in (await polled.system_alarms())[0]["title"]
    await renew(polled, "running", {"5": "", "6": ""})
    assert await seen(polled) == {UNIT: ("comsrv:1001:unit:5", "Returned")}


async def test_a_unit_that_is_taken_out_has_no_alarm(polled: Site) -> None:
    await renew_for(polled, 11, "degraded", {"5": "bad:timeout", "6": ""})
    await renew(polled, "running", {"6": ""})
    assert await seen(polled) == {UNIT: ("comsrv:1001:unit:5", "Returned")}


async def test_a_channel_that_is_down_with_64_units_is_one_alarm(polled: Site) -> None:
    units = {str(unit): "bad:timeout" for unit in range(1, 65)}
    await renew_for(polled, 20, "down", units)
    assert await seen(polled) == {CHANNEL: ("comsrv:1001", "New")}
    units |= {"64": ""}
    await renew_for(polled, 9, "degraded", units)
    assert await seen(polled) == {CHANNEL: ("comsrv:1001", "Returned")}
    await renew_for(polled, 10, "degraded", units)
    names = await seen(polled)
    assert sum(name.startswith("system:unit") for name in names) == 63, "now each is one of its own"
    assert names["system:flood"] == ("system:flood", "New")


async def test_a_channel_that_is_stopped_by_hand_has_no_alarm(polled: Site) -> None:
    await renew_for(polled, 11, "degraded", {"5": "bad:timeout", "6": ""})
    await polled.functions.call("channel_release", 1001, {"epoch": polled.epoch, "now_ms": polled.now})
    await polled.pass_ms(60_000)
    assert await seen(polled) == {UNIT: ("comsrv:1001:unit:5", "Returned")}


@pytest.mark.parametrize(
    ("state", "alarmed"), [("failed", True), ("rejected", True), ("mismatch", True), ("verified", False)]
)
async def test_a_command_that_failed_is_an_alarm_of_its_point(polled: Site, state: str, alarmed: bool) -> None:
    command = {"id": "c1", "type": "A", "point": 1, "value": 1, "now_ms": polled.now}
    await polled.functions.call("command_submit", 1001, command)
    await polled.functions.call("command_claim", 1001, {"epoch": polled.epoch, "now_ms": polled.now})
    outcome = {"epoch": polled.epoch, "id": "c1", "now_ms": polled.now}
    if state in {"mismatch", "verified"}:
        await polled.functions.call("command_complete", 1001, {**outcome, "state": "acknowledged"})
    await polled.functions.call("command_complete", 1001, {**outcome, "state": state, "reason": "exception 4"})
    expected = {"system:command:1001:A:1": ("comsrv:1001:A:1", "Returned")} if alarmed else {}
    assert await seen(polled) == expected
    assert all("exception 4" in alarm["title"] for alarm in await polled.system_alarms())


async def test_memory_that_fills_up_is_an_alarm(site: Site) -> None:
    client = site.functions.client
    found = await execute(client, "INFO", "memory")
    used = int(found["used_memory"]) if isinstance(found, dict) else _number(found.decode(), "used_memory")
    try:
        await execute(client, "CONFIG", "SET", "maxmemory", str(int(used / 0.9)))
        await site.pass_ms(10_000)
        assert (await seen(site))["system:memory"] == ("system:memory", "New")
    finally:
        await execute(client, "CONFIG", "SET", "maxmemory", "0")
    await site.pass_ms(10_000)
    assert (await seen(site))["system:memory"] == ("system:memory", "Returned")


def _number(text: str, name: str) -> int:
    return next(int(line.partition(":")[2]) for line in text.splitlines() if line.startswith(f"{name}:"))


async def test_a_ledger_that_does_not_balance_is_said_once_a_difference(site: Site) -> None:
    for _ in range(2):
        await site.pass_ms(10_000)
    assert await seen(site) == {}
    for round_ in (1, 2):
        await execute(site.functions.client, "HINCRBY", "voltage:ledger", "queued", "3")
        for _ in range(4):
            await site.pass_ms(10_000)
        (alarm,) = await site.system_alarms()
        assert (alarm["origin"], alarm["count"]) == ("system:ledger", round_)
    assert f"0 polled, {3 * round_} queued" in alarm["title"]


async def test_a_difference_names_the_channel_and_the_store(site: Site) -> None:
    client = site.functions.client
    await execute(client, "HSET", "hissrv:queue:size", "stores", "embedded server")
    await execute(client, "HINCRBY", "hissrv:ledger:server", "written", "2")
    for key in ("voltage:ledger", "comsrv:1001:ledger"):
        await execute(client, "HINCRBY", key, "polled", "5")
    for _ in range(3):
        await site.pass_ms(10_000)
    (alarm,) = await site.system_alarms()
    assert alarm["title"].endswith(": 5 polled, 0 queued; channel 1001 by 5, store server by -2")


# ---------------------------------------------------------------- what services report

NETWORK = "system:network:cloud"


async def report(site: Site, *wrong: dict[str, Any], passed: int = 5_000, **more: Any) -> None:
    site.now += passed
    document = {"reporter": "netsrv", "wrong": list(wrong), "now_ms": site.now, **more}
    await site.functions.call("alarm_system", None, document)


async def reported(site: Site) -> None:
    for _ in range(7):
        await report(site, {"alarm": "network", "id": "cloud", "detail": "refused"})


async def test_a_network_that_stays_away_is_an_alarm_until_its_reporter_says_otherwise(site: Site) -> None:
    await reported(site)
    assert await seen(site) == {NETWORK: (NETWORK, "New")}
    await report(site)
    assert await seen(site) == {NETWORK: (NETWORK, "Returned")}


async def test_a_reporter_that_died_leaves_its_alarm_uncertain_and_in_the_end_over(site: Site) -> None:
    await reported(site)
    await site.pass_ms(29_999)
    assert "uncertain" not in (await site.system_alarms())[0]
    await site.pass_ms(1)
    assert (await site.system_alarms())[0]["uncertain"] is True
    await report(site, {"alarm": "network", "id": "cloud"})
    assert not (await site.system_alarms())[0].get("uncertain")
    await site.pass_ms(30_000)
    await site.pass_ms(600_000)
    assert await seen(site) == {NETWORK: (NETWORK, "Returned")}


async def test_what_happened_is_an_alarm_that_waits_to_be_seen(site: Site) -> None:
    await report(site, happened=[{"alarm": "functions"}])
    assert await seen(site) == {"system:functions": ("system:functions", "Returned")}


async def test_a_site_switches_an_alarm_off_or_gives_it_another_level_and_delay(site: Site) -> None:
    await site.functions.call("alarm_system_configure", None, {"network": {"level": "Warning", "on_delay_ms": 0}})
    await report(site, {"alarm": "network", "id": "cloud"})
    (alarm,) = await site.system_alarms()
    assert (alarm["level"], alarm["status"]) == ("Warning", "New")
    await site.functions.call("alarm_system_configure", None, {"network": {"enabled": False}})
    await report(site, {"alarm": "network", "id": "cloud"})
    assert [one["status"] for one in await site.system_alarms()] == ["Resolved"]
    await report(site, {"alarm": "network", "id": "cloud"})
    assert len(await site.system_alarms()) == 1


async def test_an_off_delay_keeps_what_flutters_one_alarm(site: Site) -> None:
    settings = {"network": {"on_delay_ms": 0, "off_delay_ms": 20_000}}
    await site.functions.call("alarm_system_configure", None, settings)
    for _ in range(3):
        await report(site, {"alarm": "network", "id": "cloud"})
        await report(site)
    assert [(one["status"], one["count"]) for one in await site.system_alarms()] == [("New", 1)]
    await site.pass_ms(20_000)
    assert await seen(site) == {NETWORK: (NETWORK, "Returned")}


@pytest.mark.parametrize(
    ("name", "document", "said"),
    [
        ("alarm_system", {"reporter": "x", "wrong": [{"alarm": "channel", "id": "1001"}]}, r"wrong\[0\].alarm"),
        ("alarm_system", {"reporter": "x", "wrong": [{"alarm": "store", "text": "x"}]}, "text is unknown"),
        ("alarm_system", {"wrong": []}, "reporter"),
        ("alarm_system_configure", {"colour": {}}, "alarm must be one of"),
        ("alarm_system_configure", {"store": {"levle": "Major"}}, "store.levle is unknown"),
        ("alarm_system_configure", {"store": {"level": "Bad"}}, "store.level"),
        ("alarm_system_configure", {"store": {"on_delay_ms": -1}}, "store.on_delay_ms"),
    ],
)
async def test_a_wrong_report_or_setting_is_refused_by_name(
    site: Site, name: str, document: dict[str, Any], said: str
) -> None:
    with pytest.raises(VoltageError, match=said) as error:
        await site.functions.call(name, None, document)
    assert isinstance(error.value, InvalidError)
    assert await site.hash("voltage:system:settings") == {}
