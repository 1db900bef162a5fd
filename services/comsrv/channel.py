"""What a channel is: its settings and its points, parsed once into frozen models.

The same models are read from YAML and CSV (`services.comsrv.tables`), from the HTTP
API and from Redis, so a channel means the same wherever it comes from.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from libs.points import PointKind
from libs.validation import Model, nearest
from services.comsrv.fields import Integer, Number, Truth, labels
from services.comsrv.options import NOT_FOR_TEXTS, CommandOptions, CommandSettings

MAX_ID: Final = 999_999_999
GROUP_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,24}")
NUMBER_TYPES: Final = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "bcd16", "bcd32", "bcd64",
    "int", "float", "double", "number", "enum",
)  # fmt: skip
TEXT_TYPES: Final = ("string", "text")
DOUBLE_POINT: Final = "double_point"
DATA_TYPES: Final = ("bool", DOUBLE_POINT, *NUMBER_TYPES, *TEXT_TYPES)
DOUBLE_POINT_LABELS: Final = {"0": "moving", "1": "open", "2": "closed", "3": "invalid"}


def family(data_type: str) -> str:
    """Return the family of a data type: bool, double (a state of two bits), number or text."""
    if data_type == "bool":
        return "bool"
    if data_type == DOUBLE_POINT:
        return "double"
    return "text" if data_type in TEXT_TYPES else "number"


MaxGap = Annotated[int, Field(ge=0, le=2000)] | Literal["auto"]
# joined: as few requests as the limits allow. aligned: no request crosses a multiple of `window`.
# windows: whole windows are read. single: one value a request.
Mode = Literal["joined", "aligned", "windows", "single"]


class UnitPolling(Model):
    """What differs for one unit; what is left out is as for its channel."""

    max_registers: int | None = Field(None, ge=1, le=125)
    max_bits: int | None = Field(None, ge=1, le=2000)
    max_gap: MaxGap | None = None
    mode: Mode | None = None
    window: int | None = Field(None, ge=1, le=2000)


class PollGroup(Model):
    """Points with an interval of their own."""

    interval_ms: int = Field(ge=10, le=86_400_000)
    synchronized: bool | None = Field(None, description="as for the channel; absent: what the channel says")


def _is_key(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and str(int(text)) == text


class Polling(Model):
    """How often and in which blocks a channel is read."""

    interval_ms: int = Field(1000, ge=10, le=86_400_000)
    synchronized: bool = Field(
        False,
        description="polled at the same instants as all that is synchronized, instead of spread over the interval",
    )
    groups: dict[str, PollGroup] = Field(default_factory=dict, description="poll groups by name, for poll_group")
    max_registers: int = Field(125, ge=1, le=125, description="registers a request")
    max_bits: int = Field(2000, ge=1, le=2000, description="coils or inputs a request")
    max_gap: MaxGap = Field("auto", description="unused addresses read through to join two points")
    mode: Mode = Field("joined", description="aligned, windows or single for devices that need it")
    window: int | None = Field(None, ge=1, le=2000, description="addresses a window, for aligned and windows")
    units: dict[int, UnitPolling] = Field(default_factory=dict, description="what differs, by unit")
    reprobe_max_ms: int = Field(
        1500, ge=100, le=3_600_000, description="longest pause before a silent unit is asked again"
    )

    @field_validator("groups")
    @classmethod
    def _names(cls, groups: dict[str, PollGroup]) -> dict[str, PollGroup]:
        wrong = [name for name in groups if not GROUP_NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))}: a group's name has 1 to 24 letters, digits, _ and -")
        return groups

    @model_validator(mode="after")
    def _windows(self) -> Polling:
        wrong = []
        for name, limits in [("", self), *((f"units.{unit}: ", self.of(unit)) for unit in self.units)]:
            if limits.mode in {"aligned", "windows"} and limits.window is None:
                wrong.append(f"{name}mode {limits.mode} needs a window")
            elif limits.mode == "windows" and limits.window is not None and limits.window > limits.max_registers:
                wrong.append(f"{name}a window of {limits.window} is more than max_registers {limits.max_registers}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def of(self, unit: int) -> Polling:
        """Return the limits of a unit."""
        own = self.units.get(unit)
        if own is None:
            return self
        # Not validated anew: `_windows` calls this for each unit.
        return self.model_copy(update={**own.model_dump(exclude_none=True), "units": {}})

    def interval_of(self, group: str) -> int:
        """Return the time between two polls of a group; the group without a name is the channel's."""
        return self.groups[group].interval_ms if group in self.groups else self.interval_ms

    def synchronizes(self, group: str) -> bool:
        """Say whether a group is polled at the instants that all synchronized groups share."""
        own = self.groups[group].synchronized if group in self.groups else None
        return self.synchronized if own is None else own

    @property
    def shortest_ms(self) -> int:
        """The interval of the fastest group."""
        return min(self.interval_ms, *(group.interval_ms for group in self.groups.values()), 86_400_000)


