"""The device library: every template is whole, names its source, and makes a channel that runs."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import pytest
import sunspec2.device as sunspec
from click.testing import CliRunner

from libs.config import load
from libs.errors import ConfigurationError
from services.cli import voltage
from services.commands.library import FOLDER, read_device, with_channel
from services.comsrv.channel import Point
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site

ROOT = Path(__file__).parents[3]
TEMPLATES = sorted(path.parent.name for path in (ROOT / "config" / FOLDER).glob("*/device.yaml"))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    (folder / "channels").mkdir(parents=True)
    shutil.copytree(ROOT / "config" / FOLDER, folder / FOLDER)
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(folder))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path / "data"))
    return folder


def run(*arguments: str) -> str:
    done = CliRunner().invoke(voltage, ["library", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_there_are_meters_inverters_a_battery_and_a_genset():
    classes = [read_device(ROOT / "config" / FOLDER / name).device_class for name in TEMPLATES]
    assert len(TEMPLATES) >= 6
    assert classes.count("grid_meter") >= 2
    assert classes.count("pv_inverter") >= 2
    assert {"battery", "genset"} <= set(classes)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_makes_a_channel_without_a_problem(config: Path, template: str):
    run("add", "1500", "--template", template, "--host", "192.0.2.7", "--unit", "17")
    (channel,) = load_site(config, load(ComsrvSettings, "comsrv").settings)
    points = [point for kind in "TSCA" for point in channel.points.of(kind)]
    assert points
    assert {point.mapping["slave_id"] for point in points if point.mapping} == {17}
    assert any(point.name == "Active power" and point.unit == "kW" for point in points)
    assert read_device(config / FOLDER / template).source


def points_of(config: Path, template: str) -> dict[int, Point]:
    """Return the points of a template by their address."""
    run("add", "1500", "--template", template, "--host", "192.0.2.7")
    (channel,) = load_site(config, load(ComsrvSettings, "comsrv").settings)
    points = (point for kind in "TSCA" for point in channel.points.of(kind))
    return {point.mapping["register_address"]: point for point in points if point.mapping}


SOURCES = [*csv.DictReader((ROOT / "tests/vectors/library.csv").read_text("utf-8").splitlines())]


@pytest.mark.parametrize("template", sorted({row["template"] for row in SOURCES}))
def test_registers_are_those_of_documents_and_of_others_software(config: Path, template: str):
    """tests/vectors/library.csv says address, type, gain and unit as somebody else has them."""
    points = points_of(config, template)
    rows = [row for row in SOURCES if row["template"] == template]
    assert sorted(points) == sorted(int(row["address"]) for row in rows)
    for row in rows:
        point = points[int(row["address"])]
        assert point.mapping is not None
        assert point.mapping["data_type"] == row["type"], row
        kilo = 0.001 if point.unit == f"k{row['unit']}" else 1.0
        assert point.unit.removeprefix("k" if kilo != 1 else "") == row["unit"], row
        assert math.isclose(point.scale, kilo / float(row["gain"]), rel_tol=1e-9), row


def test_the_sunspec_map_is_model_103_as_pysunspec2_defines_it(config: Path):
    """Each address, type, scale register and unit, the states of the inverter, and what is not implemented."""
    model, start = sunspec.Model(103), 40069
    defined = {start + point.offset: point.pdef for point in model.points.values()}
    names = {point.pdef["name"]: start + point.offset for point in model.points.values()}
    points = points_of(config, "sunspec-inverter")
    assert len(points) >= 16
    for address, point in points.items():
        row, mapping = defined[address], point.mapping
        assert mapping is not None
        assert {"acc32": "uint32", "enum16": "uint16"}.get(row["type"], row["type"]) == mapping["data_type"]
        assert names.get(str(row.get("sf"))) == mapping.get("scale_register"), row
        assert mapping["sentinel"] == (("0",) if row["type"] == "acc32" else ("sunspec",))
        kilo = 0.001 if point.unit.startswith("k") else 1.0
        unit = {"C": "°C", "Pct": "%"}.get(row.get("units", ""), row.get("units", ""))
        assert (point.unit.removeprefix("k"), point.scale) == (unit, kilo)
    states = {str(symbol["value"]) for symbol in defined[names["St"]]["symbols"]}
    assert set(points[names["St"]].value_map) == states


def test_a_second_channel_stands_behind_the_first_and_nothing_else_moves(config: Path):
    file = config / "comsrv.yaml"
    file.write_text("renew_ms: 500\nchannels:   # the site\n  # none yet\n\nreconnect_max_ms: 5000   # quick\n")
    run("add", "1500", "--template", "eastron-sdm630", "--host", "192.0.2.7")
    run("add", "1501", "--template", "eastron-sdm120", "--host", "192.0.2.8", "--port", "1502", "--name", "Heat pump")
    assert file.read_text().startswith("renew_ms: 500\nchannels:   # the site\n")
    assert file.read_text().endswith("reconnect_max_ms: 5000   # quick\n")
    settings = load(ComsrvSettings, "comsrv").settings
    assert [(channel.id, channel.name) for channel in settings.channels] == [
        (1500, "Eastron SDM630"),
        (1501, "Heat pump"),
    ]
    assert settings.channels[1].parameters["port"] == 1502
    assert settings.reconnect_max_ms == 5000


def test_a_taken_channel_and_an_unknown_template_are_refused(config: Path):
    run("add", "1500", "--template", "dse-gencomm", "--host", "192.0.2.7")
    again = CliRunner().invoke(voltage, ["library", "add", "1500", "--template", "dse-gencomm", "--host", "192.0.2.7"])
    assert "channel 1500 is taken" in str(again.exception)
    other = CliRunner().invoke(voltage, ["library", "show", "dse-gencom"])
    assert "did you mean dse-gencomm?" in str(other.exception)


def test_channels_on_one_line_are_left_to_the_person(tmp_path: Path):
    file = tmp_path / "comsrv.yaml"
    file.write_text("channels: [{id: 1, name: a, protocol: virtual}]\n")
    with pytest.raises(ConfigurationError, match="as a list of lines"):
        with_channel(file, ["id: 2"])
