"""`voltage modbus-server`: what the site serves to SCADA."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import click

from libs.errors import ConfigurationError, ConflictError, Problem
from services.commands.api import request, show
from services.commands.points import read_site
from services.comsrv.serving.check import FILE
from services.comsrv.serving.table import load_table, suggest


@click.group("modbus-server")
def modbus_server() -> None:
    """Show what the site serves over Modbus TCP, or write the table of it."""


@modbus_server.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def status(as_json: bool) -> None:
    """Show the running server: its address, its clients and what they asked."""
    found = request("/api/modbus-server")
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found["enabled"]:
        click.echo("The Modbus server is off; see docs/modbus-server.md")
        return
    counts = ", ".join(f"{number} {name}" for name, number in sorted(found["counts"].items())) or "nothing asked yet"
    click.echo(f"{found['address']}: {counts}")
    columns = {"client": "address", "requests": "requests", "since": "since_ms"}
    show(found["clients"], columns, as_json=False, empty="No client is connected.")


@modbus_server.command("map")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
def show_map(as_json: bool) -> None:
    """Show which address shows which point, for whoever sets up the SCADA."""
    settings, _ = read_site()
    path = settings.config_dir / FILE
    if not path.exists():
        raise ConfigurationError(
            [Problem(str(path), "is not there; write it with: voltage modbus-server generate --write")]
        )
    rows = [
        served.model_dump() | {"data_type": served.type}
        for _, served in load_table(path, settings.modbus_server.mirrors)
    ]
    columns = {
        "unit": "unit", "table": "table", "address": "address", "type": "data_type", "order": "byte_order",
        "scale": "scale", "point": "reference", "writable": "writable", "description": "description",
    }  # fmt: skip
    show(rows, columns, as_json=as_json, empty="The table is empty.")


@modbus_server.command()
@click.option("--channel", "chosen", type=int, multiple=True, help="Only these channels (may stand several times).")
@click.option("--write", is_flag=True, help="Write config/modbus_server.csv instead of showing it.")
def generate(chosen: tuple[int, ...], write: bool) -> None:
    """Make a table of all points, one after the other; nothing in it is writable until you say so."""
    settings, channels = read_site()
    points = [
        (
            f"comsrv:{channel.id}:{kind}:{point.id}",
            point.family,
            kind in "CA",
            f"{channel.name}: {point.name} {point.unit}".strip(),
        )
        for channel in channels
        if not chosen or channel.id in chosen
        for kind in "TSCA"
        for point in channel.points.of(kind)
        if point.family != "text"
    ]
    rows = suggest(points)
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else ["table", "address", "reference"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    if not write:
        click.echo(text.getvalue(), nl=False)
        return
    path: Path = settings.config_dir / FILE
    if path.exists():
        raise ConflictError(f"{path} exists already; move it away first")
    path.write_text(text.getvalue(), "utf-8")
    click.echo(f"{path}: {len(rows)} points")
