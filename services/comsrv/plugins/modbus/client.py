"""One channel's use of a link: reads and writes in Modbus' terms, raw bytes out, our errors.

pymodbus packs the writes and drives serial ports. Reads are framed here (`frames`): a block
costs a third of what pymodbus' request and response objects cost, and what is no answer to
the request is told apart and counted.
"""

from __future__ import annotations

from typing import Final

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import WriteMultipleCoilsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from services.comsrv.contract import Speed
from services.comsrv.line import Line
from services.comsrv.plugins.modbus import frames
from services.comsrv.plugins.modbus.links import link_of, place_of
from services.comsrv.plugins.modbus.parameters import TcpParameters, Timing
from services.comsrv.traffic import Traffic

# A unit of a serial line is waited for at least so long.
LEAST_RTU_S: Final = 0.2


class Client:
    """A channel's way to its devices; `connect` again after NotConnectedError."""

    def __init__(self, parameters: Timing, port_base: int, name: str = "another channel") -> None:
        """Find the link; nothing is connected yet. `name` tells other channels who shares it."""
        self._place = place_of(parameters, port_base)
        self._link = link_of(self._place)
        self._name = name
        self._timeout_s = parameters.timeout_ms / 1000
        self._retries = parameters.retries
        self._any_unit = isinstance(parameters, TcpParameters) and parameters.any_unit

    @property
    def line(self) -> Line:
        """The line of every channel of the link."""
        return self._link.line

    @property
    def speed(self) -> Speed:
        """How fast the link is."""
        key, endpoints, settings = self._place
        # Of an RTU frame: unit, code, byte count, check bytes; of a TCP frame the header.
        sizes = (8, 5) if settings.rtu else (12, 9)
        character_s, gap_s = settings.character_s, settings.gap_s
        return Speed(" ".join(key), endpoints[0].name, *sizes, character_s, gap_s, settings.pause_s)

    @property
    def traffic(self) -> Traffic:
        """What goes over the link."""
        return self._link.traffic

    async def connect(self, longest_pause_ms: int = 10_000) -> None:
        """Connect, or share the connection there is; or raise NotConnectedError."""
        self._link.join(self, self._name, self._place.endpoints, self._place.settings, longest_pause_ms)
        await self._link.connect(self._timeout_s)

    async def close(self) -> None:
        """Leave the link; its last channel closes the connection."""
        await self._link.leave(self)

    async def read(self, unit: int, code: int, address: int, count: int, timeout_ms: int | None = None) -> bytes:
        """Return the data bytes of a read answer; with `timeout_ms` wait so long, once.

        On a line of RTU frames the wait has a least: a unit that is given up early may begin
        to answer into its neighbor's request.

        Raises:
            DeviceError: no connection, no answer, an exception code, or an answer that can't be taken.
        """
        timeout_s = self._timeout_s
        if timeout_ms is not None:
            least_s = LEAST_RTU_S if self._place.settings.rtu else 0.0
            timeout_s = min(timeout_s, max(timeout_ms / 1000, least_s))
        pdu = await self._link.transact(
            unit,
            frames.read(code, address, count),
            timeout_s,
            retries=self._retries if timeout_ms is None else 0,
            any_unit=self._any_unit,
        )
        return pdu[2:]

    async def write_bits(self, unit: int, code: int, address: int, bits: list[bool]) -> None:
        """Write one coil with function code 5, or several with 15."""
        request = WriteSingleCoilRequest if code == 5 else WriteMultipleCoilsRequest
        await self._write(unit, request(address=address, bits=bits))

    async def write_registers(self, unit: int, code: int, address: int, data: bytes) -> None:
        """Write registers with function code 6 or 16; `data` is as it goes over the wire."""
        registers = [int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2)]
        request = WriteSingleRegisterRequest if code == 6 else WriteMultipleRegistersRequest
        await self._write(unit, request(address=address, registers=registers))

    async def mask_write(self, unit: int, address: int, and_mask: int, or_mask: int) -> None:
        """Change bits of a register with function code 22: (register AND and_mask) OR (or_mask AND NOT and_mask)."""
        await self._write(unit, MaskWriteRegisterRequest(address=address, and_mask=and_mask, or_mask=or_mask))

    async def write_and_read(self, unit: int, address: int, data: bytes, read_address: int) -> bytes:
        """Write registers and read as many at an address, with one request of function code 23; the write is first."""
        query = frames.write_and_read(address, data, read_address, len(data) // 2)
        return (await self._link.transact(unit, query, self._timeout_s, any_unit=self._any_unit))[2:]

    async def _write(self, unit: int, request: ModbusPDU) -> None:
        """Send a write once."""
        query = frames.write(bytes((request.function_code,)) + request.encode())
        if unit == 0 and self._place.settings.rtu:
            await self._link.broadcast(query)
        else:
            await self._link.transact(unit, query, self._timeout_s, any_unit=self._any_unit)
