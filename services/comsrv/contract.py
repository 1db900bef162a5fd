"""The contract between comsrv and a protocol: `ComBase`.

A plugin is a class that `plugins.registry` finds: in its table, or by an entry point of another package. Its life:
`initialize` (plan the blocks, no I/O), `connect`, then any number of `read_batch`,
`write_point` and `read_back`, one at a time, and `close`. After a `NotConnectedError`
the supervisor calls `close` and `connect` again, for ever.

A block is read as arrays: one value and one quality code a point, in the block's order.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidError, LimitError, StateError
from libs.points import PointKind
from libs.validation import Model
from services.comsrv.channel import Channel, Point, Polling
from services.comsrv.faults import (
    DeviceError,
    MalformedError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
    UnreachableError,
)
from services.comsrv.line import Line
from services.comsrv.traffic import Traffic

# A plugin finds everything it needs here, the errors it raises too.
__all__ = [
    "DeviceError",
    "MalformedError",
    "NoAnswerError",
    "NotConnectedError",
    "RefusedError",
    "UnreachableError",
]

Values = NDArray[np.float64]
Codes = NDArray[np.uint8]

# Quality codes of a reading. ABSENT: the point has no value yet, so nothing is said about it.
GOOD, NAN, OUT_OF_RANGE, SENTINEL, ABSENT = range(5)
# Texts of the codes; grows with the qualities that are given from outside, up to what a code can count.
QUALITY: Final = ["", "bad:nan", "bad:out_of_range", "bad:sentinel", ""]
MAX_QUALITIES: Final = 250
MAX_TEXT_BYTES: Final = 256
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
    """The points of one kind within a block: a slice of its arrays, and their ids as text.

    `text` says that they are texts: their values stand in the reading's `texts`, and 0 in its
    array. A block has at most one such section, the last.
    """

    kind: PointKind
    start: int
    stop: int
    ids: tuple[str, ...]
    text: bool = False


@dataclass(frozen=True, eq=False)
class Block:
    """Points that are read with one request.

    Attributes:
        name: unique in the channel, and the same for the same addresses.
        unit: the device behind the connection that answers, as text.
        sections: the points in the order of the arrays, by kind.
        thresholds: the change worth storing, a point.
        plan: what only the plugin understands.
        group: the poll group of its points; empty for those polled at the channel's interval.
    """

    name: str
    unit: str
    sections: tuple[Section, ...]
    thresholds: Values
    plan: Any = None
    group: str = ""

    @property
    def size(self) -> int:
        """Number of points."""
        return self.sections[-1].stop if self.sections else 0


class Span(NamedTuple):
    """Addresses that a request reads, in a table of a unit."""

    unit: str
    table: str
    address: int
    length: int


class Cost(NamedTuple):
    """What a request takes in milliseconds: `request` + `register` for each register read."""

    request: float
    register: float


class Outline(NamedTuple):
    """What a request reads: of which unit, in which poll group, and how much, as `ComBase.length` counts."""

    unit: str
    group: str
    length: float


class Speed(NamedTuple):
    """How fast a link is, as far as its settings tell; see `capacity`.

    Attributes:
        key: the same for channels that share the link.
        name: what people call it.
        request_bytes: of a request.
        answer_bytes: of an answer, before its data.
        character_s: what a byte takes on the wire; 0 in a network, where the round trip counts.
        gap_s: the silence before each frame.
        pause_s: between an answer and the next request.
    """

    key: str
    name: str
    request_bytes: int
    answer_bytes: int
    character_s: float = 0.0
    gap_s: float = 0.0
    pause_s: float = 0.0


@dataclass(frozen=True)
class Knowledge:
    """What was learned about a channel's devices and matters for planning.

    Attributes:
        illegal: values that the device refuses; each is asked for alone.
        borders: (unit, table, address) that no request may reach over from below.
        limits: the longest request that the device answers, by unit and table.
        costs: what requests take, by unit.
    """

    illegal: frozenset[Span] = frozenset()
    borders: frozenset[tuple[str, str, int]] = frozenset()
    limits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)


class Reading(NamedTuple):
    """The answer for a block: arrays in the block's order and the instant of the response."""

    at_ms: int
    values: Values
    quality: Codes
    # The values of the section of texts, in its order.
    texts: tuple[str, ...] = ()


# What a command gives a point: a number, or a text for a text point.
Value = float | str


