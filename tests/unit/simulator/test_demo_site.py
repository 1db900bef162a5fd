"""The demo site hangs together: tables, devices, models, rules and alarms name what exists."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.config.yaml_loader import load_yaml
from libs.expression import parse, references
from libs.points import PointKind, parse_reference
from services.simulator.registers import Register, Table
from services.simulator.settings import AnyDevice, load_settings

CONFIG = Path(__file__).parents[3] / "config"
KINDS = {kind.table: kind for kind in PointKind}
TABLES = {1: Table.COIL, 5: Table.COIL, 2: Table.DISCRETE, 4: Table.INPUT}
GENERATOR = re.compile(r"^(sine|walk)\(")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def documents(folder: str, key: str) -> list[dict[str, Any]]:
    return [item for path in sorted((CONFIG / folder).glob("*.yaml")) for item in load_yaml(path).data[key]]


CHANNELS: list[dict[str, Any]] = load_yaml(CONFIG / "comsrv.yaml").data["channels"]
FIELD_CHANNELS = [channel for channel in CHANNELS if channel["protocol"] != "virtual"]
DEVICES = {device.port: device for device in load_settings(CONFIG / "simulate.yaml").devices}
POINTS = {
    f"comsrv:{channel['id']}:{kind}:{row['point_id']}": row
    for channel in CHANNELS
    for table, kind in KINDS.items()
    for path in [CONFIG / "channels" / str(channel["id"]) / f"{table}.csv"]
    if path.exists()
    for row in rows(path)
}
TEMPLATES = {template["id"]: template for template in documents("models", "templates")}
MODELS = {model["id"]: model for model in documents("models", "models")}


def mapped(channel: dict[str, Any]) -> Iterator[tuple[str, PointKind, dict[str, str]]]:
    for path in sorted((CONFIG / "channels" / str(channel["id"]) / "mapping").glob("*_mapping.csv")):
        kind = KINDS[path.name.removesuffix("_mapping.csv")]
        for row in rows(path):
            yield f"comsrv:{channel['id']}:{kind}:{row['point_id']}", kind, row


def register_at(device: AnyDevice, row: dict[str, str]) -> Register:
    table = TABLES.get(int(row["function_code"]), Table.HOLDING)
    address = int(row["register_address"])
    found = [item for item in device.registers.values() if (item.table, item.address) == (table, address)]
    assert found, f"{device.name} has no {table} at {address}"
    return found[0]


@pytest.mark.parametrize("channel", FIELD_CHANNELS, ids=lambda channel: str(channel["id"]))
def test_mappings_read_what_the_device_serves(channel: dict[str, Any]) -> None:
    device = DEVICES[channel["parameters"]["port"]]
    seen = set()
    for reference, kind, row in mapped(channel):
        register = register_at(device, row)
        point = POINTS[reference]
        seen.add(reference)
        assert int(row["slave_id"]) == device.unit_id
        if row["bit_position"]:
            assert register.type == "uint16", reference
        else:
            assert row["data_type"] == register.type, reference
            assert (row["byte_order"] or "AB")[:2] == register.byte_order[:2], reference
            assert float(point["scale"] or 1) == register.scale, reference
        if kind in {PointKind.CONTROL, PointKind.ADJUSTMENT}:
            assert register.writable, reference
    declared = {reference for reference in POINTS if reference.split(":")[1] == str(channel["id"])}
    assert seen == declared


def model_points() -> Iterator[tuple[str, str]]:
    for model in MODELS.values():
        template, mapping = TEMPLATES[model["template"]], model["mapping"]
        for part, kinds, offset in (
            ("data", template["data_points"], "data_offset"),
            ("action", template["actions"], "action_offset"),
        ):
            explicit = mapping.get(part)
            if explicit is None:
                explicit = {name: point["base_id"] + mapping[offset] for name, point in kinds.items()}
            for name, target in explicit.items():
                short = target if isinstance(target, str) else f"{kinds[name]['kind']}:{target}"
                yield f"modsrv:{model['id']}:{name}", f"comsrv:{mapping['channel']}:{short}"


def test_models_map_points_that_exist() -> None:
    points = dict(model_points())
    assert not [target for target in points.values() if target not in POINTS]
    for model in MODELS.values():
        assert f"modsrv:{model['id']}:active_power" in points
    assert points["modsrv:battery1:state_of_charge"] == "comsrv:1003:T:2"


def sources(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key in {"source", "target"} and isinstance(value, str):
                yield value
            else:
                yield from sources(value)
    elif isinstance(document, list):
        for item in document:
            yield from sources(item)


def test_rules_and_alarms_watch_points_that_exist() -> None:
    known = {*POINTS, *dict(model_points())}
    named = list(sources(documents("rules", "rules"))) + list(sources(documents("alarms", "definitions")))
    assert named
    assert not [source for source in named if source not in known]


def test_expressions_of_virtual_points_parse() -> None:
    formulas = [row["expression"] for row in POINTS.values() if row.get("expression")]
    assert len(formulas) >= 4
    for formula in formulas:
        if GENERATOR.match(formula):
            continue
        for source in references(parse(formula)):
            assert parse_reference(source)
            assert source in POINTS, formula
