"""What a point is worth at a step: constant, ramp, sine, walk, counter, or a pattern.

A value depends on the seed, the point and the step alone, so a run can be repeated. Numbers in
settings are values, not raw numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from random import Random
from typing import Final, Literal

from pydantic import Field

from libs.validation import Model
from services.simulator.twins.cells import TEXT, Cell, Raw, exact

Generator = Callable[[int], Raw]
Kind = Literal["auto", "constant", "ramp", "sine", "walk", "counter", "pattern"]

COUNTED_UNITS: Final = frozenset(("kWh", "MWh", "Wh", "kvarh", "m3", "h"))
# What a point spans that says no limits.
_DEFAULT_HIGH: Final = 100.0


class Values(Model):
    """How points get their values. `points` are names with wildcards: 1001:T:*."""

    points: str = "*"
    generator: Kind = "auto"
    value: float | None = Field(None, description="of a constant")
    low: float | None = Field(None, description="of ramp, sine and walk; the point's own limit, else 0")
    high: float | None = Field(None, description="of ramp, sine and walk; the point's own limit, else 100")
    period_s: float = Field(60.0, gt=0, description="of ramp and sine")
    step: float = Field(1.0, description="largest move of a walk, rate a second of a counter")


def generator(values: Values, cell: Cell, unit_of_measure: str, *, seed: int, step_ms: int) -> Generator:
    """Return the function step -> raw value of a point."""
    kind = values.generator
    if kind == "auto":
        kind = "pattern" if cell.type in {TEXT, "bool", "double_point"} else "sine"
        kind = "counter" if unit_of_measure in COUNTED_UNITS else kind
    if kind == "pattern" or (cell.type == TEXT and kind != "constant"):
        return pattern(cell)
    low, high = _limits(values, cell)
    seconds = step_ms / 1000
    # Points of a device don't move in step with one another.
    phase = (zlib.crc32(cell.name.encode()) + seed) % 1000 / 1000
    match kind:
        case "constant":
            fixed = cell.raw(low if values.value is None else values.value)
            return lambda _: fixed
        case "ramp":
            return lambda step: cell.raw(low + (high - low) * ((step * seconds / values.period_s + phase) % 1.0))
        case "sine":
            middle, swing = (low + high) / 2, (high - low) / 2
            turn = 2 * math.pi
            return lambda step: cell.raw(middle + swing * math.sin(turn * (step * seconds / values.period_s + phase)))
        case "counter":
            span = cell.range()[1] + 1 if cell.whole else math.inf
            return lambda step: _wrapped(cell, values.step * seconds * step, span)
        case _:
            return _walk(values, cell, low, high, seed)


def pattern(cell: Cell) -> Generator:
    """Return numbers that say whose they are and of when: the tag of the point, then the step.

    A value from another address, or from another time, is seen to be wrong.
    """
    if cell.type == TEXT:
        return lambda step: f"{cell.address}.{step}"[: 2 * cell.width]
    room = exact(cell)
    tag = zlib.crc32(cell.name.encode())
    if cell.type == "double_point":
        return lambda step: 1 + (tag + step) % 2
    if room <= 2:
        return lambda step: (tag + step) % 2
    steps = 1 << (room.bit_length() - 1) // 2 + 1
    while steps > room // 2:
        steps //= 2
    tags = room // steps
    return lambda step: tag % tags * steps + step % steps


def _limits(values: Values, cell: Cell) -> tuple[float, float]:
    ends = sorted(cell.value(raw) for raw in cell.range())
    low = next(each for each in (values.low, cell.low, max(0.0, ends[0])) if each is not None)
    high = next(each for each in (values.high, cell.high, min(low + _DEFAULT_HIGH, ends[1])) if each is not None)
    return low, max(low, high)


def _wrapped(cell: Cell, value: float, span: float) -> Raw:
    raw = (value - cell.offset) / cell.scale
    raw = math.fmod(raw, span) if math.isfinite(span) else raw
    return int(raw) if cell.whole else raw


def _walk(values: Values, cell: Cell, low: float, high: float, seed: int) -> Generator:
    at = (low + high) / 2

    def next_value(step: int) -> Raw:
        nonlocal at
        random = Random(f"{seed}/{cell.name}/{step}")  # noqa: S311 - a simulated value, nothing secret
        at = min(max(at + random.uniform(-values.step, values.step), low), high)
        return cell.raw(at)

    return next_value
