"""Run the simulated site until a signal ends it; the command is `services.commands.simulate`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as View

from libs.tasks import cancel
from services.simulator.server import Simulator
from services.simulator.settings import SimulateSettings

FILE_NAME: Final = "simulate.yaml"


def default_config() -> Path:
    """Return the site's file in the configuration folder."""
    return Path(os.environ.get("VOLTAGE_CONFIG_DIR", "config")) / FILE_NAME


def show(settings: SimulateSettings, port_base: int) -> None:
    """Print the devices and where they listen."""
    title = f"Simulated site, {settings.start_time}, {settings.acceleration} x real time"
    view = View("device", "class", "address", "unit", "registers", title=title)
    for device in settings.devices:
        address = f"{settings.host}:{device.port_for(port_base)}"
        registers = str(len(device.registers))
        view.add_row(device.name, device.kind, address, str(device.unit_id), registers)
    Console(emoji=False).print(view)


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
        await cancel(stepping, stopping)
        await simulator.close()
