"""`voltage points import`: a channel made of another tool's table, with a report of what could not be taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from libs.config import load
from libs.errors import ConfigurationError, Problem
from services.commands.api import show
from services.commands.importers import kepware, neuron, telegraf
from services.commands.importers.records import Choices, Import
from services.commands.importers.writing import Taken, check_free, points_of, write
from services.comsrv.settings import ComsrvSettings

READERS: Final = {"kepware": kepware.read, "neuron": neuron.read, "telegraf": telegraf.read}
ORDERS: Final = ("ABCD", "CDAB", "BADC", "DCBA")
TAKEN: Final = {
    "line": "line", "tag": "tag", "point": "point", "function": "function_code", "unit": "unit_id",
    "address": "address", "type": "type", "order": "order", "bit": "bit", "scale": "scale", "offset": "offset",
    "polled": "poll_group",
}  # fmt: skip
LOST: Final = {"line": "line", "tag": "tag", "what": "what", "reason": "reason"}


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "source", type=click.Choice(list(READERS)), required=True, help="The tool it comes from.")
@click.option("--channel", type=click.IntRange(1, 999_999_999), required=True, help="Number of the new channel.")
@click.option("--host", help="Address of the device, where the file does not say it.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port, where it is not 502 or what the file says.")
@click.option("--name", help="Name of the channel.")
@click.option("--unit", type=click.IntRange(0, 255), help="Unit id (kepware; 1 without it).")
@click.option(
    "--byte-order",
    type=click.Choice(ORDERS, case_sensitive=False),
    help="Of 32 and 64 bits, where the file leaves it open (kepware: CDAB, neuron: ABCD).",
)
@click.option("--first-address", type=click.IntRange(0, 1), help="What addresses count from (kepware, neuron: 1).")
@click.option("--device", help="Which of the file's devices (neuron: node, telegraf: name).")
@click.option("--dry-run", is_flag=True, help="Report only; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def import_points(
    file: Path, source: str, channel: int, host: str | None, port: int | None, name: str | None, unit: int | None,
    byte_order: str | None, first_address: int | None, device: str | None, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a channel of another tool's table: point tables, and the entry in comsrv.yaml.

    FILE is a tag CSV of KEPServerEX, the tags of EMQX Neuron (CSV or JSON), or a Telegraf
    configuration with inputs.modbus. The report names every tag and setting that could not be taken
    over, with its line and the reason, and what was assumed. Nothing is overwritten.
    """
    settings = load(ComsrvSettings, "comsrv").settings
    check_free(channel, settings.config_dir, [one.id for one in settings.channels])
    found = READERS[source](file, Choices(unit, byte_order.upper() if byte_order else None, first_address, device))
    _place(found, host, port, name, dry_run=dry_run)
    taken = points_of(found, settings.port_base)
    if not taken:
        reasons = [Problem(f"{file}:{one.line}", f"{one.tag}: {one.reason}") for one in found.lost]
        raise ConfigurationError(
            [*reasons, Problem(str(file), "has no tag that could be taken over; nothing is written")]
        )
    tables = None if dry_run else write(found, taken, channel, settings.config_dir)
    _report(found, taken, channel, tables, as_json=as_json)


def _place(found: Import, host: str | None, port: int | None, name: str | None, *, dry_run: bool) -> None:
    """Say where the device is: the command line wins over the file."""
    serial = found.protocol == "modbus_rtu"
    if serial and (host or port):
        raise ConfigurationError([Problem(str(found.path), "names a serial line; --host and --port are for others")])
    found.parameters |= {key: value for key, value in (("host", host), ("port", port)) if value}
    if not serial and "host" not in found.parameters:
        if not dry_run:
            about = ("controller", "transmission_mode", "node ")
            lost = [
                Problem(f"{found.path}:{one.line}", f"{one.what}: {one.reason}")
                for one in found.lost
                if one.what.startswith(about)
            ]
            text = "does not say where the device is; give --host"
            raise ConfigurationError([*lost, Problem(str(found.path), text)])
        found.parameters["host"] = "unknown"
        found.assumed.append("no host: --host is needed to write the channel")
    found.name = name or found.name


def _report(found: Import, taken: list[Taken], channel: int, tables: Path | None, *, as_json: bool) -> None:
    rows = [_row(one, channel) for one in taken]
    lost = [one._asdict() for one in sorted(found.lost)]
    tags = len({id(one.tag) for one in taken})
    if as_json:
        document = {
            "channel": channel, "written": str(tables) if tables else None, "protocol": found.protocol,
            "parameters": found.parameters, "polling": found.polling, "tags": tags, "points": rows,
            "assumed": found.assumed, "lost": lost,
        }  # fmt: skip
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    show(rows, TAKEN, as_json=False, empty="Nothing was taken over.")
    for text in found.assumed:
        click.echo(f"assumed: {text}")
    refused = sum(one["what"] == "tag" for one in lost)
    if lost:
        click.echo("Not taken over:")
        show(lost, LOST, as_json=False, empty="")
    settings = len(lost) - refused
    taken_over = f"{_count(tags, 'tag')} became {_count(len(rows), 'point')}"
    click.echo(f"{taken_over}; {_count(refused, 'tag')} and {_count(settings, 'setting')} were not taken over.")
    if tables is None:
        click.echo("Nothing was written (--dry-run).")
        return
    click.echo(f"channel {channel}: {tables}, and its entry in {tables.parents[1] / 'comsrv.yaml'}")
    click.echo("See what it will do: voltage config plan. Run it: voltage config apply.")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _row(one: Taken, channel: int) -> dict[str, Any]:
    mapping, point = one.mapping, one.point
    kind = "X" if one.tag.wire_type == "string" else one.kind
    return {
        "line": one.tag.line, "tag": one.tag.name, "point": f"comsrv:{channel}:{kind}:{point['point_id']}",
        "kind": str(one.kind), "function_code": mapping["function_code"], "unit_id": mapping["slave_id"],
        "address": mapping["register_address"], "type": mapping["data_type"], "order": mapping.get("byte_order", ""),
        "bit": mapping.get("bit_position"), "scale": float(point.get("scale", 1)),
        "offset": float(point.get("offset", 0)), "poll_group": mapping.get("poll_group", ""),
    }  # fmt: skip
