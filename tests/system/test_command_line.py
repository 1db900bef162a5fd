"""`voltage` against a running site: what a person types and reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.errors import UnavailableError
from libs.services import REDIS_OFFSET
from tests.support.processes import NAMES, Site


def test_a_second_voltage_up_is_refused_and_told_who_runs(site: Site):
    assert site.process is not None
    second = site.voltage("up")
    assert second.returncode == 1
    assert f"process {site.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_everything_listens_on_loopback_only(site: Site):
    assert site.process is not None
    pids = site.children()
    assert set(pids) == {*NAMES, "simulator", "redis"}
    seen = 0
    for pid in pids.values():
        for address in _listening(pid):
            assert address.startswith("0100007F"), f"process {pid} listens on {address}"
            seen += 1
    assert seen >= len(NAMES) + 1


def _listening(pid: int) -> list[str]:
    """Return the local addresses, in the kernel's hexadecimal form, that a process listens on."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.append(fields[1])
    return found


def test_the_last_lines_are_what_a_script_takes(site: Site):
    assert site.redis_url().endswith(f"@127.0.0.1:{site.port_base + REDIS_OFFSET}")
    assert site.token("viewer").count(".") == 2


def test_redis_replies_read_as_in_redis_cli(site: Site):
    values = site.voltage("redis", "hgetall", "comsrv:1001:T").stdout.splitlines()
    assert values
    for line in values:
        point, value = line.split()
        assert point.isdigit()
        assert len(value.rpartition(".")[2]) == 6
    wrong = site.voltage("redis", "hgetall", "voltage:schema")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("(error) WRONGTYPE")


def test_the_loaded_functions_are_this_programs(site: Site):
    assert site.voltage("functions", "check").returncode == 0
    names = {item["name"] for item in json.loads(site.voltage("functions", "list", "--json").stdout)}
    assert {"comsrv_ingest", "rule_evaluate", "voltage_version", "model_get", "store_alarm"} <= names
    model = json.loads(site.voltage("functions", "call", "model_get", "-k", "pv1").stdout)
    assert model["id"] == "pv1"


@pytest.mark.parametrize("command", [["channels"], ["channels", "1001"], ["models"], ["rules"], ["alarms"]])
def test_reading_commands_print_a_table_and_json_lines(site: Site, command: list[str]):
    table = site.voltage(*command)
    assert table.returncode == 0, table.stderr
    lines = site.voltage(*command, "--json")
    assert lines.returncode == 0, lines.stderr
    for line in lines.stdout.splitlines():
        assert isinstance(json.loads(line), dict)
    if command != ["alarms"]:
        assert lines.stdout


def test_what_channels_do_is_shown_once_into_a_pipe(site: Site):
    found = site.voltage("channels", "--watch")
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in ("Grid meter", "running", "requests/s", "quarantine"))
    found = site.voltage("channels", "1001", "--watch")
    assert all(name in found.stdout for name in ("round trip ms", "every ms", "register ms"))
    plan = site.voltage("points", "plan", "1001")
    assert plan.returncode == 0, plan.stderr
    assert "1-holding-" in plan.stdout
    assert "fits" in plan.stdout


def test_a_channels_points_come_with_value_and_age_and_as_many_as_asked_for(site: Site):
    lines = [json.loads(line) for line in site.voltage("channels", "1001", "--json").stdout.splitlines()]
    assert {"T", "S"} <= {line["type"] for line in lines}
    assert all(line["quality"] == "good" and line["seen_at_ms"] for line in lines if line["type"] == "T")
    assert len(site.voltage("channels", "1001", "--json", "--limit", "5").stdout.splitlines()) == 5


def test_logs_show_the_end_of_a_services_log(site: Site):
    assert site.voltage("logs", "redis").stdout
    assert "there are" in site.voltage("logs", "nothing").stderr


def test_configuration_is_shown_with_its_source(site: Site):
    shown = json.loads(site.voltage("config", "show", "comsrv", "--json").stdout)
    sources = {row["setting"]: row["source"] for row in shown}
    assert sources["port_base"] == "VOLTAGE_PORT_BASE"
    assert sources["host"] == "default"
    assert site.voltage("config", "check").returncode == 0


def test_what_does_not_exist_is_said_not_to(site: Site):
    for command in (["networks", "cloud"], ["models", "pv9"], ["channels", "7"]):
        answer = site.voltage(*command)
        assert answer.returncode == 1
        assert answer.stderr.startswith(f"voltage: not found: {command[0][:-1]} {command[1]}")


def test_errors_are_one_line_and_no_traceback(site: Site, tmp_path: Path):
    site_without = Site(tmp_path)
    for command in (["redis", "ping"], ["channels"], ["functions", "check"]):
        away = site_without.voltage(*command)
        assert away.returncode == 69
        assert len(away.stderr.strip().splitlines()) == 1
    site_without.environ["VOLTAGE_PROT_BASE"] = "7000"
    wrong = site_without.voltage("up")
    assert wrong.returncode == 78
    assert "VOLTAGE_PROT_BASE" in wrong.stderr
    assert "VOLTAGE_PORT_BASE" in wrong.stderr


def test_a_site_with_bad_files_names_every_problem_and_starts_nothing(tmp_path: Path):
    bad = Site(tmp_path)
    with (bad.config / "comsrv.yaml").open("a") as file:
        file.write("bogus: 1\n")
    (bad.config / "rules" / "more.yaml").write_text("rules:\n  - {id: 'a b', conditions: []}\n")
    with (bad.config / "channels" / "1001" / "telemetry.csv").open("a") as file:
        file.write("1,Again,float32,1,0,,kW,\n")
    refused = bad.voltage("up", timeout_s=60)
    assert refused.returncode == 78
    for place in ("comsrv.yaml:", "more.yaml:2"):
        assert place in refused.stderr
    assert "alarmsrv: ready" not in refused.stdout
    with pytest.raises(UnavailableError):
        bad.redis()
