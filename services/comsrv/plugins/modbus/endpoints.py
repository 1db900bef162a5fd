"""Where a device is reached: a TCP address, with TLS or without, or a serial port."""

from __future__ import annotations

import asyncio
import errno
import socket
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pymodbus.transport.serialtransport import SerialTransport

from services.comsrv.plugins.modbus.parameters import RtuParameters, TlsParameters

Factory = Callable[[], asyncio.Protocol]

# A peer that vanished without a word is noticed by the kernel after about 10 + 3 * 5 s.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
# Bytes that were not acknowledged for so long end the connection.
MIN_UNACKNOWLEDGED_MS: Final = 5000
_PARITY: Final = {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"}


class Endpoint(ABC):
    """Opens connections to one place; `name` tells people which."""

    name: str

    @abstractmethod
    async def open(self, factory: Factory, timeout_s: float) -> None:
        """Connect the protocol that the factory makes. Raises OSError, with what the reason is."""


class TcpEndpoint(Endpoint):
    """A host and port."""

    def __init__(self, host: str, port: int, tls: TlsParameters | None = None) -> None:
        """Keep the address; with `tls` the connection is encrypted and the device's certificate checked."""
        self.name = f"{host}:{port}"
        self._host = host
        self._port = port
        self._tls = tls

    async def open(self, factory: Factory, timeout_s: float) -> None:
        """Connect. Raises OSError."""
        loop = asyncio.get_running_loop()
        more: dict[str, Any] = {}
        if self._tls is not None:
            try:
                # Made anew each time: certificates are renewed while we run.
                context = await loop.run_in_executor(None, self._tls.context)
            except ValueError as error:
                raise OSError(str(error)) from None
            more = {"ssl": context, "server_hostname": self._tls.server_name or self._host}
        try:
            async with asyncio.timeout(timeout_s):
                transport, _ = await loop.create_connection(factory, self._host, self._port, **more)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, f"no connection in {timeout_s:g} s") from None
        _watch(transport, timeout_s)


class SerialEndpoint(Endpoint):
    """A serial port. It is opened for this process alone."""

    def __init__(self, port: str, parameters: RtuParameters) -> None:
        """Keep the port and its settings."""
        self.name = port
        self._parameters = parameters

    async def open(self, factory: Factory, timeout_s: float) -> None:
        """Open the port. Raises OSError."""
        _ = timeout_s
        parameters = self._parameters
        # SerialException is an OSError; the other two say that the driver does not take a setting.
        try:
            transport = SerialTransport(
                asyncio.get_running_loop(),
                factory(),
                self.name,
                parameters.baud_rate,
                parameters.data_bits,
                _PARITY[parameters.parity],
                parameters.stop_bits,
                0,
            )
        except (ValueError, termios.error) as error:
            asked = f"{parameters.baud_rate} baud, parity {parameters.parity}, stop bits {parameters.stop_bits}"
            raise OSError(f"the port does not take {asked}: {error.args[-1]}") from None
        transport.setup()


def _watch(transport: asyncio.BaseTransport, timeout_s: float) -> None:
    """Have the kernel notice a peer that is gone; what the platform lacks is left out."""
    link = transport.get_extra_info("socket")
    if link is None:
        return
    unacknowledged_ms = max(MIN_UNACKNOWLEDGED_MS, int(3000 * timeout_s))
    with suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms)
