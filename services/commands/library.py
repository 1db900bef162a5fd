"""`voltage library`: register maps of devices, and channels made of them."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path
from typing import Any, Final

import click
from pydantic import Field

from libs.config.yaml_loader import read_yaml
from libs.errors import ConfigurationError, ConflictError, NotFoundError, Problem
from libs.site import load_site
from libs.validation import Model, examined, nearest
from services.commands.api import show

FOLDER: Final = "library"
ABOUT: Final = "device.yaml"
_ITEM: Final = re.compile(r"^(\s*)-\s")


class Device(Model):
    """What device.yaml says about a template of points."""

    name: str
    manufacturer: str
    models: tuple[str, ...] = Field(min_length=1)
    device_class: str = Field(alias="class")
    source: str = Field(min_length=10, description="the public document the addresses come from")
    protocol: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    polling: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""


def read_device(folder: Path) -> Device:
    """Read a template's device.yaml.

    Raises:
        ConfigurationError: its problems with file and line.
    """
    document = read_yaml(folder / ABOUT)
    device, problems = examined(Device, document.data, document.unsaid)
    if problems or device is None:
        raise ConfigurationError([*document.problems, *problems])
    return device


def find(template: str) -> Path:
    """Return the folder of a template, or raise NotFoundError with the nearest name."""
    library = load_site().config_dir / FOLDER
    if not (library / template / ABOUT).exists():
        names = sorted(path.parent.name for path in library.glob(f"*/{ABOUT}"))
        raise NotFoundError(f"no template {template!r} in {library}{nearest(template, names)}")
    return library / template


@click.group()
def library() -> None:
    """List the device library, look at a template, or make a channel of one."""


@library.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
def list_devices(as_json: bool) -> None:
    """List the templates."""
    folders = sorted(path.parent for path in (load_site().config_dir / FOLDER).glob(f"*/{ABOUT}"))
    rows = [{"template": folder.name, **read_device(folder).model_dump(by_alias=True)} for folder in folders]
    columns = {"template": "template", "device": "name", "class": "class", "protocol": "protocol", "source": "source"}
    show(rows, columns, as_json=as_json, empty="The library is empty.")


@library.command("show")
@click.argument("template")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
def show_device(template: str, as_json: bool) -> None:
    """Show the points of a template, with where they stand and where that is from."""
    folder = find(template)
    rows = [row for kind in ("telemetry", "signal", "control", "adjustment") for row in _points(folder, kind)]
    columns = {
        "kind": "kind", "id": "point_id", "name": "signal_name", "unit": "unit", "scale": "scale",
        "function": "function_code", "address": "register_address", "type": "wire_type",
    }  # fmt: skip
    show(rows, columns, as_json=as_json, empty="The template has no points.")
    if not as_json:
        device = read_device(folder)
        click.echo(f"{device.name} ({', '.join(device.models)})\nsource: {device.source}\n{device.notes}")


@library.command()
@click.argument("channel", type=click.IntRange(1, 999_999_999))
@click.option("--template", required=True, help="One of: voltage library list.")
@click.option("--host", required=True, help="Address of the device or its gateway.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port, where it is another than the template's.")
@click.option("--unit", type=click.IntRange(0, 255), help="Unit id, where it is another than the template's.")
@click.option("--name", help="Name of the channel; the device's without it.")
def add(channel: int, template: str, host: str, port: int | None, unit: int | None, name: str | None) -> None:
    """Make a channel of a template: its tables, and its entry in comsrv.yaml."""
    folder, config = find(template), load_site().config_dir
    device, tables = read_device(folder), config / "channels" / str(channel)
    if tables.exists():
        raise ConflictError(f"{tables} exists already; channel {channel} is taken")
    parameters = {"host": host, **device.parameters} | ({"port": port} if port else {})
    entry = [
        f"id: {channel}", f"name: {name or device.name}", f"protocol: {device.protocol}",
        f"parameters: {_flow(parameters)}", f"polling: {_flow(device.polling)}",
    ]  # fmt: skip
    changed = with_channel(config / "comsrv.yaml", entry)
    shutil.copytree(folder, tables, ignore=shutil.ignore_patterns(ABOUT))
    if unit is not None:
        for path in (tables / "mapping").glob("*.csv"):
            path.write_text(_with_unit(path.read_text("utf-8"), unit), "utf-8")
    (config / "comsrv.yaml").write_text(changed, "utf-8")
    click.echo(f"channel {channel}: {tables}, and its entry in {config / 'comsrv.yaml'}")
    click.echo("See what it will do: voltage config plan. Run it: voltage config apply.")


def with_channel(path: Path, entry: list[str]) -> str:
    """Return the text of comsrv.yaml with one channel more, everything else as it is.

    Raises:
        ConfigurationError: the channels are not written as a list of lines.
    """
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    start = next((index for index, line in enumerate(lines) if line.startswith("channels:")), None)
    if start is None:
        lines.append("channels:")
        start = len(lines) - 1
    if lines[start].split("#")[0].strip() != "channels:":
        raise ConfigurationError([Problem(f"{path}:{start + 1}", "write the channels as a list of lines, one - each")])
    end = next(
        (index for index in range(start + 1, len(lines)) if lines[index][:1].strip() and lines[index][0] not in "#-"),
        len(lines),
    )
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    items = (match for line in lines[start + 1 : end] if (match := _ITEM.match(line)))
    indent = next((match[1] for match in items), "  ")
    added = [f"{indent}- {entry[0]}", *(f"{indent}  {line}" for line in entry[1:])]
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"


def _points(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / f"{kind}.csv"
    if not path.exists():
        return []
    mapping = {row["point_id"]: row for row in _rows(folder / "mapping" / f"{kind}_mapping.csv")}
    return [
        {"kind": kind} | mapping[row["point_id"]] | row | {"wire_type": mapping[row["point_id"]]["data_type"]}
        for row in _rows(path)
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _with_unit(text: str, unit: int) -> str:
    """Return a mapping table with another unit id in each row."""
    rows = list(csv.reader(io.StringIO(text)))
    column = rows[0].index("slave_id")
    for row in rows[1:]:
        row[column] = str(unit)
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def _flow(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
