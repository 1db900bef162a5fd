"""`voltage rules library`: a template becomes a file of rules, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from libs.config.desired import read_desired
from libs.errors import ConfigurationError, ConflictError, InvalidError
from services.cli import voltage
from services.rulesrv.library import FOLDER
from services.rulesrv.schemas import Rule

ROOT = Path(__file__).parents[3]


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "config" / FOLDER, tmp_path / "config" / FOLDER)
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "config" / "rules"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(voltage, ["rules", "library", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_template_becomes_a_file_that_says_how_it_was_made(rules: Path) -> None:
    printed = run("add", "peak_shaving", "--as", "evening", "--set", "limit_kw=60", "--dry-run")
    assert not (rules / "evening.yaml").exists()
    run("add", "peak_shaving", "--as", "evening", "--set", "limit_kw=60")
    text = (rules / "evening.yaml").read_text()
    assert text == printed
    assert "rules library add peak_shaving --as evening --set limit_kw=60 --replace" in text.replace("\n# ", " ")
    (entry,) = read_desired(rules, {"rules": Rule})
    assert (entry.id, entry.definition.model_dump()["name"]) == ("evening", "Peak shaving over 60 kW")


def test_what_is_there_stays_unless_it_shall_not(rules: Path) -> None:
    run("add", "soc_window")
    before = (rules / "soc_window.yaml").read_text()
    with pytest.raises(ConflictError, match="--replace"):
        run("add", "soc_window", "--set", "low_soc=30")
    run("add", "soc_window", "--set", "low_soc=30", "--replace")
    assert (rules / "soc_window.yaml").read_text() != before
    (rules / "own.yaml").write_text("rules:\n  - {id: genset_start, name: mine, conditions: []}\n")
    with pytest.raises(ConfigurationError):
        run("add", "genset")
    assert not (rules / "genset.yaml").exists()
    with pytest.raises(InvalidError, match="NAME=VALUE"):
        run("add", "genset", "--set", "fast")


def test_a_cell_is_what_it_says(rules: Path) -> None:
    assert "1003:A:1" in run("show", "peak_shaving")
