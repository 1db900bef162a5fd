"""Bodies, queries and replies of hissrv's routes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from libs.http import PageQuery
from libs.instants import Duration, Instant
from libs.validation import Model, Ref
from services.hissrv.store.contract import Aggregate, Fill, Order

MAX_SERIES: Final = 100
MAX_POINTS: Final = 1_000_000


class HistoryQuery(Model):
    """What to read. Without `interval` and `aggregate`: the points as they were recorded."""

    series: list[Ref] = Field(min_length=1, max_length=MAX_SERIES, description="references of points")
    start: Instant
    end: Instant | None = Field(None, description="exclusive; now when absent")
    interval: Duration | None = Field(None, description="aligned to the epoch (UTC); without it one interval")
    aggregate: Aggregate | None = Field(None, description="mean when only an interval is given")
    fill: Fill = Fill.NONE
    limit: int = Field(10_000, ge=1, le=MAX_POINTS, description="points a series at most")
    order: Order = Order.ASC

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if len(set(self.series)) != len(self.series):
            raise ValueError("series names a reference twice")
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


class LatestQuery(PageQuery):
    """Which series; all when none is named."""

    ref: list[Ref] = Field([], max_length=1000)


class RetryLetters(Model):
    """Which dead letters to write once more; the newest 200 when none is named."""

    ids: list[Annotated[str, Field(pattern=r"^\d{1,15}-\d{1,15}$")]] | None = Field(None, max_length=200)


class RetriedLetters(Model):
    """Those that are in the store now, and why the others are not."""

    retried: list[str]
    failed: dict[str, str]


class HistoryStatus(Model):
    """The store, the queue, and the consumer between them."""

    store: dict[str, Any]
    queue: dict[str, Any]
    consumer: dict[str, Any]
