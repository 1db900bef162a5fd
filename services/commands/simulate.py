"""`voltage simulate`: the simulated site, or devices made from point tables that misbehave on purpose."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.table import Table as View

from libs.errors import ConfigurationError, Problem, UnavailableError
from libs.services import PORT_BASE
from services.commands.api import console
from services.simulator import cli as site
from services.simulator.settings import load_settings
from services.simulator.twins.endpoint import Endpoint
from services.simulator.twins.log import DEFAULT_MAX_BYTES, Log
from services.simulator.twins.run import Fleet
from services.simulator.twins.settings import load_settings as load_twins

EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
# Longer lists are cut on the screen.
SHOWN: Final = 40


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The site's file; simulate.yaml in VOLTAGE_CONFIG_DIR (config/) by default.",
)
@click.option(
    "--port-base",
    type=click.IntRange(1, 65535),
    envvar="VOLTAGE_PORT_BASE",
    default=PORT_BASE,
    show_default=True,
    help="What `port: base+20` counts from.",
)
@click.option(
    "--from-points",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Make devices from point tables instead: config/, config/channels or config/channels/1001.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --from-points: values and faults, by schedule or at random (docs/simulate.md).",
)
@click.option("--seed", type=int, help="With --from-points: another seed than the file's.")
@click.option("--first-port", type=click.IntRange(1, 65535), help="With --from-points: listen from this port on.")
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --from-points: keep what the devices held, saw and did wrong, as JSON lines.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --from-points: what devices of modbus_tls show, with its key in the same file or beside it (.key).",
)
@click.option("--log-mb", type=click.IntRange(1, 100_000), default=DEFAULT_MAX_BYTES >> 20, show_default=True)
def simulate(
    path: Path | None, port_base: int, from_points: Path | None, faults: Path | None, seed: int | None,
    first_port: int | None, log_path: Path | None, certificate: Path | None, log_mb: int,
) -> None:  # fmt: skip
    """Run simulated devices until Ctrl-C: the site of simulate.yaml, or one for each point table."""
    try:
        if from_points is not None:
            if path is not None:
                raise click.UsageError("--config is for the simulated site, not for --from-points")
            with Log(log_path, log_mb << 20) as log:
                run_twins(from_points, faults, seed, first_port, certificate, log)
            return
        if faults or first_port or log_path or certificate or seed is not None:
            raise click.UsageError("--faults, --seed, --first-port, --certificate and --log go with --from-points")
        settings = load_settings(path or site.default_config())
        site.show(settings, port_base)
        asyncio.run(site.serve(settings, port_base))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except UnavailableError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNAVAILABLE)


def run_twins(
    from_points: Path, faults: Path | None, seed: int | None, first_port: int | None, certificate: Path | None, log: Log
) -> None:
    """Make the devices and run them until a signal."""
    from services.commands.twins import SIMULATED, TLS, links_of, read_channels

    settings = load_twins(faults)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    channels, port_base = read_channels(from_points)
    tls = context_of(certificate) if certificate else None
    links = [link for link in links_of(channels, port_base, first_port) if tls or not link.tls]
    fleet = Fleet(links, settings, log, tls)
    for channel in channels:
        if channel.protocol not in SIMULATED:
            click.echo(f"left out: channel {channel.id}, {channel.protocol}")
        elif channel.protocol == TLS and not tls:
            click.echo(f"left out: channel {channel.id}, {TLS} needs --certificate")
    if not fleet.units:
        raise UnavailableError(f"{from_points}: no Modbus channel with points")
    fleet.check(str(faults))
    show(fleet.endpoints)
    asyncio.run(until_signal(fleet))


def context_of(certificate: Path) -> ssl.SSLContext:
    """Return what devices in TLS show of themselves."""
    key = certificate.with_suffix(".key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key if key.exists() else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError([Problem(str(certificate), f"holds no certificate with its key: {error}")]) from error
    return context


def show(endpoints: Sequence[Endpoint]) -> None:
    """Print the devices and where they listen."""
    view = View("device", "address", "unit", "points", title=f"{sum(len(e.units) for e in endpoints)} devices")
    rows = [(endpoint, unit) for endpoint in endpoints for unit in endpoint.units.values()]
    for endpoint, unit in rows[:SHOWN]:
        view.add_row(unit.name, endpoint.address, str(unit.unit_id), str(len(unit.cells)))
    if len(rows) > SHOWN:
        view.add_row(f"and {len(rows) - SHOWN} more", "", "", "")
    console().print(view)


async def until_signal(fleet: Fleet) -> None:
    """Run the devices until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(fleet.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        click.echo(f"{fleet.trouble.done} faults happened")
