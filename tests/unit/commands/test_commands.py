"""The command line: quick to help, clear when wrong, and its tables say what is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli import COMMANDS, voltage
from services.commands import reference
from services.commands.api import console
from services.commands.read import points_of
from services.supervisor.loglines import readable
from tests.support.processes import ROOT


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env=os.environ | variables, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_help_names_every_command_and_imports_none():
    code = (
        "import sys; sys.argv = ['voltage', '--help']\n"
        "from services.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'aiohttp', 'redis', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_exists_and_has_help(name: str):
    answer = CliRunner().invoke(voltage, [name, "--help"])
    assert answer.exit_code == 0, answer.output
    assert "Usage:" in answer.output
    assert "\\b" not in answer.output


def test_a_wrong_option_value_is_one_clear_line():
    wrong = run("token", "--role", "boss")
    assert wrong.returncode == 2
    assert "'boss' is not one of" in wrong.stderr


@pytest.mark.parametrize("command", [["up"], ["config", "check"]])
def test_a_folder_of_configuration_that_is_not_there_is_refused(tmp_path: Path, command: list[str]):
    wrong = run(*command, VOLTAGE_CONFIG_DIR=str(tmp_path / "cofnig"), VOLTAGE_DATA_DIR=str(tmp_path))
    assert wrong.returncode == 78
    assert "cofnig is no folder" in wrong.stderr


def test_the_points_of_the_demo_site_are_good_and_planned():
    assert run("points", "check").returncode == 0
    plan = run("points", "plan", COLUMNS="200").stdout
    assert "1-holding-" in plan or "1-input-" in plan
    wrong = run("points", "plan", "99")
    assert "comsrv.yaml has no channel 99; there are 1001, 1002" in wrong.stderr


def test_problems_of_the_tables_come_all_at_once_with_file_and_line(tmp_path: Path):
    (tmp_path / "comsrv.yaml").write_text(
        "channels:\n  - {id: 1, name: One, protocol: virtual, colour: red}\n  - {id: 2, name: Two, protocol: virtual}\n"
    )
    wrong = run("config", "check", "comsrv", VOLTAGE_CONFIG_DIR=str(tmp_path))
    assert wrong.returncode == 78
    assert "comsrv.yaml:2" in wrong.stderr
    assert "colour" in wrong.stderr


def test_a_bad_file_hides_no_other_problem(tmp_path: Path):
    """A key of comsrv.yaml, a table of a channel beside it, a number and an unknown key, two fields of a definition."""
    virtual = "name: V, protocol: virtual"
    (tmp_path / "comsrv.yaml").write_text(
        f"renew_ms: .inf\ncolour: red\nchannels:\n  - {{id: 1, {virtual}, spots: 1}}\n  - {{id: 2, {virtual}}}\n"
    )
    table = tmp_path / "channels" / "2" / "telemetry.csv"
    table.parent.mkdir(parents=True)
    table.write_text("point_id,signal_name,data_type\n1,Power,flaot32\n")
    (tmp_path / "alarms").mkdir()
    (tmp_path / "alarms" / "a.yaml").write_text(
        "definitions:\n  - {id: hot, source: 'comsrv:1:T:1', detector: Hi, level: Major, colour: red}\n"
    )
    wrong = run("config", "check", VOLTAGE_CONFIG_DIR=str(tmp_path))
    assert wrong.returncode == 78
    for said in (
        "comsrv.yaml:1: renew_ms: .inf: numbers must be finite",
        "comsrv.yaml:2: colour: unknown key",
        "comsrv.yaml:4: channels[0].spots: unknown key",
        "telemetry.csv:2: data_type",
        "a.yaml:2: colour: unknown key",
        "limit",
    ):
        assert said in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_every_function_of_the_library_has_a_contract():
    found = list(reference.functions())
    assert {"comsrv_ingest", "model_get", "rule_evaluate", "voltage_version"} <= {one.name for one in found}
    assert [one.name for one in found if not one.summary or not one.fields] == []
    assert len({one.name for one in found}) == len(found)


def test_a_line_to_paste_comes_from_the_contract():
    function = reference.Function(
        "comsrv", "command_get", reads=True, summary="", text=[],
        fields=[reference.Field("KEYS[1]", ["command"]), reference.Field("ARGV[1]", ["{limit?}"])],
    )  # fmt: skip
    assert function.call() == "FCALL_RO command_get 1 COMMAND '{...}'"


def test_log_lines_are_shown_for_people():
    line = (
        '{"time":"2026-01-02T03:04:05.678Z","level":"info","service":"comsrv",'
        '"logger":"x","message":"connected","channel":1001}'
    )
    assert readable(line) == "03:04:05.678 INFO     connected channel=1001"
    assert readable("plain text") == "plain text"
    assert readable("{broken") == "{broken"


def test_points_come_as_a_list_whatever_the_answers_form():
    assert points_of({"items": [{"id": 1}]}) == [{"id": 1}]
    assert points_of({"points": {"power": {"value": 2}, "soc": 50}}) == [
        {"name": "power", "value": 2},
        {"name": "soc", "value": 50},
    ]


def test_a_reference_in_a_table_is_no_emoji_and_no_markup(capsys: pytest.CaptureFixture[str]):
    console().print("comsrv:1003:A:1 [x] [red]")
    assert capsys.readouterr().out == "comsrv:1003:A:1 [x] [red]\n"
