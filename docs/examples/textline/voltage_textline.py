"""The protocol textline: instruments that speak lines of ASCII over TCP.

    RD power breaker      ->  OK 23.5 1
    WR setpoint -42.5     ->  OK
    anything else         ->  ERR 2

A plugin is one class: `initialize` plans, `connect` connects, `read_batch`, `write_point`
and `read_back` are called one at a time, `close` gives up. Polling, retries, quality,
commands and the ledger are the host's.
"""

from __future__ import annotations

import asyncio
import math
from typing import ClassVar

import numpy as np
from pydantic import Field

from libs.clock import now_ms
from libs.errors import InvalidError
from libs.points import PointKind
from libs.services import resolve_port
from libs.validation import Model
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import (
    GOOD,
    NAN,
    Block,
    Capabilities,
    ComBase,
    MalformedError,
    NoAnswerError,
    NotConnectedError,
    ReadBack,
    Reading,
    RefusedError,
    Write,
    sections_of,
)

MAX_NAMES = 50


class Parameters(Model):
    """What stands under `parameters` of the channel."""

    host: str = Field(min_length=1)
    port: int | str = Field(description="a number, or base+20 to count from the port base")
    timeout_ms: int = Field(1000, ge=10, le=60_000)


class Mapping(Model):
    """What stands in a row of a mapping table, beside point_id."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)


class TextLine(ComBase):
    """Lines of text over TCP."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    description: ClassVar[str] = "instruments that speak lines of text over TCP (example)"
    parameters: ClassVar[type[Model]] = Parameters
    mapping: ClassVar[type[Model] | None] = Mapping

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point; every problem is told with file and line before anything runs."""
        _ = kind, mapping, parameters
        return ["data_type: this protocol has no text points"] if point.family == "text" else []

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Plan one request for every 50 points."""
        parameters = Parameters.model_validate(channel.parameters)
        self._address = parameters.host, resolve_port(parameters.port, port_base)
        self._timeout_s = parameters.timeout_ms / 1000
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        readable = [(kind, point) for kind in PointKind if kind.readable for point in channel.points.of(kind)]
        self.blocks = tuple(
            Block(
                name=f"read-{start // MAX_NAMES}",
                unit="",
                sections=sections_of(part),
                thresholds=np.array([point.threshold for _, point in part], np.float64),
                plan=part,
            )
            for start in range(0, len(readable), MAX_NAMES)
            for part in [readable[start : start + MAX_NAMES]]
        )

    async def connect(self) -> None:
        """Connect, or raise NotConnectedError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._streams = await asyncio.open_connection(*self._address)
        except (OSError, TimeoutError) as error:
            raise NotConnectedError(f"{self._address[0]}:{self._address[1]}: {error}") from None

    async def read_batch(self, block: Block) -> Reading:
        """Read a block with one line."""
        points: list[tuple[PointKind, Point]] = block.plan
        words = await self._ask("RD " + " ".join(_name(point) for _, point in points))
        if len(words) != len(points):
            raise MalformedError(f"{len(words)} values for {len(points)} points")
        values = np.array([_from_device(point, word) for (_, point), word in zip(points, words, strict=True)])
        return Reading(now_ms(), values, np.where(np.isnan(values), NAN, GOOD).astype(np.uint8))

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Check and un-scale; what the device can't hold never reaches the wire."""
        if not math.isfinite(value):
            raise InvalidError(f"{value} is no number")
        if point.family == "bool" and value not in {0, 1}:
            raise InvalidError(f"{value:g} is neither 0 nor 1")
        if point.min is not None and value < point.min:
            raise InvalidError(f"{value:g} is below the minimum {point.min:g}")
        if point.max is not None and value > point.max:
            raise InvalidError(f"{value:g} is above the maximum {point.max:g}")
        return Write(kind, point, value, plan=f"{(value - point.offset) / point.scale:g}")

    async def write_point(self, write: Write) -> None:
        """Send a write and await the answer."""
        await self._ask(f"WR {_name(write.point)} {write.plan}")

    async def read_back(self, write: Write) -> ReadBack:
        """Read what the device holds now."""
        (word,) = await self._ask(f"RD {_name(write.point)}")
        value = _from_device(write.point, word)
        return ReadBack(value, matches=math.isclose(value, write.number, rel_tol=1e-5, abs_tol=1e-9))

    async def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, line: str) -> list[str]:
        """Send a line and return the words after OK, or raise what went wrong as a DeviceError."""
        if self._streams is None:
            raise NotConnectedError("no connection")
        reader, writer = self._streams
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(f"{line}\r\n".encode("ascii"))
                await writer.drain()
                answer = await reader.readline()
        except TimeoutError:
            # A late answer would be taken for that of the next question: this connection is over.
            await self.close()
            raise NoAnswerError(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise NotConnectedError(str(error), sent=True) from None
        if not answer.endswith(b"\n"):
            raise NotConnectedError("the device hung up", sent=True)
        first, *words = answer.decode("ascii", errors="replace").split() or [""]
        if first == "ERR" and len(words) == 1 and words[0].isdigit():
            raise RefusedError(int(words[0]), f"the device answers ERR {words[0]} to {line[:2]}")
        if first != "OK":
            raise MalformedError(f"{answer[:40]!r} is no answer")
        return words


def _name(point: Point) -> str:
    return Mapping.model_validate(point.mapping).name


def _from_device(point: Point, word: str) -> float:
    try:
        raw = float(word)
    except ValueError:
        return math.nan
    if point.family == "bool":
        return float((raw != 0) is not point.reverse)
    return raw * point.scale + point.offset if math.isfinite(raw) else math.nan
