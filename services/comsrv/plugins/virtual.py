"""The protocol virtual: points without a device.

A point with `sine(period_s,min,max)` or `walk(step,min,max,seed)` as expression is
generated here; one with any other expression is computed in Redis, inside the call that
changes its inputs; one without keeps what is PUT to it. Controls and adjustments keep
what is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np

from libs.clock import now_ms
from libs.errors import InvalidError, StateError
from libs.numbers import EXACT_LIMIT
from libs.points import PointKind
from libs.validation import Model
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import (
    ABSENT,
    GOOD,
    Block,
    Capabilities,
    ComBase,
    ReadBack,
    Reading,
    Write,
    quality_code,
    sections_of,
)

MAX_POINTS: Final = 500
MAX_AHEAD_MS: Final = 2000
_GENERATOR: Final = re.compile(r"\s*(sine|walk)\s*\(([^()]*)\)\s*")
_ARGUMENTS: Final = {"sine": ("period_s", "min", "max"), "walk": ("step", "min", "max", "seed")}


class Generator(NamedTuple):
    """A generated value: `name` is sine or walk, `first` its period or step."""

    name: str
    first: float
    low: float
    high: float
    seed: int

    def sine(self, at_ms: int) -> float:
        """Return the value at an instant; the phase counts from the epoch, so restarts don't show."""
        turn = (at_ms / 1000 / self.first) % 1.0
        return self.low + (self.high - self.low) * (0.5 + 0.5 * math.sin(2 * math.pi * turn))

    def step(self, value: float, random: np.random.Generator) -> float:
        """Return the value one step after `value`, kept within the limits."""
        return min(max(value + random.uniform(-self.first, self.first), self.low), self.high)


def parse_generator(expression: str) -> Generator | None:
    """Return the generator an expression names, or None where it names none.

    Raises:
        InvalidError: it names one, with arguments that don't fit.
    """
    match = _GENERATOR.fullmatch(expression)
    if match is None:
        return None
    name, wanted = match[1], _ARGUMENTS[match[1]]
    try:
        arguments = [float(text) for text in match[2].split(",")]
    except ValueError:
        arguments = []
    if len(arguments) != len(wanted) or not all(map(math.isfinite, arguments)):
        raise InvalidError(f"write {name}({','.join(wanted)}) with numbers")
    if arguments[0] <= 0 or arguments[1] > arguments[2]:
        raise InvalidError(f"{name} needs {wanted[0]} > 0 and min <= max")
    return Generator(name, arguments[0], arguments[1], arguments[2], int(arguments[3]) if len(arguments) > 3 else 0)


