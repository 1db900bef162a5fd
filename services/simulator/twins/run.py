"""Devices of a whole site in one process: they listen, their values move, their faults happen."""

from __future__ import annotations

import asyncio
import fnmatch
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from libs.clock import monotonic_ms
from libs.errors import ConfigurationError, Problem
from libs.validation import nearest
from services.simulator.twins.cells import Cell
from services.simulator.twins.endpoint import Endpoint, log_step
from services.simulator.twins.frames import RtuFraming, TcpFraming
from services.simulator.twins.generators import Values, generator
from services.simulator.twins.log import Log
from services.simulator.twins.schedule import Trouble
from services.simulator.twins.settings import TwinSettings
from services.simulator.twins.unit import Unit

FLUSH_S: Final = 1.0


class Described(NamedTuple):
    """A point as its table describes it: its cell, and what is needed to make up values."""

    cell: Cell
    unit_of_measure: str = ""
    # A fixed raw value, as the scale register of another point has it.
    fixed: float | None = None


class Link(NamedTuple):
    """An endpoint to make: where, how framed, whether in TLS, and the points of each unit."""

    name: str
    place: tuple[str, int] | Path
    rtu: bool
    tls: bool
    units: dict[int, tuple[str, list[Described]]]


class Fleet:
    """All devices."""

    def __init__(
        self, links: Sequence[Link], settings: TwinSettings, log: Log, tls: ssl.SSLContext | None = None
    ) -> None:
        """Make them; nothing listens yet. Links in TLS need a context with a certificate."""
        self.settings = settings
        self.log = log
        self.endpoints = [
            Endpoint(
                link.name,
                link.place,
                {number: make_unit(name, number, points, settings) for number, (name, points) in link.units.items()},
                RtuFraming() if link.rtu else TcpFraming(),
                log,
                settings.seed,
                tls if link.tls else None,
            )
            for link in links
        ]
        self.trouble = Trouble(self.endpoints, log, settings.seed)

    @property
    def units(self) -> list[Unit]:
        """Every device."""
        return [unit for endpoint in self.endpoints for unit in endpoint.units.values()]

    def check(self, file: str) -> None:
        """Refuse settings that fit no device, or no point: a slip would show as a calm run.

        Raises:
            ConfigurationError: every such line of the file.
        """
        devices = [unit.name for unit in self.units]
        points = [cell.name for unit in self.units for cell in unit.cells]
        wanted = [(f"faults[{number}].device", fault.device) for number, fault in enumerate(self.settings.faults)]
        if self.settings.random is not None:
            wanted.append(("random.device", self.settings.random.device))
        problems = [
            Problem(file, f"{name}: no device is named {pattern!r}{nearest(pattern, devices)}")
            for name, pattern in wanted
            if not fnmatch.filter(devices, pattern)
        ]
        problems += [
            Problem(
                file, f"values[{number}].points: no point is named {values.points!r}{nearest(values.points, points)}"
            )
            for number, values in enumerate(self.settings.values)
            if not fnmatch.filter(points, values.points)
        ]
        if problems:
            raise ConfigurationError(problems)

    async def run(self) -> None:
        """Listen and live until cancelled.

        Raises:
            UnavailableError: a port is taken.
        """
        for unit in self.units:
            self._step(unit)
        try:
            for endpoint in self.endpoints:
                await endpoint.open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._steps())
                group.create_task(self._flushes())
                group.create_task(self.trouble.run(self.settings.faults, self.settings.random))
        finally:
            for endpoint in self.endpoints:
                await endpoint.close()

    def _step(self, unit: Unit) -> None:
        unit.step()
        log_step(self.log, unit)

    async def _steps(self) -> None:
        """Step every device once in `step_ms`, one after the other, so that no answer waits for all of them."""
        units = self.units
        began, turn = monotonic_ms(), 0
        while True:
            turn += 1
            due = began + turn * self.settings.step_ms // len(units)
            await asyncio.sleep(max(due - monotonic_ms(), 0) / 1000)
            self._step(units[turn % len(units)])

    async def _flushes(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.log.flush()


def make_unit(name: str, number: int, points: Sequence[Described], settings: TwinSettings) -> Unit:
    """Return a device. A point that can be read where another is written shows what was written."""
    unit = Unit(name, number, [point.cell for point in points], holes=settings.holes)
    written = {
        (point.cell.table, address)
        for point in points
        if point.cell.writable
        for address in range(point.cell.address, point.cell.address + point.cell.width)
    }
    for point in points:
        cell = point.cell
        spans = ((cell.table, address) for address in range(cell.address, cell.address + cell.width))
        if point.fixed is not None:
            fixed = Values(generator="constant", value=point.fixed)
            unit.generators.append((cell, generator(fixed, cell, "", seed=0, step_ms=settings.step_ms)))
        elif not cell.writable and not any(span in written for span in spans):
            values = next((each for each in settings.values if fnmatch.fnmatchcase(cell.name, each.points)), Values())
            made = generator(values, cell, point.unit_of_measure, seed=settings.seed, step_ms=settings.step_ms)
            unit.generators.append((cell, made))
    return unit