class Write(NamedTuple):
    """A command ready for the wire: scaled, rounded and checked. `plan` is the plugin's own."""

    kind: PointKind
    point: Point
    value: Value
    plan: Any = None

    @property
    def number(self) -> float:
        """The value of a write that `prepare_write` made."""
        return float(self.value)


class ReadBack(NamedTuple):
    """What the device holds after a write: the value, and whether it is the one written."""

    value: Value
    matches: bool


class Trial(NamedTuple):
    """What a point that is tried stands for now, and the registers or bits it was read from, if there are any."""

    at_ms: int
    value: float | str | None
    quality: str
    address: int | None = None
    registers: tuple[int, ...] = ()


class Capabilities(NamedTuple):
    """What a plugin can do, shown at /api/protocols."""

    reads: bool = True
    writes: bool = True
    subscribes: bool = False
    settable: bool = False


class Event(NamedTuple):
    """A change that a device pushed: a number or state, its quality code, and the device's own instant."""

    kind: PointKind
    point: str
    at_ms: int
    value: float
    quality: int


# What a plugin that subscribes calls with what a device pushed, in order; returns when Redis has it.
Sink = Callable[[Sequence[Event]], Awaitable[None]]


class NoParameters(Model):
    """For protocols without parameters."""


class ComBase(ABC):
    """A protocol. One instance serves one channel.

    Attributes:
        blocks: what is read; set by `initialize`.
        line: who may talk next, where several channels share a link; None for a line of the channel's own.
        traffic: what went over the link, for the diagnostics and the frame log; None where nothing is counted.
        reconnect_max_ms: the longest pause between two connection attempts; set before `initialize`.
        timeout_ms: how long `read_batch` waits for an answer at most; set by `initialize`.
        speed: how fast the link is, to say whether all fits; None where that is unknown.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    description: ClassVar[str] = ""
    parameters: ClassVar[type[Model]] = NoParameters
    mapping: ClassVar[type[Model] | None] = None
    line: Line | None = None
    traffic: Traffic | None = None
    reconnect_max_ms: int = 10_000
    timeout_ms: int = 1000
    speed: Speed | None = None

    def __init__(self) -> None:
        """Start without blocks."""
        self.blocks: tuple[Block, ...] = ()

    @classmethod
    def missing(cls) -> str:
        """Return what the protocol needs that is not installed, in a sentence; empty where nothing is missing."""
        return ""

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point for this protocol, each in a sentence."""
        _ = kind, point, mapping, parameters
        return []

    @classmethod
    def shared(cls, parameters: Model, port_base: int) -> tuple[str, dict[str, Any]] | None:
        """Return the link that a channel's parameters name, and what all channels of that link must agree on.

        None where each channel has a link of its own.
        """
        _ = parameters, port_base
        return None

    @classmethod
    def check_length(
        cls, kind: PointKind, point: Point, mapping: Model, parameters: Model, polling: Polling
    ) -> list[str]:
        """Return what is wrong with a checked point that the limits of a request do not allow."""
        _ = kind, point, mapping, parameters, polling
        return []

    @classmethod
    def room(cls, point: Point) -> tuple[int, bool]:
        """Return how many bytes a text that is written to a point may have, and whether only ASCII is taken."""
        _ = point
        return MAX_TEXT_BYTES, False

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

    def prepare_text(self, kind: PointKind, point: Point, text: str) -> Write:
        """Check a text; raise InvalidError where the device can't hold it. `check` lets texts pass where it can."""
        _ = text
        raise InvalidError(f"{kind}:{point.id}: this protocol writes no texts")

    @abstractmethod
    async def write_point(self, write: Write) -> None:
        """Send a write and await the answer, or raise a DeviceError.

        A plugin that learns only now what the device can hold raises InvalidError, before it sends anything.
        """

    def unit_of(self, write: Write) -> str:
        """Return the unit that a write goes to, as blocks name it; empty where there is but one."""
        _ = write
        return ""

    def neighbours(self, write: Write) -> tuple[str, ...]:
        """Return the points ("A:2") whose writes might leave in one request with this one."""
        _ = write
        return ()

    def together(self, writes: Sequence[Write]) -> list[list[Write]]:
        """Put writes that one request can carry together; the order of the writes of one point stays."""
        return [[write] for write in writes]

    async def write_together(self, writes: Sequence[Write]) -> None:
        """Send the writes of one group of `together` in one request, or raise a DeviceError."""
        for write in writes:
            await self.write_point(write)

    async def read_back(self, write: Write) -> ReadBack:
        """Read what the device holds now."""
        return ReadBack(write.value, matches=True)

    async def read_within(self, block: Block, timeout_ms: int) -> Reading:
        """Read a block as `read_batch` does, but wait at most so long for the answer.

        Only ever asked to wait for less than the plugin's own time-out, so that a silent
        unit costs its neighbors little. A plugin that can't just reads.
        """
        _ = timeout_ms
        return await self.read_batch(block)

    def split(self, block: Block) -> tuple[Block, ...]:
        """Return smaller blocks for one that the device refuses as a whole; empty when there are none."""
        _ = block
        return ()

    def pieces(self, block: Block) -> int:
        """Return how many parts a block can be read in, values whole; 0 where it is only ever read as it is.

        A plugin that can, implements `part`, `span` and `replan` too.
        """
        _ = block
        return 0

    def part(self, block: Block, start: int, stop: int) -> Block:
        """Return the block of the pieces from `start` to before `stop`, in the order of their addresses."""
        _ = start, stop
        return block

    def span(self, block: Block) -> Span | None:
        """Return what a block's request reads; None for a protocol without addresses."""
        _ = block
        return None

    def length(self, block: Block) -> float:
        """Return how much a block's request reads, in registers or what else takes time; 0 to learn no costs."""
        _ = block
        return 0.0

    def replan(self, knowledge: Knowledge) -> tuple[Block, ...]:
        """Plan the blocks anew with what was learned; points and their values stay what they are."""
        _ = knowledge
        return self.blocks

    def outline(self, knowledge: Knowledge) -> Sequence[Outline]:
        """Return what the blocks of `replan` would read, for a look at whether it is worth it."""
        return [Outline(block.unit, block.group, self.length(block)) for block in self.replan(knowledge)]

    def adopt(self, channel: Channel) -> bool:
        """Take over other points of the same channel while connected; False where it must be started anew.

        Only points may differ. What they are read by is asked for with `replan` afterwards.
        """
        _ = channel
        return False

    def set_point(self, kind: PointKind, point: Point, value: float, quality: str, at_ms: int | None) -> None:
        """Keep a value until the next one; for plugins whose capabilities say `settable`."""
        _ = point, value, quality, at_ms
        raise StateError(f"{kind} points of this protocol come from a device; they can't be set")

    def restore(self, values: Mapping[tuple[PointKind, int], float]) -> None:
        """Take back the values that were set before a restart; for settable plugins."""
        _ = values

    async def subscribe(self, sink: Sink) -> None:
        """Push events into the sink as they come, for ever; for plugins whose capabilities say so.

        Runs beside the polls and over their connection: it waits while there is none.
        """
        _ = sink
        raise NotImplementedError(f"{type(self).__name__} does not subscribe")

    async def try_point(self, kind: PointKind, point: Point) -> Trial:
        """Read the one point this instance was initialized with, or raise a DeviceError."""
        if not kind.readable or not self.blocks:
            raise StateError(f"this protocol can't try a {kind.table} point")
        reading = await self.read_batch(self.blocks[0])
        quality = QUALITY[int(reading.quality[0])]
        value = reading.texts[0] if point.family == "text" else float(reading.values[0])
        return Trial(reading.at_ms, None if quality.startswith("bad:") else value, quality or "good")

    async def read_registers(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Read registers or bits as they are; for protocols that have them."""
        _ = unit, code, address, count
        raise StateError("this protocol has no registers")

    async def write_registers(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers or bits as they are; for protocols that have them."""
        _ = unit, code, address, values
        raise StateError("this protocol has no registers")

    def written_by(self, unit: int, code: int, address: int, count: int) -> str | None:
        """Return a point ("A:1") that writes one of these addresses, or None."""
        _ = unit, code, address, count
        return None

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back; may be called at any time, also twice."""

    async def dispose(self) -> None:  # noqa: B027 - most took nothing
        """Give back what `initialize` took, after the last `close`."""


def sections_of(points: list[tuple[PointKind, Point]]) -> tuple[Section, ...]:
    """Return the sections of points that stand in the order of a block's arrays: kinds together, texts last."""
    sections: list[Section] = []
    start = 0
    while start < len(points):
        kind, first = points[start]
        text = first.family == "text"
        stop = start
        while stop < len(points) and points[stop][0] is kind and (points[stop][1].family == "text") is text:
            stop += 1
        sections.append(Section(kind, start, stop, tuple(str(point.id) for _, point in points[start:stop]), text))
        start = stop
    return tuple(sections)
