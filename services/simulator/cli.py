"""`voltage simulate`: run the simulated site until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table as View

from libs.errors import ConfigurationError, UnavailableError
from libs.services import PORT_BASE
from services.simulator.server import Simulator
from services.simulator.settings import SimulateSettings, load_settings

FILE_NAME: Final = "simulate.yaml"
EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h


def default_config() -> Path:
    """Return the site's file in the configuration folder."""
    return Path(os.environ.get("VOLTAGE_CONFIG_DIR", "config")) / FILE_NAME


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
def simulate(path: Path | None, port_base: int) -> None:
    """Run the simulated devices of a site, each a Modbus TCP server."""
    try:
        settings = load_settings(path or default_config())
        show(settings, port_base)
        asyncio.run(serve(settings, port_base))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except UnavailableError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNAVAILABLE)


def show(settings: SimulateSettings, port_base: int) -> None:
    """Print the devices and where they listen."""
    title = f"Simulated site, {settings.start_time}, {settings.acceleration} x real time"
    view = View("device", "class", "address", "unit", "registers", title=title)
    for device in settings.devices:
        address = f"{settings.host}:{device.port_for(port_base)}"
        registers = str(len(device.registers))
        view.add_row(device.name, device.kind, address, str(device.unit_id), registers)
    Console().print(view)


async def serve(settings: SimulateSettings, port_base: int) -> None:
    """Open the devices and step them until SIGTERM or SIGINT."""
    simulator = Simulator(settings, port_base)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await simulator.open()
    stepping = asyncio.create_task(simulator.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        # A loop that dies must end the process: frozen devices that still answer would
        # look alive.
        done, _ = await asyncio.wait({stepping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stepping.cancel()
        stopping.cancel()
        await asyncio.gather(stepping, stopping, return_exceptions=True)
        await simulator.close()
