"""The contract between comsrv and a protocol: `ComBase`.

A plugin is a class named by an entry point of the group `voltage.protocols`. Its life:
`initialize` (plan the blocks, no I/O), `connect`, then any number of `read_batch`,
`write_point` and `read_back`, one at a time, and `close`. After a `NotConnectedError`
the supervisor calls `close` and `connect` again, for ever.

A block is read as arrays: one value and one quality code a point, in the block's order.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidError, LimitError, StateError, VoltageError
from libs.points import PointKind
from libs.validation import Model
from services.comsrv.channel import Channel, Point
from services.comsrv.line import Line
from services.comsrv.traffic import Traffic

Values = NDArray[np.float64]
Codes = NDArray[np.uint8]

# Quality codes of a reading. ABSENT: the point has no value yet, so nothing is said about it.
GOOD, NAN, OUT_OF_RANGE, SENTINEL, ABSENT = range(5)
# Texts of the codes; grows with the qualities that are given from outside, up to what a code can count.
QUALITY: Final = ["", "bad:nan", "bad:out_of_range", "bad:sentinel", ""]
MAX_QUALITIES: Final = 250
_QUALITY_PATTERN: Final = re.compile(r"(bad|uncertain):[a-z0-9_]{1,40}")


def quality_code(text: str) -> int:
    """Return the code of a quality text; the empty text and `good` are GOOD.

    Raises:
        InvalidError: the text is no `bad:reason` or `uncertain:reason`.
        LimitError: there are too many different ones.
    """
    if text in {"", "good"}:
        return GOOD
    if not _QUALITY_PATTERN.fullmatch(text):
        raise InvalidError(f"quality {text!r} is neither good nor bad:<reason> nor uncertain:<reason>")
    if text not in QUALITY:
        if len(QUALITY) >= MAX_QUALITIES:
            raise LimitError(f"more than {MAX_QUALITIES} different qualities")
        QUALITY.append(text)
    return QUALITY.index(text)


class Section(NamedTuple):
    """The points of one kind within a block: a slice of its arrays, and their ids as text."""

    kind: PointKind
    start: int
    stop: int
    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """Points that are read with one request.

    Attributes:
        name: unique in the channel, and the same for the same addresses.
        unit: the device behind the connection that answers, as text.
        sections: the points in the order of the arrays, by kind.
        thresholds: the change worth storing, a point.
        plan: what only the plugin understands.
    """

    name: str
    unit: str
    sections: tuple[Section, ...]
    thresholds: Values
    plan: Any = None

    @property
    def size(self) -> int:
        """Number of points."""
        return self.sections[-1].stop if self.sections else 0


class Reading(NamedTuple):
    """The answer for a block: arrays in the block's order and the instant of the response."""

    at_ms: int
    values: Values
    quality: Codes


class Write(NamedTuple):
    """A command ready for the wire: scaled, rounded and checked. `plan` is the plugin's own."""

    kind: PointKind
    point: Point
    value: float
    plan: Any = None


class ReadBack(NamedTuple):
    """What the device holds after a write: the value, and whether it is the one written."""

    value: float
    matches: bool


class Capabilities(NamedTuple):
    """What a plugin can do, shown at /api/protocols."""

    reads: bool = True
    writes: bool = True
    subscribes: bool = False
    settable: bool = False


class DeviceError(VoltageError):
    """A device did not do what was asked. `quality` is what its points become.

    `sent` says that the request's bytes may have left, so nobody knows what the device did.
    """

    quality: str = "bad:device"
    sent: bool = True


class NotConnectedError(DeviceError):
    """No connection: refused, unreachable or lost."""

    quality = "bad:not_connected"

    def __init__(self, message: str, *, sent: bool = False, retry_after_ms: int | None = None) -> None:
        """Keep whether the connection was lost with a request under way.

        `retry_after_ms` is how long to wait before `connect` is worth another try, from
        a plugin that counts failures itself because several channels share its link.
        """
        super().__init__(message)
        self.sent = sent
        self.retry_after_ms = retry_after_ms


