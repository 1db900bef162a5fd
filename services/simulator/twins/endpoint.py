"""A link and the units behind it: it listens, answers, and misbehaves while a fault is under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import tty
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from libs.clock import monotonic_ms
from libs.errors import UnavailableError
from services.simulator.twins.faults import Active, Answer, Fault, Kind, Part, spoil
from services.simulator.twins.frames import Framing, Request, RtuFraming
from services.simulator.twins.log import Log
from services.simulator.twins.unit import READS, Unit, asked_of

GATEWAY_NO_RESPONSE: Final = 0x0B
# How much of a write takes effect during a fault; all of it during any other.
WRITTEN: Final = {Kind.EXCEPTION: 0.0, Kind.SILENCE: 0.0, Kind.IGNORED_WRITE: 0.0, Kind.HALF_WRITE: 0.5}
_NUMBERS: Final = count(1)


class Connection(asyncio.Protocol):
    """One client, or the serial line. Answers leave in the order of their requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Wait for bytes."""
        self.number = next(_NUMBERS)
        self.hung = False
        self.last = b""
        self.transport: asyncio.Transport | None = None
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._parts: asyncio.Queue[Part] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client, unless the device has one already and takes no second."""
        if not isinstance(transport, asyncio.Transport):
            return
        self.transport = transport
        self._endpoint.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        del exc
        if self._sending is not None:
            self._sending.cancel()
        self._endpoint.lost(self)

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        if self.hung:
            return
        self._buffer += data
        try:
            requests = self._endpoint.framing.requests(self._buffer)
        except ValueError:
            self.reset()
            return
        for request in requests:
            self._endpoint.take(self, request)

    def send(self, parts: list[Part]) -> None:
        """Send parts after all that is under way; at once where nothing has to wait."""
        if self._sending is None and not any(part.after_s for part in parts):
            for part in parts:
                self._part(part)
            return
        for part in parts:
            self._parts.put_nowait(part)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    def reset(self) -> None:
        """Drop the connection with a reset, what is under way with it. A serial line has none to drop."""
        self._buffer.clear()
        if self._endpoint.serial:
            return
        transport, self.transport = self.transport, None
        if transport is not None:
            with contextlib.suppress(OSError):
                # One in TLS that is closing has none any more.
                if (sock := transport.get_extra_info("socket")) is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    async def _send(self) -> None:
        while not self._parts.empty():
            part = self._parts.get_nowait()
            await asyncio.sleep(part.after_s)
            self._part(part)
        self._sending = None

    def _part(self, part: Part) -> None:
        if self.transport is not None and not self.hung:
            self.transport.write(part.data)
        if part.reset:
            self.reset()


