"""`voltage doctor` where little or nothing runs: each finding names what is wrong and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libs.config.settings import Shared
from libs.redis import bundle, keys
from libs.redis.resp import Connection
from libs.site import Site
from services.cli import voltage
from services.commands import doctor as doctor_command
from services.commands import doctor_redis, doctor_site
from services.commands.findings import Finding, level, run_check
from tests.support.processes import free_port_base
from tests.support.servers import RedisServer
from tests.unit.commands.listeners import Listener


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("VOLTAGE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("VOLTAGE_PORT_BASE", str(free_port_base()))
    return tmp_path


def doctor() -> tuple[int, list[dict[str, Any]]]:
    answer = CliRunner().invoke(voltage, ["doctor", "--json"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.output
    return answer.exit_code, [json.loads(line) for line in answer.output.splitlines()]


def test_a_site_that_does_not_run_is_told_so_with_the_command_to_start_it(environ: Path):
    code, found = doctor()
    assert code == 1
    errors = {finding["check"]: finding for finding in found if finding["state"] == "error"}
    assert set(errors) == {"redis", "ports"}
    assert "voltage up" in errors["ports"]["remedy"]
    assert all(finding["remedy"] for finding in errors.values())


def test_why_a_start_was_refused_is_repeated(environ: Path):
    (environ / "up-ended").write_text("alarmsrv refuses to start:\na.yaml:2: alarm definition hot: limit")
    _, found = doctor()
    (start,) = [finding for finding in found if finding["check"] == "start"]
    assert start["state"] == "error"
    assert "a.yaml:2: alarm definition hot: limit" in start["detail"]
    assert "voltage up" in start["remedy"]


def test_a_port_in_use_by_another_program_is_recognised(environ: Path):
    with Listener(int(os.environ["VOLTAGE_PORT_BASE"])):
        _, found = doctor()
    (finding,) = [one for one in found if "already in use" in one["detail"]]
    assert "comsrv" in finding["detail"]
    assert "VOLTAGE_PORT_BASE" in finding["remedy"]


def test_wrong_configuration_is_named_with_file_and_line(environ: Path, monkeypatch: pytest.MonkeyPatch):
    (environ / "config" / "hissrv.yaml").write_text("stroe: {}\n")
    _, found = doctor()
    assert any("hissrv.yaml:1" in one["detail"] for one in found if one["check"] == "configuration")
    monkeypatch.setenv("VOLTAGE_REDSI_URL", "redis://x")
    code, found = doctor()
    assert code == 1
    assert "VOLTAGE_REDIS_URL" in found[0]["detail"]


def test_keys_that_others_can_read_are_an_error(environ: Path):
    (environ / "token.key").write_text("x" * 40)
    (environ / "token.key").chmod(0o644)
    _, found = doctor()
    assert any("chmod 600" in one["remedy"] for one in found if one["check"] == "secrets")


@pytest.fixture
def site(redis_server: RedisServer, tmp_path: Path) -> Site:
    return Site(Shared.model_validate({"redis": {"url": redis_server.url}, "data_dir": tmp_path}))


def one(check: Any, site: Site) -> Finding:
    found = run_check(check, site)
    assert len(found) == 1, found
    return found[0]


def test_functions_that_are_not_loaded_are_the_first_row_of_the_table(site: Site):
    with Connection(site.redis_url()) as connection:
        connection.call("FUNCTION", "FLUSH")
        missing = one(doctor_redis.check_functions, site)
        assert missing.state == "error"
        assert "not loaded" in missing.detail
        assert "./scripts/redis-functions/load_functions.sh" in missing.remedy
        other = bundle.bundle().text.replace(bundle.bundle().digest, "0123456789abcdef")
        connection.call("FUNCTION", "LOAD", "REPLACE", other)
        assert one(doctor_redis.check_functions, site).state == "warning"
        connection.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
        assert one(doctor_redis.check_functions, site).state == "ok"


def test_a_foreign_redis_is_checked_for_what_the_image_counts_on(site: Site):
    with Connection(site.redis_url()) as connection:
        kept = connection.call("CONFIG", "GET", "maxmemory-policy")[1]
        connection.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        found = run_check(doctor_redis.check_redis_settings, site)
        connection.call("CONFIG", "SET", "maxmemory-policy", kept)
    assert any("allkeys-lru" in finding.detail and "noeviction" in finding.detail for finding in found)


def test_schema_and_clock_are_compared(site: Site):
    with Connection(site.redis_url()) as connection:
        connection.call("DEL", "voltage:clock")  # Another test's may be a simulation's.
        connection.call("SET", "voltage:schema", "99")
        assert one(doctor_redis.check_schema, site).state == "error"
        connection.call("SET", "voltage:schema", str(keys.SCHEMA))
        assert one(doctor_redis.check_schema, site).state == "ok"
        assert one(doctor_redis.check_clock, site).state == "ok"
        connection.call("HSET", "voltage:clock", "last", "9999999999999")
        assert one(doctor_redis.check_clock, site).state == "warning"


def test_a_channel_that_was_stopped_is_no_matter_of_cables():
    found = doctor_site.silent({"id": 1005, "state": "stopped"}, "channel 1005 (Load)")
    assert (found.state, found.remedy) == ("warning", "start it: POST /api/channels/1005/start")
    down = doctor_site.silent({"id": 1005, "state": "down", "last_error": "no answer in 1 s"}, "channel 1005 (Load)")
    assert down.state == "error"
    assert "no answer in 1 s" in down.detail
    assert "cable" in down.remedy


def test_a_point_without_a_value_yet_is_no_missing_source():
    def found(result: bool | None, **condition: Any) -> tuple[str, str] | None:
        condition = {"path": "conditions[0]", "source": "comsrv:1:T:1", "result": None, **condition}
        finding = doctor_site.undecided({"rule": "hot", "result": result, "conditions": [condition]})
        return finding and (finding.state, finding.detail)

    assert found(None, quality="missing", missing="it has no value yet") == (
        "warning", "rule hot waits for good inputs: comsrv:1:T:1 (it has no value yet)",
    )  # fmt: skip
    gone = ("error", "rule hot: no such data source: comsrv:1:T:1 (there is no channel 1)")
    for result in (None, True):
        assert found(result, quality="missing", missing="there is no channel 1", exists=False) == gone
    assert found(True, quality="bad:stale", missing="it is bad:stale") is None


def test_an_action_that_would_be_refused_is_named_before_it_fires():
    rules = [
        {
            "id": "idle",
            "warnings": ["conditions[0].source comsrv:9:T:1: x", "actions[0] rule:gone: there is no rule gone"],
        },
        {"id": "blind", "warnings": ["conditions[0].source comsrv:9:T:1: x"]},
        {"id": "well"},
    ]
    found = [finding.detail for finding in doctor_site.unfounded(rules)]
    assert found == ["rule idle can't act: actions[0] rule:gone: there is no rule gone"]


def test_of_many_alarm_definitions_without_a_point_the_first_are_named():
    lost = [{"id": f"a{number}", "warnings": ["source comsrv:9:T:1 is no point yet"]} for number in range(12)]
    off = {"id": "off", "warnings": ["source comsrv:9:T:2 is no point yet"], "enabled": False}
    found = [finding.detail for finding in doctor_site.unwatched([off, *lost])]
    assert found[0] == "alarm definition a0: source comsrv:9:T:1 is no point yet"
    assert len(found) == 11
    assert found[-1].startswith("2 more alarm definitions")


def test_who_is_not_told_is_named():
    well = {"target": "email:a@b.c", "last_error": None, "waiting": 0}
    away = {"target": "webhook:pager", "last_error": "HTTP 503", "waiting": 3}
    assert list(doctor_site.untold({"targets": [well], "dead_letters": 0})) == []
    found = [finding.detail for finding in doctor_site.untold({"targets": [well, away], "dead_letters": 2})]
    assert found == [
        "webhook:pager is not told: HTTP 503; messages that wait: 3",
        "messages to people that were given up: 2",
    ]


def test_what_mappings_leave_out_is_not_lost():
    def found(**dropped: int) -> list[tuple[str, str]]:
        history = {"difference": 0, "dropped": dropped}
        ledger = {"balanced": True, "samples": {"polled": 9, "difference": 0}, "history": history}
        return [(finding.state, finding.detail) for finding in doctor_site.accounted(ledger)]

    assert found(mapping=4) == [("ok", "9 samples, all accounted for; 4 are left out by mappings")]
    assert found(mapping=4, queue_full=2) == [("warning", "history lost 2 samples: 2 queue_full")]


def test_what_to_do_is_never_cut(capsys: pytest.CaptureFixture[str]):
    path = "/api/channels/1001/diagnostics/" + "x" * 80
    doctor_command.show([Finding("devices", "error", path, path)], everything=False)
    cells = "".join(line.split("│")[4].strip() for line in capsys.readouterr().out.splitlines() if "│" in line)
    assert path in cells


def test_a_disk_is_measured_and_levels_are_ordered(site: Site):
    assert one(doctor_site.check_disk, site).check == "disk"
    assert [level(percent, 90, 95) for percent in (10, 90, 95)] == ["ok", "warning", "error"]
