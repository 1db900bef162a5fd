"""Function codes: a request's bytes to the bytes of its answer.

Served are 1 to 6, 15, 16, 22, 23 and 43/14 (device identification), after the MODBUS
Application Protocol Specification V1.1b3.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final

from services.comsrv.serving.image import ILLEGAL_FUNCTION, ILLEGAL_VALUE, Image, RefusedRequest, decode
from services.comsrv.serving.source import Source
from services.comsrv.serving.writes import Wish, Writer

READ_TABLES: Final = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
MAX_BITS, MAX_REGISTERS = 2000, 125
MAX_WRITTEN_BITS, MAX_WRITTEN_REGISTERS, MAX_EXCHANGED = 1968, 123, 121
WRITES: Final = frozenset((5, 6, 15, 16, 22, 23))
COIL_VALUES: Final = {0xFF00: 1, 0x0000: 0}

# Takes unit, function code, the bytes behind it and the master's name; returns the bytes behind the answer's code.
Handler = Callable[[int, int, bytes, str], Awaitable[bytes]]


class Requests:
    """Answers requests of one connection's master; `may_write` says whether it may change anything."""

    def __init__(self, source: Source, writer: Writer, *, hold: bool) -> None:
        """Keep what answers come from; `hold` shows stale values instead of refusing them."""
        self.counts: Counter[str] = Counter()
        self._source = source
        self._image: Image = source.image
        self._writer = writer
        self._hold = hold
        self._handlers: dict[int, Handler] = {
            **dict.fromkeys(READ_TABLES, self._read),
            5: self._write_coil,
            6: self._write_register,
            15: self._write_coils,
            16: self._write_registers,
            22: self._mask,
            23: self._exchange,
            43: self._identify,
        }

    async def answer(self, unit: int, pdu: bytes, master: str, *, may_write: bool) -> bytes:
        """Return the answer to a PDU: the function code and data, or an exception."""
        code = pdu[0]
        self.counts["requests"] += 1
        try:
            handler = self._handler(code, may_write=may_write)
            await self._source.refresh()
            return bytes([code]) + await handler(self._image.unit(unit), code, pdu[1:], master)
        except struct.error:
            refused = ILLEGAL_VALUE
        except RefusedRequest as error:
            refused = error.code
        self.counts[f"exception_{refused}"] += 1
        return bytes([code | 0x80, refused])

    def _handler(self, code: int, *, may_write: bool) -> Handler:
        handler = self._handlers.get(code)
        if handler is None or (code in WRITES and not may_write):
            raise RefusedRequest(ILLEGAL_FUNCTION)
        return handler

    async def _read(self, unit: int, code: int, body: bytes, _: str) -> bytes:
        address, count = struct.unpack(">HH", body)
        _bounded(count, MAX_BITS if code in {1, 2} else MAX_REGISTERS)
        data = self._image.read(unit, READ_TABLES[code], address, count, hold=self._hold)
        return bytes([len(data)]) + data

    async def _write_coil(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        address, value = struct.unpack(">HH", body)
        if value not in COIL_VALUES:
            raise RefusedRequest(ILLEGAL_VALUE)
        await self._bits(unit, address, [COIL_VALUES[value]], master)
        return body

    async def _write_coils(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        address, count, size = struct.unpack(">HHB", body[:5])
        _bounded(count, MAX_WRITTEN_BITS)
        data = _sized(body[5:], size, (count + 7) // 8)
        bits = [data[index // 8] >> index % 8 & 1 for index in range(count)]
        await self._bits(unit, address, bits, master)
        return body[:4]

    async def _write_register(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        (address,) = struct.unpack(">H2x", body)
        await self._registers(unit, address, body[2:], master)
        return body

    async def _write_registers(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        address, count, size = struct.unpack(">HHB", body[:5])
        _bounded(count, MAX_WRITTEN_REGISTERS)
        await self._registers(unit, address, _sized(body[5:], size, 2 * count), master)
        return body[:4]

    async def _mask(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        address, keep, put = struct.unpack(">HHH", body)
        present = self._image.read(unit, "holding", address, 1, hold=False)
        word = int.from_bytes(present, "big") & keep | put & ~keep & 0xFFFF
        await self._registers(unit, address, word.to_bytes(2, "big"), master)
        return body

    async def _exchange(self, unit: int, _: int, body: bytes, master: str) -> bytes:
        address, count, written, number, size = struct.unpack(">HHHHB", body[:9])
        _bounded(count, MAX_REGISTERS)
        _bounded(number, MAX_EXCHANGED)
        data = _sized(body[9:], size, 2 * number)
        self._image.read(unit, "holding", address, count, hold=self._hold)
        await self._registers(unit, written, data, master)
        await self._source.refresh()
        found = self._image.read(unit, "holding", address, count, hold=self._hold)
        return bytes([len(found)]) + found

    async def _bits(self, unit: int, address: int, bits: list[int], master: str) -> None:
        rows = self._image.covered(unit, "coil", address, len(bits))
        await self._writer.write([Wish(row, float(bit)) for row, bit in zip(rows, bits, strict=True)], master)
        self.counts["writes"] += len(bits)

    async def _registers(self, unit: int, address: int, data: bytes, master: str) -> None:
        rows = self._image.covered(unit, "holding", address, len(data) // 2)
        wishes = [Wish(row, decode(row, data[2 * (row.address - address) :][: 2 * row.width])) for row in rows]
        await self._writer.write(wishes, master)
        self.counts["writes"] += len(wishes)

    async def _identify(self, _: int, __: int, body: bytes, ___: str) -> bytes:
        """Read Device Identification (43/14): the basic objects, as a stream or one of them."""
        kind, how, first = struct.unpack(">BBB", body)
        if kind != 14:
            raise RefusedRequest(ILLEGAL_FUNCTION)
        objects = {0: "VoltageEMS", 1: "voltage-modbus-server", 2: version("voltageems")}
        if how not in {1, 4} or (how == 4 and first not in objects):
            raise RefusedRequest(ILLEGAL_VALUE if how not in {1, 4} else 2)
        start = first if first in objects else 0
        chosen = {
            number: text for number, text in objects.items() if (number == start if how == 4 else number >= start)
        }
        listed = b"".join(bytes([number, len(text)]) + text.encode() for number, text in chosen.items())
        return bytes([14, how, 0x81, 0, 0, len(chosen)]) + listed


def _bounded(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise RefusedRequest(ILLEGAL_VALUE)


def _sized(data: bytes, said: int, size: int) -> bytes:
    if len(data) != said or said != size:
        raise RefusedRequest(ILLEGAL_VALUE)
    return data
