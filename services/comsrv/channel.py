"""What a channel is: its settings and its points, parsed once into frozen models.

The same models are read from YAML and CSV (`services.comsrv.tables`), from the HTTP
API and from Redis, so a channel means the same wherever it comes from.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from libs.points import PointKind
from libs.validation import Model, nearest
from services.comsrv.fields import Integer, Number, Truth

MAX_ID: Final = 999_999_999
NUMBER_TYPES: Final = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64",
    "int", "float", "double", "number",
)  # fmt: skip
TEXT_TYPES: Final = ("string", "text")
DATA_TYPES: Final = ("bool", *NUMBER_TYPES, *TEXT_TYPES)


def family(data_type: str) -> str:
    """Return the family of a data type: bool, number or text."""
    if data_type == "bool":
        return "bool"
    return "text" if data_type in TEXT_TYPES else "number"


class Polling(Model):
    """How often and in which blocks a channel is read."""

    interval_ms: int = Field(1000, ge=10, le=86_400_000)
    max_registers: int = Field(125, ge=1, le=125, description="registers a request")
    max_bits: int = Field(2000, ge=1, le=2000, description="coils or inputs a request")
    max_gap: int | Literal["auto"] = Field("auto", description="unused addresses read through to join two points")


class Point(Model):
    """One point of a channel, as its table declares it."""

    id: Integer = Field(ge=1, le=MAX_ID)
    name: str = Field(min_length=1, max_length=256)
    data_type: str
    scale: Number = 1.0
    offset: Number = 0.0
    reverse: Truth = False
    unit: str = Field("", max_length=32)
    description: str = Field("", max_length=1024)
    min: Number | None = None
    max: Number | None = None
    deadband: Number | None = Field(None, ge=0)
    deadband_percent: Number | None = Field(None, ge=0, le=100)
    group: str = Field("", max_length=64)
    expression: str = ""
    mapping: dict[str, Any] | None = None

    @field_validator("data_type")
    @classmethod
    def _known_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in DATA_TYPES:
            raise ValueError(f"unknown type {data_type!r}{nearest(lowered, DATA_TYPES)}")
        return lowered

    @model_validator(mode="after")
    def _sense(self) -> Point:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """Return what does not fit together."""
        found = []
        if self.scale == 0:
            found.append("scale must not be 0")
        if self.family == "bool" and (self.scale, self.offset) != (1.0, 0.0):
            found.append("a bool has no scale or offset")
        if self.family != "bool" and self.reverse:
            found.append("reverse is for bool points")
        if self.min is not None and self.max is not None and self.min > self.max:
            found.append(f"min {self.min:g} is greater than max {self.max:g}")
        if self.deadband_percent is not None and (self.min is None or self.max is None):
            found.append("deadband_percent is of the span max - min; give both")
        return found

    @property
    def family(self) -> str:
        """The family of the data type: bool, number or text."""
        return family(self.data_type)

    @property
    def threshold(self) -> float:
        """The change that is worth storing; the percentage is of the span max - min."""
        span = (self.max or 0.0) - (self.min or 0.0)
        return max(self.deadband or 0.0, (self.deadband_percent or 0.0) / 100 * span)


class ChannelSettings(Model):
    """A channel without its points: what stands in comsrv.yaml."""

    id: int = Field(ge=1, le=MAX_ID)
    name: str = Field(min_length=1, max_length=256)
    protocol: str
    enabled: bool = True
    description: str = Field("", max_length=1024)
    parameters: dict[str, Any] = Field(default_factory=dict)
    polling: Polling = Polling()


class Points(Model):
    """The points of a channel by kind; each kind has its own id space."""

    T: tuple[Point, ...] = ()
    S: tuple[Point, ...] = ()
    C: tuple[Point, ...] = ()
    A: tuple[Point, ...] = ()

    def of(self, kind: PointKind | str) -> tuple[Point, ...]:
        """Return the points of one kind."""
        points: tuple[Point, ...] = getattr(self, str(kind))
        return points


class Channel(ChannelSettings):
    """A channel with its points. `source` says who declared it: a file or the API."""

    points: Points = Points()
    source: Literal["file", "api"] = "api"

    @property
    def interval_ms(self) -> int:
        """The time between two polls."""
        return self.polling.interval_ms

    def find(self, kind: PointKind | str, point_id: int | str) -> Point | None:
        """Return a point, or None."""
        return next((point for point in self.points.of(kind) if point.id == int(point_id)), None)
