"""`voltage points`: the point tables, before anything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import click
from rich.table import Table

from libs.config import load
from libs.config.load import Loaded
from libs.errors import ConfigurationError, NotFoundError, Problem
from services.commands.api import console
from services.commands.points_import import import_points
from services.commands.sheet import sheet
from services.comsrv import capacity
from services.comsrv.capacity import LinkLoad, Load
from services.comsrv.channel import Channel
from services.comsrv.contract import Block, Speed
from services.comsrv.plugins.registry import protocols
from services.comsrv.quarantine import Quarantine
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables.site import load_site


class Planned(NamedTuple):
    """How a channel is polled: its blocks, those in quarantine apart, and what each takes."""

    channel: Channel
    blocks: Sequence[Block]
    lonely: int
    loads: list[Load]
    speed: Speed | None


def read_site() -> tuple[ComsrvSettings, tuple[Channel, ...]]:
    """Read comsrv's settings and every point table.

    Raises:
        ConfigurationError: every problem, each with file and line.
    """
    loaded = load(ComsrvSettings, "comsrv")
    return loaded.settings, _channels(loaded)


def check_capacity(loaded: Loaded[ComsrvSettings], channels: Sequence[Channel]) -> list[str]:
    """Return what is tight; what is impossible is an error.

    Raises:
        ConfigurationError: every link that can't carry what is polled.
    """
    found = _links([_planned(channel, loaded.settings) for channel in channels])
    _refuse_impossible(found, loaded)
    return [link.text for link in found if link.share > capacity.TIGHT]


@click.group()
def points() -> None:
    """Check the point tables, show how they are polled, import them, or write the sheet of their commissioning."""


points.add_command(sheet)
points.add_command(import_points)


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
    """Show the requests that read the points, and what they take of their link.

    What a running comsrv learned of the devices is planned with, as it does itself. A time
    with ~ is arithmetic with 5 ms for the device; the others were measured. Exit 78 when a link
    can't carry what is to be polled, however quick the devices.
    """
    loaded = load(ComsrvSettings, "comsrv")
    channels = _channels(loaded)
    if channel not in {None, *(one.id for one in channels)}:
        raise NotFoundError(
            f"comsrv.yaml has no channel {channel}; there are {', '.join(str(one.id) for one in channels)}"
        )
    planned = [_planned(one, loaded.settings) for one in channels]
    table = Table()
    for name in ("channel", "block", "every ms", "unit", "points", "addresses", "bytes", "ms", "of the link"):
        table.add_column(name, no_wrap=name in {"channel", "block"})
    for one in planned:
        if channel in {None, one.channel.id}:
            _show_blocks(table, one)
    view = console()
    view.print(table)
    found = [link for link in _links(planned) if channel is None or channel in link.channels]
    if found:
        view.print(_links_table(found))
    for link in found:
        if link.share > capacity.TIGHT and link.least <= 1:
            click.echo(f"warning: {link.text}", err=True)
    _refuse_impossible(found, loaded)


def _channels(loaded: Loaded[ComsrvSettings]) -> tuple[Channel, ...]:
    return load_site(loaded.settings.config_dir, loaded.settings, loaded.document.where)


def _planned(channel: Channel, settings: ComsrvSettings) -> Planned:
    """Plan a channel as comsrv does."""
    return asyncio.run(_plan(channel, settings))


async def _plan(channel: Channel, settings: ComsrvSettings) -> Planned:
    plugin = protocols()[channel.protocol]()
    await plugin.initialize(channel, port_base=settings.port_base)
    learned = Quarantine.of(channel, settings.data_dir)
    blocks = plugin.blocks if learned.empty else plugin.replan(learned.knowledge)
    polled = [block for block in blocks if plugin.span(block) not in learned.entries]
    found = capacity.loads(channel, plugin, polled, learned.costs)
    return Planned(channel, polled, len(blocks) - len(polled), found, plugin.speed)


def _links(planned: Sequence[Planned]) -> list[LinkLoad]:
    return capacity.links((one.speed, load) for one in planned if one.speed is not None for load in one.loads)


def _refuse_impossible(found: Sequence[LinkLoad], loaded: Loaded[ComsrvSettings]) -> None:
    """Raise for links that can't carry what is polled, however quick the devices are."""
    places = {one.id: loaded.document.where(("channels", index)) for index, one in enumerate(loaded.settings.channels)}
    problems = [Problem(places[link.channels[0]], link.text) for link in found if link.least > 1]
    if problems:
        raise ConfigurationError(problems)


def _show_blocks(table: Table, planned: Planned) -> None:
    channel = planned.channel
    taken = {load.block.name: load for load in planned.loads}
    for block in planned.blocks:
        load = taken.get(block.name)
        kinds = " ".join(f"{len(section.ids)} {section.kind}" for section in block.sections)
        interval = str(channel.polling.interval_of(block.group))
        cells = ["", "", "", ""]
        if load is not None:
            time = f"{load.time_ms:.1f}" if load.measured else f"~{load.time_ms:.1f}"
            addresses = str(getattr(block.plan, "count", ""))
            cells = [addresses, str(load.sent), time, f"{load.time_ms / load.interval_ms:.1%}"]
        table.add_row(str(channel.id), block.name, interval, block.unit, kinds, *cells)
    if planned.lonely:
        table.add_row(str(channel.id), f"and {planned.lonely} in quarantine, asked seldom", *[""] * 7)


def _links_table(found: Sequence[LinkLoad]) -> Table:
    table = Table("link", "speed", "channels", "requests/s", "taken", "at least", "")
    for link in found:
        character_s = link.speed.character_s
        speed = f"{1 / character_s:.0f} characters/s" if character_s else "network"
        channels = " ".join(map(str, link.channels))
        least = f"{link.least:.1%}" if character_s else ""
        table.add_row(link.name, speed, channels, f"{link.requests:.1f}", f"{link.share:.1%}", least, link.verdict)
    return table
