"""Bodies, queries and replies of hissrv's routes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from libs.errors import InvalidError
from libs.http import PageQuery
from libs.instants import Instant, parse_duration
from libs.validation import Model, Pattern, Ref, misplaced, worded
from services.hissrv.store.contract import Aggregate, Fill, Order
from services.hissrv.store.edges import zone_of
from services.hissrv.store.stats import Counter

MAX_SERIES: Final = 100
MAX_POINTS: Final = 1_000_000


_MONTHS: Final = re.compile(r"(\d{1,3})(mo|y)")
_MONTHS_OF: Final = {"mo": 1, "y": 12}


class Span(NamedTuple):
    """The length of an interval: milliseconds, or months of the calendar."""

    ms: int
    months: int = 0


def _span(value: Any) -> Span:
    if isinstance(value, Span):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{type(value).__name__} is no duration; write integer milliseconds or 90s, 1m, 1h, 1d, 1mo")  # noqa: TRY004 - pydantic's
    if (found := _MONTHS.fullmatch(str(value).strip())) and int(found[1]):
        return Span(0, int(found[1]) * _MONTHS_OF[found[2]])
    try:
        return Span(parse_duration(value))
    except InvalidError as error:
        raise ValueError(f"{error}, 1mo, 1y") from None


Interval = Annotated[
    Span,
    BeforeValidator(_span),
    WithJsonSchema(
        {
            "oneOf": [{"type": "string"}, {"type": "integer", "minimum": 1}],
            "description": "integer milliseconds, or as in 90s, 1m, 1h, 1d, 1w; months of the calendar as in 1mo, 1y",
        }
    ),
]


class CounterOptions(Model):
    """How delta reads a counter that went down: as a roll-over where that is likely, else as an exchange."""

    modulus: float = Field(0, ge=0, le=1e18, description="the counter rolls over here, as at 4294967296; 0: never")
    exchange: Literal["zero", "skip"] = Field("zero", description="a new meter began at zero, or anywhere: no step")
    max_step: float | None = Field(None, gt=0, description="a larger step between two samples is an exchange")

    @property
    def counter(self) -> Counter:
        """These options as the store takes them."""
        return Counter(self.modulus, self.exchange, float("inf") if self.max_step is None else self.max_step)


class HistoryQuery(Model):
    """What to read. Without `interval` and `aggregate`: the points as they were recorded."""

    series: list[Ref] = Field(min_length=1, max_length=MAX_SERIES, description="references of points")
    start: Instant
    end: Instant | None = Field(None, description="exclusive; now when absent")
    interval: Interval | None = Field(None, description="aligned to the epoch (UTC), or in `zone`; else one interval")
    zone: str = Field(
        "",
        max_length=64,
        description="IANA name, as Europe/Berlin: days begin at midnight there, shorter ones with the day",
    )
    aggregate: Aggregate | None = Field(None, description="mean when only an interval is given")
    counter: CounterOptions | None = Field(None, description="for delta; without it the plain difference")
    fill: Fill = Field(Fill.NONE, description="what stands for an interval without a value")
    limit: int = Field(10_000, ge=1, le=MAX_POINTS, description="points a series at most")
    order: Order = Order.ASC

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            zone_of(zone)
        except InvalidError as error:
            raise ValueError(str(error)) from None
        return zone

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise misplaced("end", "must be after start")
        if len(set(self.series)) != len(self.series):
            raise misplaced("series", "names a reference twice")
        if self.counter is not None and self.aggregate is not Aggregate.DELTA:
            raise misplaced("counter", "goes with the aggregate delta only")
        if self.aggregate is None and self.interval is None and self.fill in {Fill.NULL, Fill.LINEAR}:
            raise misplaced("fill", f"{self.fill} needs an interval")
        if len(self.series) * self.limit > MAX_POINTS:
            raise ValueError(f"series times limit is over {MAX_POINTS}; ask for less at once")
        return self


class Series(Model):
    """Points of one series. `source` is the reference a model's point was read from."""

    ref: str
    source: str
    unit: str | None
    points: list[tuple[int, float | None, int]] = Field(description="[instant ms, value, quality 192|64|0]")
    reasons: list[tuple[int, str]] = Field(description="raw points that are not good: [instant ms, bad:timeout]")
    shares: list[float] = Field(description="aggregates: share of good samples (integral: of covered time)")


class HistoryAnswer(Model):
    """The series in the order they were asked for."""

    series: list[Series]


class Range(Model):
    """Which samples: of series by patterns, from start to end."""

    series: list[Pattern] | None = Field(
        None, min_length=1, max_length=1000, description="patterns over references, as comsrv:1001:T:*; all when absent"
    )
    start: Instant = Field(0, description="the beginning of time when absent")
    end: Instant | None = Field(None, description="exclusive; now when absent")

    def document(self, now_ms: int) -> dict[str, Any]:
        """Return it as a job's input: instants are fixed now."""
        document = self.model_dump()
        document["end"] = now_ms if self.end is None else self.end
        if document["end"] <= self.start:
            raise InvalidError(f"start {self.start} is not before end {document['end']}")
        return document


class ExportRequest(Range):
    """What to export."""

    format: Literal["csv", "parquet"] = "csv"


class ImportRequest(Model):
    """What to import: a file in the folder transfer/imports of the data directory."""

    file: str = Field(min_length=1, max_length=128, description="its name, ending with .csv or .parquet")


class CopyRequest(Range):
    """What to copy: where two stores are kept at once, from one of them to the other."""

    from_: Literal["embedded", "server"] = Field(alias="from")
    to: Literal["embedded", "server"]

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("from and to are the same store")
        return self


class LatestQuery(PageQuery):
    """Which series; all when none is named."""

    ref: list[Ref] = Field([], max_length=1000)


class RetryLetters(Model):
    """Which dead letters to write once more; the newest 200 when none is named."""

    ids: (
        list[
            Annotated[str, Field(pattern=worded(r"^\d{1,15}-\d{1,15}$", "the id of a dead letter, as 1763707000000-0"))]
        ]
        | None
    ) = Field(None, max_length=200)


class RetriedLetters(Model):
    """Those that are in the store now, and why the others are not."""

    retried: list[str]
    failed: dict[str, str]


class HistoryStatus(Model):
    """The store, the queue, and the consumer between them."""

    store: dict[str, Any]
    queue: dict[str, Any]
    consumer: dict[str, Any]
