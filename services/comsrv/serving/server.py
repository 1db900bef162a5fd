"""Connections, frames and limits of the Modbus TCP server.

Our own frames, because pymodbus' server answers only one of several requests that come in
one segment, and SCADA sends them so (three in one segment, one answer, seen with 3.16.1).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
from collections.abc import Mapping
from typing import Any, Final

from libs.clock import now_ms
from libs.errors import UnavailableError
from libs.tasks import cancel
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.runner import Runner
from services.comsrv.serving.image import Image
from services.comsrv.serving.requests import Requests
from services.comsrv.serving.settings import ModbusServerSettings
from services.comsrv.serving.source import Source
from services.comsrv.serving.table import Served
from services.comsrv.serving.writes import Writer

log = logging.getLogger(__name__)

# Transaction id, protocol id, length of what follows, unit id.
HEADER: Final = struct.Struct(">HHHB")
MAX_PDU: Final = 253

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ModbusServer:
    """Listens, and answers each connection's requests in their order."""

    def __init__(self, requests: Requests, settings: ModbusServerSettings, port: int) -> None:
        """Keep what answers; nothing listens yet."""
        self.requests = requests
        self.port = port
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], dict[str, Any]] = {}
        self._allow = [ipaddress.ip_network(text) for text in settings.allow_from]
        self._write = [ipaddress.ip_network(text) for text in settings.write_from]

    async def open(self) -> None:
        """Listen.

        Raises:
            UnavailableError: the address can't be opened.
        """
        host = str(self._settings.host)
        try:
            self._server = await asyncio.start_server(self._serve, host, self.port, limit=1024)
        except OSError as error:
            raise UnavailableError(f"the Modbus server can't open {host}:{self.port}: {error.strerror}") from error
        log.info("Modbus server on %s:%s", host, self.port)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        await cancel(*self._clients)

    def document(self) -> dict[str, Any]:
        """Return what the API shows."""
        return {
            "address": f"{self._settings.host}:{self.port}",
            "clients": list(self._clients.values()),
            "counts": dict(self.requests.counts),
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends, is idle for too long, or sends what is no Modbus."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        address = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        if not _within(address, self._allow) or len(self._clients) >= self._settings.max_clients:
            self.requests.counts["refused_connections"] += 1
            writer.transport.abort()
            return
        about = {"address": str(address), "since_ms": now_ms(), "requests": 0}
        self._clients[task] = about
        try:
            await self._answer(reader, writer, about, may_write=_within(address, self._write))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._clients.pop(task, None)
            writer.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, about: dict[str, Any], *, may_write: bool
    ) -> None:
        while True:
            async with asyncio.timeout(self._settings.idle_s):
                transaction, protocol, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
                if protocol != 0 or not 2 <= length <= MAX_PDU + 1:
                    self.requests.counts["foreign_frames"] += 1
                    return
                pdu = await reader.readexactly(length - 1)
            about["requests"] += 1
            answer = await self.requests.answer(unit, pdu, about["address"], may_write=may_write)
            writer.write(HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer)
            async with asyncio.timeout(self._settings.idle_s):
                await writer.drain()


def build(
    functions: ComsrvFunctions,
    runners: Mapping[int, Runner],
    settings: ModbusServerSettings,
    rows: tuple[Served, ...],
    port: int,
) -> ModbusServer:
    """Put a server together for the rows of the table; nothing listens yet."""

    def blocks(channel: int) -> dict[str, str]:
        runner = runners.get(channel)
        known = runner.poller.blocks if runner is not None and runner.poller is not None else ()
        return {
            f"{section.kind}:{point}": block.name
            for block in known
            for section in block.sections
            for point in section.ids
        }

    image = Image(rows, settings.mirrors)
    source = Source(functions.functions, image, blocks, cache_ms=settings.cache_ms, stale_ms=settings.stale_after_ms)
    writer = Writer(functions, runners, ttl_ms=settings.ttl_ms, wait_ms=settings.wait_ms)
    return ModbusServer(Requests(source, writer, hold=settings.stale == "hold"), settings, port)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: list[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
