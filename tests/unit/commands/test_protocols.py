"""`voltage protocols new`: what it writes is installed and passes its own conformance test as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from services.cli import voltage
from tests.support.example import install


def test_the_skeleton_passes_its_own_test(tmp_path: Path):
    folder = tmp_path / "voltage-boiler"
    done = CliRunner().invoke(voltage, ["protocols", "new", "boiler_v2", "--into", str(folder)])
    assert done.exit_code == 0, done.output
    names = {path.name for path in folder.iterdir()}
    assert names == {"device.py", "pyproject.toml", "test_boiler_v2.py", "voltage_boiler_v2.py"}
    assert not any("textline" in path.read_text().lower() for path in folder.iterdir())
    environ = os.environ | {"PYTHONPATH": f"{install(tmp_path / 'site', folder)}:{Path(__file__).parents[3]}"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, env=environ, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def test_names_that_cannot_be_and_folders_that_are_there_are_refused(tmp_path: Path):
    for name, reason in (("Boiler", "must be"), ("modbus_tcp", "there is a protocol modbus_tcp already")):
        done = CliRunner().invoke(voltage, ["protocols", "new", name, "--into", str(tmp_path / "x")])
        assert reason in str(done.exception)
    done = CliRunner().invoke(voltage, ["protocols", "new", "boiler", "--into", str(tmp_path)])
    assert "exists already" in str(done.exception)


def test_the_list_names_what_is_installed():
    done = CliRunner().invoke(voltage, ["protocols", "list", "--json"])
    assert '"protocol": "modbus_rtu"' in done.output
