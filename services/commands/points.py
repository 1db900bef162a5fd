"""`voltage points`: the point tables, before anything runs."""

from __future__ import annotations

import asyncio

import click
from rich.console import Console
from rich.table import Table

from libs.config import load
from libs.services import PORT_BASE
from services.comsrv.channel import Channel
from services.comsrv.contract import Block
from services.comsrv.plugins.modbus.planner import Request
from services.comsrv.plugins.registry import protocols
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables.site import load_site

# Of a Modbus TCP request, and of an answer before its data.
REQUEST_BYTES = 12
ANSWER_BYTES = 9


def read_site() -> tuple[ComsrvSettings, tuple[Channel, ...]]:
    """Read comsrv's settings and every point table.

    Raises:
        ConfigurationError: every problem, each with file and line.
    """
    loaded = load(ComsrvSettings, "comsrv")
    return loaded.settings, load_site(loaded.settings.config_dir, loaded.settings, loaded.document.where)


@click.group()
def points() -> None:
    """Check the point tables, or show how they are polled."""


@points.command()
def check() -> None:
    """Read every table and report every problem with file and line; exit 78 when there are any."""
    _, channels = read_site()
    for channel in channels:
        counts = ", ".join(f"{len(channel.points.of(kind))} {kind}" for kind in "TSCA" if channel.points.of(kind))
        click.echo(f"{channel.id}  {channel.name} ({channel.protocol}): {counts}")
    click.echo(f"{len(channels)} channels are good")


@points.command()
@click.argument("channel", type=int, required=False)
def plan(channel: int | None) -> None:
    """Show the requests that read the points, and what they cost on the wire."""
    settings, channels = read_site()
    table = Table("channel", "block", "unit", "points", "bytes a poll", "every ms", "bytes/s")
    for one in channels:
        if channel is not None and one.id != channel:
            continue
        for block in asyncio.run(_blocks(one, settings.port_base)):
            size = _bytes(block)
            rate = "" if size is None else f"{size * 1000 / one.interval_ms:.0f}"
            kinds = " ".join(f"{len(section.ids)} {section.kind}" for section in block.sections)
            cells = (str(one.id), block.name, block.unit, kinds, str(size or ""), str(one.interval_ms), rate)
            table.add_row(*cells)
    Console().print(table)


async def _blocks(channel: Channel, port_base: int = PORT_BASE) -> tuple[Block, ...]:
    plugin = protocols()[channel.protocol]()
    await plugin.initialize(channel, port_base=port_base)
    return plugin.blocks


def _bytes(block: Block) -> int | None:
    """Return the bytes of a poll, request and answer, without those of TCP."""
    if not isinstance(block.plan, Request):
        return None
    data = (block.plan.count + 7) // 8 if block.plan.code in {1, 2} else 2 * block.plan.count
    return REQUEST_BYTES + ANSWER_BYTES + data
