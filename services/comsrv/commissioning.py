"""Routes for putting a channel into operation: try a point before it is saved, look at registers.

They go through the channel's own link, between its polls, so that a device that takes one client
sees no second one. Nothing of it reaches the image.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from pydantic import Field, ValidationError

from libs.errors import StateError
from libs.http import USER, Role, Routes
from libs.points import PointKind
from libs.validation import Model, dotted, problems_of
from services.comsrv.appkeys import CHANNELS
from services.comsrv.channel import Channel, ChannelReporting, Point, Points
from services.comsrv.channels import Channels
from services.comsrv.contract import ComBase, DeviceError, RefusedError
from services.comsrv.line import Line
from services.comsrv.plugins.registry import protocols
from services.comsrv.tables import check_channel

log = logging.getLogger(__name__)
MAX_ADDRESS: Final = 65_535

routes = Routes()


class TryBody(Model):
    """A point to try, as a point table and a mapping table declare it; id and name may be left out."""

    type: PointKind = PointKind.TELEMETRY
    point: dict[str, Any]


class RegistersQuery(Model):
    """Which registers or bits to read; addresses count from 0."""

    unit: int = Field(1, ge=0, le=255)
    function_code: int = Field(3, ge=1, le=4)
    address: int = Field(ge=0, le=MAX_ADDRESS)
    count: int = Field(1, ge=1, le=2000)


class RegistersWrite(Model):
    """What to write where; addresses count from 0."""

    unit: int = Field(1, ge=0, le=255)
    function_code: int = Field(6, ge=5, le=16)
    address: int = Field(ge=0, le=MAX_ADDRESS)
    values: list[int] = Field(min_length=1, max_length=123)


@routes.post("/api/channels/{ch}/try", role=Role.ENGINEER, body=TryBody)
async def try_point(request: web.Request, body: TryBody) -> dict[str, Any]:
    """Read a point that is not saved yet: registers, value, and every problem of its declaration."""
    channels = request.app[CHANNELS]
    channel = channels.runner(int(request.match_info["ch"])).channel
    shown: dict[str, Any] = {
        "type": body.type.value, "value": None, "label": None, "quality": None, "at_ms": None, "address": None,
        "registers": [], "problems": [],
    }  # fmt: skip
    try:
        point = Point.model_validate({"id": 1, "name": "tried", **body.point})
    except ValidationError as error:
        return shown | {"problems": [str(problem) for problem in problems_of(error, Point, _field)]}
    points = Points(**{body.type.value: (point,)})
    alone = channel.model_copy(update={"points": points, "reporting": ChannelReporting()})
    place = f"{body.type}:{point.id}"
    found = check_channel(alone, channels.port_base, place, lambda _kind, _id, part: part)
    if found:
        return shown | {"problems": [str(problem) for problem in found]}
    try:
        async with _borrowed(channels, alone) as plugin:
            trial = await plugin.try_point(body.type, point)
    except DeviceError as error:
        return shown | {"quality": error.quality, "problems": [str(error)]}
    meanings = point.meanings or {}
    label = meanings.get(f"{trial.value:.15g}") if isinstance(trial.value, float) else None
    return shown | trial._asdict() | {"label": label}


@routes.get("/api/channels/{ch}/registers", role=Role.ENGINEER, query=RegistersQuery)
async def read_registers(request: web.Request, query: RegistersQuery) -> dict[str, Any]:
    """Read registers or bits of a channel's device as they are; an exception code is an answer too."""
    channels = request.app[CHANNELS]
    channel = channels.runner(int(request.match_info["ch"])).channel
    _needs_registers(channel)
    shown: dict[str, Any] = query.model_dump() | {"values": [], "exception_code": None, "problem": None}
    try:
        async with _borrowed(channels, channel) as plugin:
            values = await plugin.read_registers(query.unit, query.function_code, query.address, query.count)
    except DeviceError as error:
        code = error.exception_code if isinstance(error, RefusedError) else None
        return shown | {"exception_code": code, "problem": str(error)}
    return shown | {"values": values}


@routes.put("/api/channels/{ch}/registers", role=Role.ENGINEER, body=RegistersWrite)
async def write_registers(request: web.Request, body: RegistersWrite) -> dict[str, Any]:
    """Write registers or bits that no point of the channel writes; those of a point take a command."""
    channels = request.app[CHANNELS]
    channel = channels.runner(int(request.match_info["ch"])).channel
    _needs_registers(channel)
    shown: dict[str, Any] = body.model_dump() | {"exception_code": None, "problem": None}
    try:
        async with _borrowed(channels, channel) as plugin:
            owner = plugin.written_by(body.unit, body.function_code, body.address, len(body.values))
            if owner is not None:
                raise StateError(f"{owner} of channel {channel.id} writes there; send it a command")
            log.warning(
                "channel %s: %s writes %s to unit %s address %s with function code %s",
                channel.id, request[USER].name, body.values, body.unit, body.address, body.function_code,
            )  # fmt: skip
            await plugin.write_registers(body.unit, body.function_code, body.address, body.values)
    except DeviceError as error:
        code = error.exception_code if isinstance(error, RefusedError) else None
        return shown | {"exception_code": code, "problem": str(error)}
    return shown


def _field(path: tuple[str | int, ...]) -> str:
    return dotted(path) or "point"


def _needs_registers(channel: Channel) -> None:
    if protocols()[channel.protocol].read_registers is ComBase.read_registers:
        raise StateError(f"a {channel.protocol} channel has no registers")


@asynccontextmanager
async def _borrowed(channels: Channels, channel: Channel) -> AsyncIterator[ComBase]:
    """Give a plugin on the channel's link, with the turn before the polls.

    Raises:
        StateError: another comsrv talks to the device, or the protocol would open a second connection.
        NotConnectedError: no connection.
    """
    runner = channels.runner(channel.id)
    if runner.state == "standby":
        raise StateError(f"channel {channel.id} is on standby here: the comsrv that holds it talks to the device")
    plugin = protocols()[channel.protocol]()
    await plugin.initialize(channel, port_base=channels.port_base)
    if plugin.line is None and runner.running:
        raise StateError(f"a {channel.protocol} channel can't be tried while it runs; stop it first")
    try:
        await plugin.connect()
        async with (plugin.line or Line()).for_command():
            yield plugin
    finally:
        await plugin.close()
