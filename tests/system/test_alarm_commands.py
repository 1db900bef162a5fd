"""What an operator does to alarms, at the command line of a running site."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.processes import Api, Site

HOT = {
    "source": "comsrv:1001:T:1",
    "detector": "Hi",
    "limit": -1e6,
    "level": "Major",
    "group": "wtcli",
    "message": "Hot",
}


@pytest.fixture
async def alarm(api: Api, site: Site) -> AsyncIterator[str]:
    """Give an open alarm of the definition `op_hot`, which is evaluated as it comes."""
    created = await api("POST", "/api/alarm-definitions", {"id": "op_hot", "max_shelve_ms": 5_400_000, **HOT})
    assert created.status == 201, created.body
    (found,) = [one["id"] for one in _open(site) if one.get("definition") == "op_hot"]
    yield found
    site.voltage("alarms", "unsuppress", "group:wtcli")
    site.voltage("alarms", "in-service", "comsrv:1001")
    await api("DELETE", "/api/alarm-definitions/op_hot")
    site.voltage("alarms", "acknowledge", found)
    assert found not in [one["id"] for one in _open(site)]


def _open(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.voltage("alarms", "--json").stdout.splitlines()]


async def test_an_alarm_is_acknowledged_and_shelved_and_what_is_not_open_is_told_what_is(site: Site, alarm: str):
    done = site.voltage("alarms", "acknowledge", alarm, "nope", "--comment", "on my way", "--user", "anna")
    assert done.returncode == 1
    assert done.stdout == f"{alarm} Hot: Acknowledged\n"
    assert done.stderr.startswith("voltage: not found: alarm nope; open are ")
    assert f"{alarm} (Hot)" in done.stderr
    by_definition = site.voltage("alarms", "acknowledge", "op_hot").stderr
    assert by_definition == f"voltage: not found: alarm op_hot; the open alarm of definition op_hot is {alarm}\n"
    refused = site.voltage("alarms", "resolve", alarm)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"voltage: alarm {alarm} can't be resolved: its condition stands\n",
    )
    longer = site.voltage("alarms", "shelve", alarm, "--for", "2h")
    assert longer.stderr == f"voltage: {alarm} may be shelved for at most 90 min (max_shelve_ms)\n"
    shelved = json.loads(site.voltage("alarms", "shelve", alarm, "--for", "30m", "--user", "anna", "--json").stdout)
    assert shelved["acknowledged_by"] == shelved["shelved"]["by"] == "anna"
    assert 1_700_000 < shelved["shelved"]["until_ms"] - shelved["updated_at_ms"] <= 1_800_000
    assert "shelved │ alarm:op_hot │ anna" in _row(site.voltage("alarms", "marks").stdout, "alarm:op_hot")
    assert "Acknowledged, shelved" in _row(site.voltage("alarms").stdout, alarm)
    once = site.voltage("alarms", "shelve", "alarm:op_hot", "--once").stdout
    assert "until its condition ends, at most" in once
    assert site.voltage("alarms", "unshelve", alarm).stdout == f"{alarm} Hot: Acknowledged\n"


def test_a_shelving_needs_a_time_that_can_be_meant(site: Site):
    for options, said in (((), "--for 30m, or --once"), (("--for", "30"), "30 of what?"), (("--for", "2d"), "24h")):
        refused = site.voltage("alarms", "shelve", "door", *options)
        assert refused.returncode == 2
        assert said in refused.stderr


async def test_a_group_is_suppressed_and_a_channel_taken_out_of_service_and_back(site: Site, alarm: str):
    said = site.voltage("alarms", "suppress", "group:wtcli", "--user", "ben", "--comment", "works")
    assert said.stdout == "group:wtcli: suppressed by ben\n", said.stderr
    assert site.voltage("alarms", "out-of-service", "comsrv:1001", "--user", "ben").returncode == 0
    marks = [json.loads(line) for line in site.voltage("alarms", "marks", "--json").stdout.splitlines()]
    assert {(one["kind"], one["name"], one["by"]) for one in marks} >= {
        ("suppressed", "group:wtcli", "ben"), ("out_of_service", "comsrv:1001", "ben"),
    }  # fmt: skip
    (mine,) = [one for one in _open(site) if one["id"] == alarm]
    assert (mine["suppressed"]["by"], mine["suppressed"]["name"]) == ("ben", "group:wtcli")
    assert (mine["out_of_service"]["by"], mine["out_of_service"]["name"]) == ("ben", "comsrv:1001")
    again = site.voltage("alarms", "acknowledge", alarm).stdout
    assert again.endswith("Acknowledged, suppressed by ben (group:wtcli), out of service by ben (comsrv:1001)\n")
    held = site.voltage("alarms", "unsuppress", alarm)
    assert held.returncode == 1
    assert held.stderr.startswith(f"voltage: alarm {alarm} can't be unsuppressed: ")
    assert "group:wtcli" in held.stderr
    assert site.voltage("alarms", "unsuppress", "group:wtcli").stdout.endswith("not suppressed, in service\n")
    assert site.voltage("alarms", "in-service", "comsrv:1001").returncode == 0
    assert site.voltage("alarms", "marks").stdout == "nothing is shelved, suppressed or out of service\n"


async def test_the_journal_is_read_by_people_and_no_column_is_squeezed_out(site: Site, alarm: str):
    table = site.voltage("alarms", "journal", "--alarm", alarm).stdout
    assert "│ raised │ Major │ Hot │" in _row(table, alarm)
    assert ".000000" not in table
    narrow = dict(site.environ)
    try:
        site.environ |= {"COLUMNS": "100", "FORCE_COLOR": "1", "TERM": "dumb"}
        shown = site.voltage("alarms", "journal", "--alarm", alarm).stdout
    finally:
        site.environ = narrow
    assert all(title in shown for title in ("time", "title", "value", "by"))
    refused = site.voltage("alarms", "journal", "--event", "bogus")
    assert refused.returncode == 1
    assert "bogus" in refused.stderr
    assert all(event in refused.stderr for event in ("raised", "escalated", "in_service", "redefined"))


async def test_the_definitions_are_listed_with_what_they_lack(site: Site, api: Api):
    missing = {"id": "op_missing", **HOT, "source": "comsrv:999:T:1"}
    assert (await api("POST", "/api/alarm-definitions", missing)).status == 201
    table = site.voltage("alarms", "definitions").stdout
    assert (await api("DELETE", "/api/alarm-definitions/op_missing")).status in {200, 204}
    assert "Hi │ -1000000 │ Major │ yes │ 1 │ source comsrv:999:T:1 is no point yet" in _row(table, "op_missing")
    assert "battery_soc_low" in table


def test_help_names_first_what_operators_do(site: Site):
    text = site.voltage("alarms", "--help").stdout
    places = [text.index(f"\n  {name} ") for name in ("acknowledge", "shelve", "marks", "journal", "routes", "compare")]
    assert places == sorted(places)


def test_a_function_that_is_none_is_not_a_library_that_is_not_loaded(site: Site):
    wrong = site.voltage("functions", "call", "alarm_shelf")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("voltage: there is no function alarm_shelf; near are alarm_shelve")


def _row(table: str, word: str) -> str:
    """Return the first line of a table that has a word, with single spaces."""
    return " ".join(next((line for line in table.splitlines() if word in line), table).split())
