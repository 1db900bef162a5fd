"""simulate.yaml: every problem at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.errors import ConfigurationError
from services.simulator.settings import load_settings

SITE = """\
sped: 2
start_time: "25:00"
devices:
  - name: Grid
    class: grid_meter
    port: base+20
    registers:
      frequencyy: {table: holding, address: 0, type: float32}
      active_power: {table: holding, address: 1, type: float32}
      voltage_l1: {table: holding, address: 70000, type: int16}
  - name: Meter
    class: grid_meter
    port: base+20
    registers:
      frequencyy: {table: holding, address: 0, type: float32}
      active_power: {table: holding, address: 1, type: float32, writable: true}
  - name: Battery
    class: battery
    port: base-22
    parameters: {rated_kw: 100, min_soc: 90, max_soc: 20}
    registers:
      set_point: {table: holding, address: 0, type: int16}
  - name: Meter
    class: grid_meter
    port: base+20
    registers:
      active_power: {table: holding, address: 1, type: float32}
"""
EXPECTED = {
    1: "unknown key",
    2: "start_time",
    10: "70000",
    15: "a grid_meter has no point 'frequencyy'; did you mean frequency?",
    16: "active_power of a grid_meter can't be written",
    19: "'base-22' is no port",
    20: "capacity_kwh: is required",
    23: "a second device is named 'Meter'",
    24: "'Meter' is the grid meter already",
}


def test_every_problem_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "simulate.yaml"
    path.write_text(SITE)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    text = str(caught.value)
    for line, message in EXPECTED.items():
        assert any(f":{line}: " in row and message in row for row in text.splitlines()), (line, text)
    assert ":16: active_power lies on addresses of frequencyy in the holding table" in text


def test_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml"):
        load_settings(tmp_path / "nothing.yaml")
