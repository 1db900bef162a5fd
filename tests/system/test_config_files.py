"""`voltage config plan|apply|rollback` on a running site: only what differs from the files is touched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.processes import Api, Site
from tests.support.wait import wait_until

Maker = Callable[..., Site]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))


def lines(site: Site, *arguments: str) -> list[dict[str, Any]]:
    done = site.voltage("config", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


async def test_plan_apply_and_roll_back(own_site: Maker):
    site = own_site()
    assert site.voltage("config", "plan").stdout.strip() == "The files say what runs."
    telemetry = site.config / "channels" / "1001" / "telemetry.csv"
    edit(
        telemetry, "1,Active power,float32,1,0,,kW,import positive", "1,Active power,float32,1,1000,,kW,import positive"
    )
    rule = site.config / "rules" / "extra.yaml"
    rule.write_text(
        "rules:\n  - id: extra\n    name: Extra\n"
        '    conditions: [{source: "comsrv:1001:T:1", operator: ">", value: 5000}]\n'
        "    actions: [{type: publish, params: {topic: extra}}]\n"
    )
    planned = lines(site, "plan")
    assert [(one["service"], one["kind"], one["id"], one["action"]) for one in planned] == [
        ("comsrv", "channel", 1001, "change"),
        ("rulesrv", "rule", "extra", "create"),
    ]
    assert planned[0]["changes"] == [{"path": "points.T.1.offset", "old": None, "new": 1000.0}]

    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())
        before = (await api("GET", "/api/channels/1001/diagnostics")).body["link"]["connections"]
        applied = site.voltage("--user", "anna", "config", "apply", "--reason", "a test")
        assert applied.returncode == 0, applied.stderr
        assert "kept as version 2" in applied.stdout

        async def shifted() -> bool:
            return (await api("GET", "/api/channels/1001/points/T/1")).body["value"] > 500

        await wait_until(shifted, "the new offset counts")
        assert (await api("GET", "/api/channels/1001/diagnostics")).body["link"]["connections"] == before, (
            "no reconnect"
        )
        assert (await api("GET", "/api/rules/extra")).body["author"] == "file:anna"

        back = site.voltage("config", "rollback")
        assert back.returncode == 0, back.stderr
        assert not rule.exists()

        async def as_before() -> bool:
            return (await api("GET", "/api/channels/1001/points/T/1")).body["value"] < 500

        await wait_until(as_before, "the old offset counts")
        assert (await api("GET", "/api/rules/extra")).status == 404
    assert [version["number"] for version in lines(site, "versions")] == [3, 2, 1]
    assert lines(site, "plan") == []


ALARM = '  - {{id: {0}, source: "comsrv:1001:T:1", set: {0}, detector: Hi, limit: {1}, level: Minor{2}}}\n'


def alarms(site: Site, name: str, *entries: str) -> Path:
    """Write a file of alarm definitions."""
    file = site.config / "alarms" / f"{name}.yaml"
    file.write_text("definitions:\n" + "".join(entries))
    return file


async def test_files_with_problems_are_refused_whole(own_site: Maker):
    """What is wrong in itself and what the functions would refuse; a start that is refused ends with the reason."""
    site = own_site("--single-process", "--without", "simulator")
    edit(site.config / "channels" / "1001" / "telemetry.csv", "1,Active power,float32", "1,Active power,flota32")
    (site.config / "rules" / "bad.yaml").write_text("rules:\n  - id: bad\n    nmae: Bad\n")
    (site.config / "rules" / "good.yaml").write_text(
        'rules:\n  - {id: good, name: Good, conditions: [{source: "comsrv:1001:T:1", operator: ">", value: 1}], '
        "actions: [{type: publish, params: {topic: good}}]}\n"
    )
    done = site.voltage("config", "apply")
    assert done.returncode != 0
    assert "telemetry.csv:2" in done.stderr
    assert "nmae" in done.stderr
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())
        assert (await api("GET", "/api/rules/good")).status == 404
        answer = await api("POST", "/api/config/plan", {})
        assert answer.status == 422
        text = " ".join(f"{one['field']}: {one['message']}" for one in answer.body["errors"])
        assert "telemetry.csv:2" in text
        assert "bad.yaml" in text
        assert "nmae" in text
        edit(site.config / "channels" / "1001" / "telemetry.csv", "1,Active power,flota32", "1,Active power,float32")
        (site.config / "rules" / "bad.yaml").unlink()
        await refused_by_the_functions(site, api)
        problem = await half_applied(site, api)

    site.stop()
    started = site.voltage("up", "--single-process", "--without", "simulator", timeout_s=60)
    assert started.returncode == 78
    last = started.stderr.strip().splitlines()
    assert last == ["voltage: services refuses to start:", problem]
    assert (site.data / "up-ended").read_text() == "\n".join(last).removeprefix("voltage: ")


async def refused_by_the_functions(site: Site, api: Api) -> None:
    """Each thing that they would refuse is named by the plan, and nothing is made."""
    alarms(site, "one", ALARM.format("file_one", 9000, ""))
    two = alarms(site, "two", ALARM.format("file_two", 9000, ', message: "Load {nope}"'))
    said = f"{two}:2: alarm definition file_two: message: {{nope}} is unknown"
    planned = await api("POST", "/api/config/plan", {})
    assert planned.status == 422
    assert f"{planned.body['errors'][0]['field']}: {planned.body['errors'][0]['message']}".startswith(said)
    refused = site.voltage("config", "apply")
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "nothing is applied" in refused.stderr
    assert (await api("GET", "/api/alarm-definitions/file_one")).status == 404

    # A limit that somebody set over the API counts, too.
    low = {"id": "low", "source": "comsrv:1001:T:1", "detector": "Lo", "limit": 5, "level": "Minor"}
    assert (await api("POST", "/api/alarm-definitions", low | {"set": "file_two"})).status == 201
    alarms(site, "two", ALARM.format("file_two", 4, ""))
    (error,) = (await api("POST", "/api/config/plan", {})).body["errors"]
    assert "below the limit 5 of Lo in alarm definition low" in error["message"]

    alarms(site, "two", ALARM.format("file_two", 9000, ", requires_approval: true"))
    assert (await api("POST", "/api/config/apply", {})).status == 200

    # A definition that left the files is in the way of another until it is gone, and that is in order.
    above = ALARM.format("above", 9500, "").replace("set: above, detector: Hi", "set: file_one, detector: Lo")
    alarms(site, "one", above)
    assert (await api("POST", "/api/config/apply", {})).status == 200

    # A version that would be refused now is not brought back.
    high = low | {"id": "high", "set": "file_one", "limit": 9600}
    assert (await api("POST", "/api/alarm-definitions", high)).status == 201
    refused_back = await api("POST", "/api/config/rollback", {})
    assert refused_back.status == 422
    assert "below the limit 9600 of Lo in alarm definition high" in refused_back.body["errors"][0]["message"]
    assert (site.config / "alarms" / "one.yaml").read_text().endswith(above)


async def half_applied(site: Site, api: Api) -> str:
    """What no trial shows (as many proposals wait as may) is told with what was applied and what was not."""
    for _ in range(10):
        proposed = await api("POST", "/api/alarm-definitions/file_two/proposals", {"delete": True})
        assert proposed.status == 201
    edit(site.config / "alarms" / "one.yaml", "9500", "9501")
    two = alarms(site, "two", ALARM.format("file_two", 9001, ", requires_approval: true"))
    done = site.voltage("config", "apply")
    assert done.returncode == 1
    problem = f"{two}:2: alarm definition file_two: 10 proposals wait for alarm definition file_two"
    assert f"{problem}; applied: alarm definition above; not applied: alarm definition file_two" in done.stderr
    assert (await api("GET", "/api/alarm-definitions/above")).body["limit"] == 9501
    return problem


async def test_a_kill_while_files_are_applied_leaves_the_new_ones(own_site: Maker):
    """Never a mixture: what the kill interrupted, at the first change that shows, is finished by the next start."""
    site = own_site()
    for channel in (1001, 1002):
        table = site.config / "channels" / str(channel) / "telemetry.csv"
        name = table.read_text().splitlines()[1].split(",")[1]
        edit(table, f"\n1,{name},", f"\n1,{name} changed,")
    victims = [site.pid(name) for name in ("comsrv", "gateway")]
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())

        async def name_of(channel: int) -> str:
            return str((await api("GET", f"/api/channels/{channel}/points/T/1")).body["name"])

        command = (sys.executable, "-m", "services.cli", "config", "apply")
        quiet = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
        applying = await asyncio.create_subprocess_exec(*command, env=site.environ, cwd=site.folder, **quiet)
        while not (await name_of(1001)).endswith("changed"):
            assert applying.returncode is None
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        await applying.wait()

        async def settled() -> bool:
            return site.voltage("config", "plan").stdout.strip() == "The files say what runs."

        await wait_until(settled, "the new files run", 60)
        assert [(await name_of(channel)).endswith("changed") for channel in (1001, 1002)] == [True, True]
