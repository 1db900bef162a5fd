"""`voltage doctor` on whole sites: nothing to say of a good one; the rows of the troubleshooting table of a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.processes import Site

RULE = """
rules:
  - id: lost
    name: Watches a channel that does not exist
    conditions: [{source: "comsrv:9999:T:1", operator: ">", value: 1}]
    actions: [{type: publish, params: {topic: lost, message: never}}]
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
        "clock", "ports", "devices", "rules", "history", "networks", "ledger",
    }  # fmt: skip
    assert "0 errors" in site.voltage("doctor", "--all").stdout


def test_it_recognises_the_rows_of_the_troubleshooting_table(tmp_path: Path):
    site = Site(tmp_path)
    (site.config / "rules" / "lost.yaml").write_text(RULE)
    try:
        site.start("--without", "simulator")
        code, found = doctor(site)
    finally:
        site.stop()
    assert code == 1
    details = [finding["detail"] for finding in found if finding["state"] == "error"]
    assert any("channel 1001" in text and "no new data in Redis" in text for text in details)
    assert any("rule lost" in text and "comsrv:9999:T:1" in text for text in details)
    assert all(finding["remedy"] for finding in found if finding["state"] != "ok")
