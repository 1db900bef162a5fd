"""How `voltage modbus` reaches a device: through the running channel that has it, else directly.

A device that takes one client only would drop the poller for us, or us for the poller. So a
device that a running channel polls is always asked through that channel's link.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import click

from libs.errors import ConfigurationError, InvalidError, NotFoundError, UnavailableError, VoltageError
from libs.services import resolve_port
from services.commands.api import pages, request
from services.commands.points import read_site
from services.comsrv.channel import Channel, ChannelSettings, Points
from services.comsrv.contract import ComBase, NoAnswerError, RefusedError
from services.comsrv.plugins.registry import protocols

MAX_CHANNELS: Final = 1000
OWN: Final = 999_999_999


class Access(Protocol):
    """Reads and writes registers as they are; a DeviceError says what the device made of it."""

    async def read(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Return registers, or bits as 0 and 1."""
        ...

    async def write(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers or bits."""
        ...


class Direct:
    """A connection of our own."""

    def __init__(self, plugin: ComBase) -> None:
        """Take a connected plugin."""
        self._plugin = plugin

    async def read(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Return registers, or bits as 0 and 1."""
        return await self._plugin.read_registers(unit, code, address, count)

    async def write(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers or bits."""
        await self._plugin.write_registers(unit, code, address, values)


class ThroughChannel:
    """The link of a channel that runs, by the API."""

    def __init__(self, channel: int) -> None:
        """Name the channel."""
        self._path = f"/api/channels/{channel}/registers"

    async def read(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Return registers, or bits as 0 and 1."""
        query = {"unit": unit, "function_code": code, "address": address, "count": count}
        found = await asyncio.to_thread(request, self._path, query, None, "engineer")
        _raise(found)
        values: list[int] = found["values"]
        return values

    async def write(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers or bits."""
        body = {"unit": unit, "function_code": code, "address": address, "values": values}
        _raise(await asyncio.to_thread(request, self._path, None, body, "engineer", "PUT"))


def _raise(found: dict[str, Any]) -> None:
    if found["exception_code"] is not None:
        raise RefusedError(found["exception_code"], found["problem"])
    if found["problem"]:
        raise NoAnswerError(found["problem"])


@asynccontextmanager
async def access(
    channel: int | None, protocol: str, parameters: dict[str, Any], *, port_base: int
) -> AsyncIterator[Access]:
    """Give the way to a device: of a channel, or by the parameters of a protocol.

    Raises:
        InvalidError: neither is given, or the parameters are wrong.
        DeviceError: no connection.
    """
    if channel is None and not parameters.get("host") and not protocol == "modbus_rtu":
        raise InvalidError("name the device: --channel 1001, --host 192.0.2.7 or --serial /dev/ttyUSB0")
    running = await asyncio.to_thread(_running, channel, parameters, port_base)
    if running is not None:
        if channel is None:
            click.echo(f"channel {running} polls this device; going through its link", err=True)
        yield ThroughChannel(running)
        return
    settings = _declared(channel) if channel is not None else None
    plugin = _plugin(settings.protocol if settings else protocol)
    if settings is None:
        settings = ChannelSettings(id=OWN, name="voltage modbus", protocol=protocol, parameters=parameters)
    found = plugin.parameters.model_validate(settings.parameters)
    own = Channel(**settings.model_dump(exclude={"points", "source", "parameters"}), points=Points())
    own = own.model_copy(update={"parameters": found.model_dump()})
    instance = plugin()
    await instance.initialize(own, port_base=port_base)
    try:
        await instance.connect()
        yield Direct(instance)
    finally:
        await instance.close()


def _running(channel: int | None, parameters: dict[str, Any], port_base: int) -> int | None:
    """Return the channel to go through: the one named, or the one that polls the endpoint."""
    try:
        if channel is not None:
            request(f"/api/channels/{channel}")
            return channel
        wanted = _endpoint(parameters, port_base)
        items = pages("/api/channels", {}, MAX_CHANNELS)
    except UnavailableError:
        return None
    live = [item for item in items if item.get("state") not in {"stopped", "standby"}]
    return next((item["id"] for item in live if _endpoint(item.get("parameters") or {}, port_base) == wanted), None)


def _endpoint(parameters: dict[str, Any], port_base: int) -> tuple[str, int] | str | None:
    """Return what names a device: its address and port, or its serial port."""
    host, port = parameters.get("host"), parameters.get("port", 502)
    if host is None:
        return str(port) if isinstance(port, str) and port.startswith("/") else None
    try:
        return socket.gethostbyname(str(host)), resolve_port(port, port_base)
    except (OSError, VoltageError):
        return str(host), 0


def _declared(channel: int) -> ChannelSettings:
    """Return what the files say about a channel, for a site that does not run."""
    try:
        _, channels = read_site()
    except ConfigurationError as error:
        raise InvalidError(f"nothing runs, and the tables have problems: {error}") from None
    found = next((one for one in channels if one.id == channel), None)
    if found is None:
        raise NotFoundError(f"channel {channel} is in no file, and nothing runs that could know it")
    return found


def _plugin(name: str) -> type[ComBase]:
    found = protocols().get(name)
    if found is None:
        raise InvalidError(f"unknown protocol {name!r}")
    return found