# The sets of field names that points have in common.
_FIELD_SETS: Final[dict[frozenset[str], set[str]]] = {}


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
    heartbeat_s: Number | None = Field(None, ge=0, le=86_400)
    limits: Literal["show", "clamp", "bad"] = Field("show", description="what a value read beyond min or max becomes")
    value_map: Annotated[dict[str, str] | None, BeforeValidator(labels)] = None
    group: str = Field("", max_length=64)
    expression: str = ""
    command: CommandOptions | None = None
    mapping: dict[str, Any] | None = None

    @field_validator("data_type")
    @classmethod
    def _known_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in DATA_TYPES:
            raise ValueError(f"unknown type {data_type!r}{nearest(lowered, DATA_TYPES)}")
        return sys.intern(lowered)

    @model_validator(mode="after")
    def _sense(self) -> Point:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def mapped(self, mapping: dict[str, Any]) -> Point:
        """Return the point with its mapping.

        Points that name the same fields share the set of their names, and mappings their texts:
        0.6 kB a point, of which there may be 100,000.
        """
        texts = {name: sys.intern(item) if isinstance(item, str) else item for name, item in mapping.items()}
        point = self.model_copy(update={"mapping": texts})
        names = _FIELD_SETS.setdefault(frozenset(point.model_fields_set), point.model_fields_set)
        object.__setattr__(point, "__pydantic_fields_set__", names)
        return point

    def _problems(self) -> list[str]:
        """Return what does not fit together."""
        found = []
        if self.scale == 0:
            found.append("scale must not be 0")
        if self.family != "number" and (self.scale, self.offset) != (1.0, 0.0):
            found.append(f"a {self.data_type} has no scale or offset")
        if self.family != "bool" and self.reverse:
            found.append("reverse is for bool points")
        if self.min is not None and self.max is not None and self.min > self.max:
            found.append(f"min {self.min:.15g} is greater than max {self.max:.15g}")
        if self.deadband_percent is not None and (self.min is None or self.max is None):
            found.append("deadband_percent is of the span max - min; give both")
        if self.limits != "show" and self.min is None and self.max is None:
            found.append(f"limits {self.limits} needs min or max")
        return found + self._text_problems() + self._label_problems()

    def _text_problems(self) -> list[str]:
        if self.family != "text":
            return []
        numeric = ("min", "max", "deadband", "deadband_percent", "value_map")
        found = [f"{name} is not for a text" for name in numeric if getattr(self, name) is not None]
        options = [name for name in NOT_FOR_TEXTS if self.command and getattr(self.command, name) is not None]
        return found + [f"{name} is not for a text" for name in options]

    def _label_problems(self) -> list[str]:
        if self.value_map is None:
            return ["enum needs a value_map such as 0=Off; 1=On"] if self.data_type == "enum" else []
        found = [f"value_map: {key!r} is no whole number" for key in self.value_map if not _is_key(key)]
        if not self.value_map:
            found.append("value_map is empty")
        return found

    @property
    def family(self) -> str:
        """The family of the data type: bool, double, number or text."""
        return family(self.data_type)

    @property
    def meanings(self) -> dict[str, str] | None:
        """What the values mean, by their text: the value_map, or the states of a double point."""
        return DOUBLE_POINT_LABELS if self.value_map is None and self.family == "double" else self.value_map

    @property
    def threshold(self) -> float:
        """The change that is worth storing; the percentage is of the span max - min."""
        span = (self.max or 0.0) - (self.min or 0.0)
        return max(self.deadband or 0.0, (self.deadband_percent or 0.0) / 100 * span)


class Reporting(Model):
    """Which changes are worth sending; see services.comsrv.reporting."""

    deadband: Number | None = Field(None, ge=0, description="in the points' units")
    deadband_percent: Number | None = Field(None, ge=0, le=100, description="of a point's span, max - min")
    heartbeat_s: Number | None = Field(None, ge=0, le=86_400, description="an unchanged value is sent this often")


class ChannelReporting(Reporting):
    """What holds for a channel, and for the groups of its points."""

    groups: dict[str, Reporting] = Field(default_factory=dict, description="by the point tables' column group")


class ChannelSettings(Model):
    """A channel without its points: what stands in comsrv.yaml."""

    id: int = Field(ge=1, le=MAX_ID)
    name: str = Field(min_length=1, max_length=256)
    protocol: str
    enabled: bool = True
    description: str = Field("", max_length=1024)
    parameters: dict[str, Any] = Field(default_factory=dict)
    polling: Polling = Polling()
    reporting: ChannelReporting = ChannelReporting()
    commands: CommandSettings = CommandSettings()


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