class NoAnswerError(DeviceError):
    """The device did not answer in time; the connection may be well."""

    quality = "bad:timeout"


class MalformedError(DeviceError):
    """The device answered something that is no answer to the request."""

    quality = "bad:malformed"


class RefusedError(DeviceError):
    """The device answered with an exception code: an answer, not a disconnect."""

    def __init__(self, exception_code: int, message: str) -> None:
        """Keep the code; it is part of the quality."""
        super().__init__(message)
        self.exception_code = exception_code
        self.quality = f"bad:exception_{exception_code}"


# What a plugin that subscribes calls with what a device pushed.
Sink = Callable[[Block, Reading], Awaitable[None]]


class NoParameters(Model):
    """For protocols without parameters."""


class ComBase(ABC):
    """A protocol. One instance serves one channel.

    Attributes:
        blocks: what is read; set by `initialize`.
        line: who may talk next, where several channels share a link; None for a line of the channel's own.
        traffic: what went over the link, for the diagnostics and the frame log; None where nothing is counted.
        reconnect_max_ms: the longest pause between two connection attempts; set before `initialize`.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    description: ClassVar[str] = ""
    parameters: ClassVar[type[Model]] = NoParameters
    mapping: ClassVar[type[Model] | None] = None
    line: Line | None = None
    traffic: Traffic | None = None
    reconnect_max_ms: int = 10_000

    def __init__(self) -> None:
        """Start without blocks."""
        self.blocks: tuple[Block, ...] = ()

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point for this protocol, each in a sentence."""
        _ = kind, point, mapping, parameters
        return []

    @classmethod
    def computed(cls, point: Point) -> bool:
        """Say whether the point's expression is evaluated in Redis instead of being read."""
        _ = point
        return False

    @abstractmethod
    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Plan the blocks of a checked channel; no I/O."""

    @abstractmethod
    async def connect(self) -> None:
        """Connect, or raise NotConnectedError."""

    @abstractmethod
    async def read_batch(self, block: Block) -> Reading:
        """Read a block, or raise a DeviceError."""

    @abstractmethod
    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Scale, round and check a value; raise InvalidError where the device can't hold it."""

    @abstractmethod
    async def write_point(self, write: Write) -> None:
        """Send a write and await the answer, or raise a DeviceError."""

    async def read_back(self, write: Write) -> ReadBack:
        """Read what the device holds now."""
        return ReadBack(write.value, matches=True)

    def split(self, block: Block) -> tuple[Block, ...]:
        """Return smaller blocks for one that the device refuses as a whole; empty when there are none."""
        _ = block
        return ()

    def set_point(self, kind: PointKind, point: Point, value: float, quality: str, at_ms: int | None) -> None:
        """Keep a value until the next one; for plugins whose capabilities say `settable`."""
        _ = point, value, quality, at_ms
        raise StateError(f"{kind} points of this protocol come from a device; they can't be set")

    def restore(self, values: Mapping[tuple[PointKind, int], float]) -> None:
        """Take back the values that were set before a restart; for settable plugins."""
        _ = values

    async def subscribe(self, sink: Sink) -> None:
        """Push readings into the sink as they come; for plugins whose capabilities say so."""
        _ = sink
        raise NotImplementedError(f"{type(self).__name__} does not subscribe")

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back; may be called at any time, also twice."""


def sections_of(points: list[tuple[PointKind, Point]]) -> tuple[Section, ...]:
    """Return the sections of points that stand in the order of a block's arrays, kinds together."""
    sections: list[Section] = []
    start = 0
    while start < len(points):
        kind = points[start][0]
        stop = start
        while stop < len(points) and points[stop][0] is kind:
            stop += 1
        sections.append(Section(kind, start, stop, tuple(str(point.id) for _, point in points[start:stop])))
        start = stop
    return tuple(sections)
