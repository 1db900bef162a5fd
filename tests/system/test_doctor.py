"""`voltage doctor` on whole sites: nothing to say of a good one; the rows of the troubleshooting table of a bad one."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import Site
from tests.support.wait import wait_until

RULE = """
rules:
  - id: lost
    name: Watches a channel that does not exist
    conditions: [{source: "comsrv:9999:T:1", operator: ">", value: 1}]
    actions: [{type: publish, params: {topic: lost, message: never}}]
  - id: idle
    name: Commands a channel that does not exist
    conditions: [{source: "comsrv:1001:T:1", operator: ">", value: 1e9}]
    actions: [{type: command, params: {channel: 9998, type: C, point: 1, value: 1}}]
"""
ALARMS = """
definitions:
  - {id: lost, source: "comsrv:9999:T:1", detector: Hi, limit: 1, level: Minor, message: Never}
"""

# Nobody listens on port 1.
NETWORKS = """
networks:
  - {id: cloud, type: mqtt, host: 127.0.0.1, port: 1}
"""


def doctor(site: Site) -> tuple[int, list[dict[str, Any]]]:
    done = site.voltage("doctor", "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_good_site_has_no_errors(site: Site):
    code, found = doctor(site)
    assert [finding for finding in found if finding["state"] == "error"] == []
    assert code == 0
    checks = {finding["check"] for finding in found}
    assert checks == {
        "configuration", "disk", "secrets", "redis", "redis_settings", "memory", "persistence", "functions", "schema",
        "clock", "ports", "devices", "rules", "alarms", "history", "networks", "ledger",
    }  # fmt: skip
    assert "0 errors" in site.voltage("doctor", "--all").stdout


def test_it_recognises_the_rows_of_the_troubleshooting_table(tmp_path: Path):
    site = Site(tmp_path)
    (site.config / "rules" / "lost.yaml").write_text(RULE)
    (site.config / "alarms" / "lost.yaml").write_text(ALARMS)
    (site.config / "netsrv.yaml").write_text(NETWORKS)
    try:
        site.start("--without", "simulator")
        code, found = doctor(site)
        networks = [json.loads(line) for line in site.voltage("networks", "--json").stdout.splitlines()]
        letters = site.voltage("networks", "cloud", "--dead-letters").stdout
        retried = site.voltage("networks", "cloud", "--retry").stdout
    finally:
        site.stop()
    assert code == 1
    (away,) = [one for one in found if one["check"] == "networks"]
    assert away["state"] == "warning"
    assert "network cloud is away: MQTT: " in away["detail"]
    assert [(one["id"], one["state"]) for one in networks] == [("cloud", "away")]
    assert (letters, retried) == (
        "network cloud has no dead letters\n", "0 dead letters of cloud are queued again\n",
    )  # fmt: skip
    details = [finding["detail"] for finding in found if finding["state"] == "error"]
    assert any("channel 1001" in text and "no new data in Redis" in text for text in details)
    assert any("rule lost" in text and "comsrv:9999:T:1" in text for text in details)
    warned = [finding["detail"] for finding in found if finding["state"] == "warning"]
    assert any("rule idle can't act" in text and "there is no channel 9998" in text for text in warned)
    assert any("alarm definition lost: source comsrv:9999:T:1 is no point yet" in text for text in warned)
    assert all(finding["remedy"] for finding in found if finding["state"] != "ok")


async def test_a_store_that_is_away_is_the_row_of_missing_history(tmp_path: Path):
    site = Site(tmp_path, VOLTAGE_INFLUXDB_URL="http://127.0.0.1:1")
    up = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "up", env=site.environ, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:

        async def history() -> list[dict[str, Any]]:
            # At first hissrv itself does not answer yet.
            found = doctor(site)[1]
            return [one for one in found if one["check"] == "history" and "InfluxDB http" in one["detail"]]

        (finding,) = await wait_until(history, "doctor finds the store", timeout_s=40)
    finally:
        up.send_signal(signal.SIGINT)
        await up.wait()
    assert finding["state"] == "error"
    assert "VOLTAGE_INFLUXDB_URL" in finding["remedy"]
