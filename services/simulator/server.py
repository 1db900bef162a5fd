"""The site behind Modbus TCP: one listener a port, one register map a unit id.

Other masters may read and write beside ours. Exceptions: 2 for an address that is no
register or can't be written, 3 for a value out of range, 0x0B for an unknown unit id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simcore import SimCore

from libs.clock import monotonic_ms
from libs.errors import InvalidError, NotFoundError, UnavailableError
from services.simulator.registers import RegisterMap, Table
from services.simulator.settings import SimulateSettings, build_site

log = logging.getLogger(__name__)

# Which table each function code addresses; 22 and 23 are mask write and read/write.
TABLES: Final = {
    1: Table.COIL, 5: Table.COIL, 15: Table.COIL,
    2: Table.DISCRETE,
    4: Table.INPUT,
    3: Table.HOLDING, 6: Table.HOLDING, 16: Table.HOLDING, 22: Table.HOLDING, 23: Table.HOLDING,
}  # fmt: skip
# After a pause longer than this (a suspended machine) the site skips ahead instead of
# blocking its masters with the steps it missed.
MAX_CATCH_UP_STEPS: Final = 50


class Units(SimCore):
    """What pymodbus asks for values: the register maps behind one port, by unit id."""

    def __init__(self, maps: dict[int, RegisterMap]) -> None:
        """Keep the maps; pymodbus' own memory behind SimCore is not used."""
        super().__init__(SimDevice(0, SimData(0, datatype=DataType.REGISTERS)))
        self.maps = maps

    def device_ids(self) -> list[int]:
        """Return the unit ids, for broadcasts."""
        return list(self.maps)

    async def async_getValues(  # noqa: N802 - pymodbus' name
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Read a span."""
        unit = self.maps.get(device_id)
        if unit is None:
            return ExcCodes.GATEWAY_NO_RESPONSE
        table = TABLES[func_code]
        try:
            words = unit.read(table, address, count)
        except NotFoundError as error:
            log.debug("refused: %s", error)
            return ExcCodes.ILLEGAL_ADDRESS
        return [bool(word) for word in words] if table.bits else words

    async def async_setValues(  # noqa: N802 - pymodbus' name
        self, device_id: int, func_code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        """Write a span: all of it or nothing."""
        unit = self.maps.get(device_id)
        if unit is None:
            return ExcCodes.GATEWAY_NO_RESPONSE
        try:
            unit.write(TABLES[func_code], address, [int(value) for value in values])
        except NotFoundError as error:
            log.info("refused: %s", error)
            return ExcCodes.ILLEGAL_ADDRESS
        except InvalidError as error:
            log.info("refused: %s", error)
            return ExcCodes.ILLEGAL_VALUE
        return None


class Simulator:
    """A running site: its listeners and the loop that steps it in real time.

    A test that wants to own the time opens it and calls `site.step()` itself.
    """

    def __init__(
        self,
        settings: SimulateSettings,
        port_base: int,
        clock: Callable[[], int] = monotonic_ms,
    ) -> None:
        """Build the site; nothing listens yet. `clock` gives milliseconds that never step."""
        self.settings = settings
        self.clock = clock
        self.site = build_site(settings)
        self.units: dict[int, dict[int, RegisterMap]] = defaultdict(dict)
        for device, described in zip(self.site.devices, settings.devices, strict=True):
            port = described.port_for(port_base)
            self.units[port][described.unit_id] = RegisterMap(device, described.registers)
        self.servers: list[ModbusTcpServer] = []

    async def open(self) -> None:
        """Take the first step, so that no register reads as unset, then listen.

        Raises:
            UnavailableError: a port is taken; those opened before it are closed again.
        """
        self.site.step()
        for port, maps in self.units.items():
            placeholder = SimDevice(0, SimData(0, datatype=DataType.REGISTERS))
            server = ModbusTcpServer(placeholder, address=(str(self.settings.host), port))
            server.context = Units(maps)
            self.servers.append(server)
            try:
                await server.serve_forever(background=True)
            except RuntimeError as error:
                await self.close()
                names = ", ".join(unit.device.name for unit in maps.values())
                msg = f"{self.settings.host}:{port} ({names}) can't be opened; is it taken?"
                raise UnavailableError(msg) from error

    async def close(self) -> None:
        """Close every listener and connection."""
        for server in self.servers:
            await server.shutdown()  # type: ignore[no-untyped-call]
        self.servers.clear()

    async def run(self) -> None:
        """Step the site in real time until cancelled."""
        step_ms = self.settings.step_ms
        started = self.clock()
        done = 0
        while True:
            due = (self.clock() - started) // step_ms
            if due - done > MAX_CATCH_UP_STEPS:
                log.warning("skipped %d steps after a pause", due - done - 1)
                done = due - 1
            while done < due:
                self.site.step()
                done += 1
            await asyncio.sleep((started + (done + 1) * step_ms - self.clock()) / 1000)
