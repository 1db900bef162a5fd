"""A Modbus device on TCP written for these tests from the specification, with faults on demand.

It shares no code with the product: MODBUS Application Protocol V1.1b3, Messaging on TCP/IP
V1.0b and Serial Line V1.02 are its only sources. With `rtu` it takes RTU frames, as a serial
server with one line behind it does; with `tls` it speaks TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time
from collections import Counter, deque
from collections.abc import Callable


def crc(data: bytes) -> bytes:
    """Return the check bytes of an RTU frame, bit by bit as Serial Line V1.02, 6.2.2 says."""
    value = 0xFFFF
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class Device:
    """Coils, inputs and registers of every unit in dictionaries; an address that is absent is illegal."""

    def __init__(self, *, rtu: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._rtu = rtu
        self._tls = tls
        self.bits: dict[tuple[int, int, int], bool] = {}
        self.registers: dict[tuple[int, int, int], int] = {}
        self.requests: list[tuple[int, int, int, int]] = []
        # When each of them came, by the monotonic clock.
        self.moments: list[float] = []
        self.connections = 0
        self.most_connections = 0
        self.in_flight = 0
        self.most_in_flight = 0
        # Faults. Each of `twists` makes one answer's frame into the bytes that are sent instead.
        self.twists: deque[Callable[[bytes], bytes]] = deque()
        self.silent_units: set[int] = set()
        self.silent_codes: set[int] = set()
        # Units that answer everything with an exception, and with which.
        self.failing_units: dict[int, int] = {}
        # Seconds that a register takes, and that a unit takes to answer.
        self.register_s = 0.0
        self.slow_units: dict[int, float] = {}
        self.longest = 125
        self.drop_after: int | None = None
        self.fragment = False
        self.answer_late_once = False
        self.frozen: Counter[tuple[int, int, int]] = Counter()
        self.delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    async def start(self) -> None:
        """Listen, again on the same port after a stop."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def set_registers(self, address: int, *values: int, unit: int = 1, table: int = 3) -> None:
        """Set registers of a table (3 holding, 4 input)."""
        for offset, value in enumerate(values):
            self.registers[unit, table, address + offset] = value & 0xFFFF

    def set_bits(self, address: int, *values: bool, unit: int = 1, table: int = 1) -> None:
        """Set bits of a table (1 coils, 2 discrete inputs)."""
        for offset, value in enumerate(values):
            self.bits[unit, table, address + offset] = bool(value)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        self.most_connections = max(self.most_connections, len(self._writers))
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
        """Return transaction, unit and PDU of the next request."""
        if not self._rtu:
            transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
            return transaction, unit, await reader.readexactly(length - 1)
        frame = await reader.readexactly(8)
        if frame[1] in {15, 16}:
            frame += await reader.readexactly(frame[6] + 1)
        assert crc(frame[:-2]) == frame[-2:]
        return 0, frame[0], frame[1:-2]

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        transaction, unit, request = await self._request(reader)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        size_s = self.register_s * int.from_bytes(request[3:5], "big")
        if delay_s := self.delay_s + self.slow_units.get(unit, 0.0) + size_s:
            await asyncio.sleep(delay_s)
        self.in_flight -= 1
        self.moments.append(time.monotonic())
        self.requests.append((unit, request[0], *struct.unpack(">HH", request[1:5])))
        if self.drop_after is not None:
            self.drop_after -= 1
            if self.drop_after < 0:
                self.drop_after = None
                return False
        if unit in self.silent_units or request[0] in self.silent_codes:
            return True
        failing = self.failing_units.get(unit)
        answer = bytes((request[0] | 0x80, failing)) if failing else self._answer(unit, request)
        frame = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
        if self._rtu:
            frame = bytes((unit,)) + answer
            frame += crc(frame)
        if self.twists:
            frame = self.twists.popleft()(frame)
        if self.answer_late_once:
            # The answer to this request comes before the answer to the next one.
            self.answer_late_once = False
            self._late = frame
            return True
        writer.write(getattr(self, "_late", b""))
        self._late = b""
        if self.fragment:
            for index in range(len(frame)):
                writer.write(frame[index : index + 1])
                await writer.drain()
                await asyncio.sleep(0)
        else:
            writer.write(frame)
        await writer.drain()
        return True

    def _answer(self, unit: int, request: bytes) -> bytes:
        code = request[0]
        address, number = struct.unpack(">HH", request[1:5])
        try:
            if code in {1, 2}:
                return self._read_bits(unit, code, address, number)
            if code in {3, 4}:
                if number > self.longest:
                    return bytes((code | 0x80, 2))
                words = [self.registers[unit, code, address + offset] for offset in range(number)]
                return struct.pack(f">BB{number}H", code, 2 * number, *words)
            self._write(unit, code, address, number, request)
            return request[:5]
        except KeyError:
            return bytes((code | 0x80, 2))

    def _read_bits(self, unit: int, code: int, address: int, number: int) -> bytes:
        packed = bytearray((number + 7) // 8)
        for offset in range(number):
            packed[offset // 8] |= self.bits[unit, code, address + offset] << offset % 8
        return bytes((code, len(packed))) + packed

    def _write(self, unit: int, code: int, address: int, number: int, request: bytes) -> None:
        if code in {5, 15}:
            values = [number == 0xFF00] if code == 5 else [bool(request[6] >> bit & 1) for bit in range(number)]
            places = [(unit, 1, address + offset) for offset in range(len(values))]
            target: dict[tuple[int, int, int], int] | dict[tuple[int, int, int], bool] = self.bits
        else:
            values = [number] if code == 6 else list(struct.unpack(f">{number}H", request[6:]))  # type: ignore[assignment]
            places = [(unit, 3, address + offset) for offset in range(len(values))]
            target = self.registers
        for place in places:
            target[place]
        for place, value in zip(places, values, strict=True):
            if place not in self.frozen:
                target[place] = value