class Virtual(ComBase):
    """Points without a device."""

    capabilities: ClassVar[Capabilities] = Capabilities(settable=True)
    description: ClassVar[str] = "points that are generated, computed or set through the API"

    @classmethod
    def computed(cls, point: Point) -> bool:
        """Say whether the point is computed in Redis."""
        return bool(point.expression) and _GENERATOR.fullmatch(point.expression) is None

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point."""
        _ = mapping, parameters
        if point.family == "text":
            return ["data_type: a virtual channel has no text points"]
        if not point.expression:
            return []
        if not kind.readable:
            return [f"expression: a {kind.table} point is written, not computed"]
        try:
            parse_generator(point.expression)
        except InvalidError as error:
            return [f"expression: {error}"]
        return []

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Make blocks of the generated and of the settable points."""
        _ = port_base
        self._written: dict[tuple[PointKind, int], float] = {}
        self._places: dict[tuple[PointKind, int], tuple[Block, int]] = {}
        self._state: dict[str, _State] = {}
        generated, settable = self._sorted(channel)
        self._generated = [(kind, point.id, point.expression) for kind, point in generated]
        self.blocks = (*self._plan("generated", generated), *self._plan("settable", settable))

    def _sorted(self, channel: Channel) -> tuple[list[tuple[PointKind, Point]], list[tuple[PointKind, Point]]]:
        """Return the generated and the settable points."""
        generated: list[tuple[PointKind, Point]] = []
        settable: list[tuple[PointKind, Point]] = []
        for kind in (PointKind.TELEMETRY, PointKind.SIGNAL):
            for point in channel.points.of(kind):
                if not point.expression:
                    settable.append((kind, point))
                elif not self.computed(point):
                    generated.append((kind, point))
        return generated, settable

    def adopt(self, channel: Channel) -> bool:
        """Keep the values of the points that are set; generators that change start the channel anew."""
        generated, settable = self._sorted(channel)
        names = [(kind, point.id, point.expression) for kind, point in generated]
        if names != self._generated:
            return False
        before = {
            place: (float(self._state[block.name].values[index]), int(self._state[block.name].quality[index]))
            for place, (block, index) in self._places.items()
            if block.name.startswith("settable")
        }
        kept = tuple(block for block in self.blocks if block.name.startswith("generated"))
        self._places = {place: found for place, found in self._places.items() if found[0] in kept}
        self.blocks = (*kept, *self._plan("settable", settable))
        for place, (value, quality) in before.items():
            block, index = self._places.get(place, (None, 0))
            if block is not None:
                self._state[block.name].put(index, value, quality, None)
        return True

    def _plan(self, name: str, points: list[tuple[PointKind, Point]]) -> list[Block]:
        blocks = []
        for start in range(0, len(points), MAX_POINTS):
            part = points[start : start + MAX_POINTS]
            thresholds = np.array([point.threshold for _, point in part], np.float64)
            block = Block(f"{name}-{start // MAX_POINTS}", "", sections_of(part), thresholds)
            self._state[block.name] = _State([parse_generator(point.expression) for _, point in part])
            self._places |= {(kind, point.id): (block, index) for index, (kind, point) in enumerate(part)}
            blocks.append(block)
        return blocks

    async def connect(self) -> None:
        """Do nothing: there is no device."""

    async def read_batch(self, block: Block) -> Reading:
        """Return the block's values now."""
        return self._state[block.name].read()

    def set_point(self, kind: PointKind, point: Point, value: float, quality: str, at_ms: int | None) -> None:
        """Keep a value until the next one.

        Raises:
            StateError: the point is generated or computed.
            InvalidError: the value is no number a point can hold.
        """
        block, index = self._places.get((kind, point.id), (None, 0))
        if block is None or self._state[block.name].generators[index] is not None:
            raise StateError(f"point {kind}:{point.id} is not set: it has an expression or is written by command")
        if not abs(value) <= EXACT_LIMIT:
            raise InvalidError(f"{value} is no number up to 2^53")
        if kind is PointKind.SIGNAL and value not in {0, 1}:
            raise InvalidError(f"{value:.15g} is neither 0 nor 1")
        if at_ms is not None and at_ms > now_ms() + MAX_AHEAD_MS:
            raise InvalidError(f"at_ms {at_ms} is more than {MAX_AHEAD_MS} ms ahead of the clock")
        self._state[block.name].put(index, value, quality_code(quality), at_ms)

    def restore(self, values: Mapping[tuple[PointKind, int], float]) -> None:
        """Take back the values that were set before a restart."""
        for place, value in values.items():
            block, index = self._places.get(place, (None, 0))
            if block is not None and self._state[block.name].quality[index] == ABSENT:
                self._state[block.name].put(index, value, GOOD, None)

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Check the value against the point's limits; raise InvalidError."""
        if not abs(value) <= EXACT_LIMIT:
            raise InvalidError(f"{value} is no number up to 2^53")
        if point.min is not None and value < point.min:
            raise InvalidError(f"{value:.15g} is below the minimum {point.min:.15g}")
        if point.max is not None and value > point.max:
            raise InvalidError(f"{value:.15g} is above the maximum {point.max:.15g}")
        if point.family == "bool" and value not in {0, 1}:
            raise InvalidError(f"{value:.15g} is neither 0 nor 1")
        return Write(kind, point, value)

    async def write_point(self, write: Write) -> None:
        """Keep the value."""
        self._written[write.kind, write.point.id] = write.number

    async def read_back(self, write: Write) -> ReadBack:
        """Return the value kept."""
        value = self._written.get((write.kind, write.point.id), math.nan)
        return ReadBack(value, matches=value == write.value)

    async def close(self) -> None:
        """Do nothing: there is no device."""


class _State:
    """The present values of a block."""

    def __init__(self, generators: list[Generator | None]) -> None:
        self.generators = generators
        self.values = np.array([(each.low + each.high) / 2 if each else 0.0 for each in generators])
        self.quality = np.array([GOOD if each else ABSENT for each in generators], np.uint8)
        self.at_ms: int | None = None
        self._randoms = [np.random.default_rng(each.seed) if each else None for each in generators]

    def put(self, index: int, value: float, quality: int, at_ms: int | None) -> None:
        """Set one value."""
        self.values[index] = value
        self.quality[index] = quality
        self.at_ms = at_ms

    def read(self) -> Reading:
        """Step the generators and return the values; the instant given with a PUT is used once."""
        at_ms = now_ms()
        for index, (generator, random) in enumerate(zip(self.generators, self._randoms, strict=True)):
            if generator is None or random is None:
                continue
            if generator.name == "sine":
                self.values[index] = generator.sine(at_ms)
            else:
                self.values[index] = generator.step(float(self.values[index]), random)
        given, self.at_ms = self.at_ms, None
        return Reading(given or at_ms, self.values.copy(), self.quality.copy())