class Endpoint:
    """Where devices are reached: a TCP port, or a pseudo-terminal for RTU."""

    def __init__(
        self,
        name: str,
        place: tuple[str, int] | Path,
        units: Mapping[int, Unit],
        framing: Framing,
        log: Log,
        seed: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Keep what it works with; nothing listens yet."""
        self._tls = tls
        self.name = name
        self.place = place
        self.units = dict(units)
        self.framing = framing
        self.clients: set[Connection] = set()
        self.good: dict[int, asyncio.Event] = {unit: asyncio.Event() for unit in self.units}
        self._log = log
        self._random = Random(f"{seed}/{name}")  # noqa: S311 - simulated faults, nothing secret
        self._faults: dict[int, Active] = {}
        self._taken = False
        self._server: asyncio.Server | None = None
        self._line: tuple[int, int] | None = None
        self._reading: asyncio.ReadTransport | None = None

    @property
    def serial(self) -> bool:
        """True for a pseudo-terminal."""
        return isinstance(self.place, Path)

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return str(self.place) if isinstance(self.place, Path) else f"{self.place[0]}:{self.place[1]}"

    @property
    def listening(self) -> bool:
        """True while masters can reach it."""
        return self._server is not None or self._line is not None

    async def open(self) -> None:
        """Listen.

        Raises:
            UnavailableError: the port or the name is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self.place, Path):
                await self._open_line(self.place)
            else:
                self._server = await loop.create_server(
                    lambda: Connection(self), *self.place, reuse_address=True, ssl=self._tls
                )
        except OSError as error:
            msg = f"{self.name}: {self.address} can't be opened: {error.strerror}"
            raise UnavailableError(msg) from error

    async def close(self) -> None:
        """Close the listener and every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for client in list(self.clients):
            if self.serial and client.transport is not None:
                client.transport.abort()
            client.reset()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
        line, self._line = self._line, None
        if isinstance(self.place, Path) and line is not None:
            _hang_up(self.place, line)
        # A closed transport tells its protocol in the next turn of the loop.
        await asyncio.sleep(0)

    def connected(self, client: Connection) -> None:
        """Take a client in, or send it away."""
        if self._taken:
            client.reset()
            return
        self.clients.add(client)
        self._log.write("connect", self.name, c=client.number)

    def lost(self, client: Connection) -> None:
        """Forget a client."""
        if client in self.clients:
            self.clients.discard(client)
            self._log.write("closed", self.name, c=client.number)

    def take(self, client: Connection, request: Request) -> None:
        """Answer a request, or do what the fault under way says."""
        unit = self.units.get(request.unit)
        if unit is None:
            self._unknown(client, request)
            return
        active = self._faults.get(request.unit)
        asked = asked_of(request.pdu) if request.known and len(request.pdu) >= 5 else None
        spoiled = active if active is not None and active.concerns(asked) else None
        # Nobody looks at a device but by requests, so what is due is as good as done in time.
        if unit.revert(monotonic_ms()):
            log_step(self._log, unit)
        # A device whose answer is lost has done what was asked.
        written = WRITTEN.get(spoiled.fault.kind, 1.0) if spoiled is not None else 1.0
        if spoiled is not None and asked is not None and spoiled.fault.kind is Kind.REVERTED_WRITE:
            unit.keep(asked, monotonic_ms() + spoiled.fault.ms)
        pdu = unit.answer(request.pdu, written=written)
        self._note(client, unit, request, spoiled, pdu, applied=asked is not None and int(asked.number * written) > 0)
        if spoiled is None:
            parts = [Part(0.0, self.framing.frame(request.transaction, request.unit, pdu))]
            if pdu[0] in READS:
                self.good[request.unit].set()
        else:
            spoiled.hit()
            parts = spoil(spoiled.fault, Answer(self.framing, request, pdu, client.last, self._random))
        client.last = self.framing.frame(request.transaction, request.unit, pdu)
        client.send(parts)

    def begin(self, unit: int, active: Active) -> None:
        """Let a fault of answers begin."""
        self._faults[unit] = active
        self.good[unit].clear()

    def end(self, unit: int) -> None:
        """Let the fault of a unit end."""
        self._faults.pop(unit, None)
        self.good[unit].clear()

    async def disturb(self, fault: Fault) -> int:
        """Run a fault of the link to its end; return how many clients it hit."""
        hit = len(self.clients)
        match fault.kind:
            case _ if self.serial:
                await self._dead_line(fault)
            case Kind.HANG:
                for client in self.clients:
                    client.hung = True
            case Kind.ONE_CLIENT:
                await self._ghost(fault.for_s)
            case Kind.REFUSE:
                await self.close()
                await asyncio.sleep(fault.for_s)
                await self.open()
            case _:
                await self.close()
                await asyncio.sleep(fault.for_s)
                self._restart()
                await self.open()
        for event in self.good.values():
            event.clear()
        return hit

    async def _dead_line(self, fault: Fault) -> None:
        """Let nobody on a serial line answer for a while: it can neither be refused nor hang for ever."""
        for client in self.clients:
            client.hung = True
        await asyncio.sleep(fault.for_s)
        if fault.kind is Kind.RESTART:
            self._restart()
        for client in self.clients:
            client.hung = False

    def _restart(self) -> None:
        for unit in self.units.values():
            unit.restart()
            log_step(self._log, unit)

    async def _ghost(self, for_s: float) -> None:
        """Hold on to clients that get no answer any more, gone or not, and take no other: half-open."""
        ghosts = list(self.clients)
        for client in ghosts:
            client.hung = True
        self._taken = bool(ghosts)
        await asyncio.sleep(for_s)
        self._taken = False
        for client in ghosts:
            client.reset()

    def _unknown(self, client: Connection, request: Request) -> None:
        """Answer for a unit that is not there as a gateway does; on a serial line nobody answers."""
        if not isinstance(self.framing, RtuFraming) and request.pdu:
            pdu = bytes((request.pdu[0] | 0x80, GATEWAY_NO_RESPONSE))
            client.send([Part(0.0, self.framing.frame(request.transaction, request.unit, pdu))])

    def _note(
        self, client: Connection, unit: Unit, request: Request, spoiled: Active | None, pdu: bytes, *, applied: bool
    ) -> None:
        if not self._log.wanted or len(request.pdu) < 5:
            return
        code, address, number = struct.unpack_from(">BHH", request.pdu)
        fault = spoiled.number if spoiled else 0
        self._log.write("request", unit.name, c=client.number, code=code, address=address, count=number, fault=fault)
        if request.known and asked_of(request.pdu).is_write:
            done = applied and not pdu[0] & 0x80
            data = request.pdu[3:].hex()
            self._log.write(
                "write", unit.name, address=asked_of(request.pdu).address, data=data, applied=done, image=unit.image()
            )

    async def _open_line(self, path: Path) -> None:
        """Make a pseudo-terminal whose other end has the name; closing it ends the line."""
        self._line = _pseudo_terminal(path)
        ours, _ = self._line
        loop = asyncio.get_running_loop()
        connection = Connection(self)
        self._reading, _ = await loop.connect_read_pipe(lambda: connection, os.fdopen(ours, "rb", 0, closefd=False))
        writing, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(os.dup(ours), "wb", 0))
        connection.transport = writing  # type: ignore[assignment]  # it writes and aborts; more is not asked of it
        self.connected(connection)


def log_step(log: Log, unit: Unit) -> None:
    """Write down what a device holds from now on."""
    if log.wanted:
        log.write("step", unit.name, n=unit.steps, image=unit.image())


def _pseudo_terminal(path: Path) -> tuple[int, int]:
    """Make a pseudo-terminal whose other end has the name.

    Both ends stay open, else the line would hang up with the first master that leaves.
    """
    if path.exists() or path.is_symlink():
        raise FileExistsError(17, "the name exists already")
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    path.symlink_to(os.ttyname(theirs))
    return ours, theirs


def _hang_up(path: Path, line: tuple[int, int]) -> None:
    path.unlink(missing_ok=True)
    for descriptor in line:
        with contextlib.suppress(OSError):
            os.close(descriptor)
