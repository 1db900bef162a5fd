"""What a history store promises: the one interface hissrv knows.

    EmbeddedStore   files of this machine (services/hissrv/store/embedded.py)
    InfluxStore     an InfluxDB server (services/hissrv/store/influx.py)

A store raises `UnavailableError` when it can't take or give data now: hissrv
keeps the queue entries and comes again. Nothing else leaves a store but
`InvalidError` and `LimitError` for a query that can't be answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from libs.influx.lines import Label
from libs.redis.queue import EntryId
from services.hissrv.store.stats import Counter

GOOD: Final = 192
UNCERTAIN: Final = 64
BAD: Final = 0


def quality_number(text: str) -> int:
    """Return the integer form of a quality text ("" is good), as OPC numbers them."""
    if not text:
        return GOOD
    return UNCERTAIN if text.startswith("uncertain") else BAD


class Part(NamedTuple):
    """Samples of one instant, each series at most once.

    values: float64, NaN where the sample has no value (only the quality changed).
    quality: one text a sample ("" good, `bad:timeout`), or None when all are good.
    retention_days: how long to keep them; 0 takes the store's own setting.
    """

    at_ms: int
    series: list[str]
    values: NDArray[np.float64]
    quality: list[str] | None = None
    retention_days: int = 0


class Entry(NamedTuple):
    """What one queue entry holds; it is written as a whole, or it was written before.

    Of two samples of a series at one instant the one of the higher image number
    stays; of one image number, the later one.
    """

    id: EntryId
    parts: list[Part]
    image: int = 0


class Samples(NamedTuple):
    """Samples of any series and instants, as columns: value NaN where there is none, reason "" is good."""

    series: list[str]
    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    reason: list[str]
    image: NDArray[np.int64]


class Aggregate(StrEnum):
    """How the good samples of an interval become one value.

    min, max, sum, count: over the samples as they are recorded.
    mean: weighted by time, as samples are recorded on change: a value holds until
        the next sample, and a sample that is not good ends it. The plain mean of
        the samples would let a value that moved for a second outweigh the minute.
    first, last: the oldest and the newest good sample.
    delta: the newest good value less the last good value before the interval (or
        the interval's first where there is none before), so deltas add up.
    integral: value times seconds, values held as for the mean.
    """

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    FIRST = "first"
    LAST = "last"
    DELTA = "delta"
    INTEGRAL = "integral"

    @property
    def timed(self) -> bool:
        """True for the aggregates that weigh a value by how long it held."""
        return self in {Aggregate.MEAN, Aggregate.INTEGRAL}


class Fill(StrEnum):
    """What stands for an interval without a value.

    none: nothing. null: no value. previous: the value held since the last sample, as
    long as that one is good; sums, counts and deltas are 0. linear: on the line between
    the neighbors that have one, uncertain. After the last instant that can be known
    (now, or a later sample) nothing is filled in. For raw points, `previous` adds the
    value held at the start.
    """

    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"
    LINEAR = "linear"


class Order(StrEnum):
    """Oldest or newest first; a limit keeps the first ones of that order."""

    ASC = "asc"
    DESC = "desc"


class Query(NamedTuple):
    """Points of some series with start <= instant < end.

    interval_ms 0 and an aggregate: the whole range is one interval. Intervals are
    aligned to the epoch (UTC), with a zone to its calendar (services/hissrv/store/edges.py);
    the first is cut at `start`, the last at `end`. months: an interval of calendar months.
    aggregate None: raw points.
    now_ms bounds how far the last value is held.
    counter: for delta; how steps down are read. None takes the plain difference.
    tiers: whether statistics kept ready may be used; the answer is the same.
    """

    series: list[str]
    start_ms: int
    end_ms: int
    now_ms: int
    interval_ms: int = 0
    aggregate: Aggregate | None = None
    fill: Fill = Fill.NONE
    limit: int = 10_000
    order: Order = Order.ASC
    zone: str = ""
    months: int = 0
    counter: Counter | None = None
    tiers: bool = True

    @property
    def carries(self) -> bool:
        """True where what a series was before the range counts."""
        return self.fill is Fill.PREVIOUS or (
            self.aggregate is not None and (self.aggregate.timed or self.aggregate is Aggregate.DELTA)
        )


class Point(NamedTuple):
    """A raw sample or an interval (its start, its value, its worst quality).

    An interval is good when all its samples are, bad when none is, else uncertain;
    `share` is the share of good samples, of covered time for means and integrals.
    """

    at_ms: int
    value: float | None
    quality: int
    reason: str = ""
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Points:
    """The points of a series as columns: NaN where there is no value; reasons only of raw points."""

    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    share: NDArray[np.float64]
    reason: list[str] | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.at_ms)

    def __getitem__(self, at: int) -> Point:
        """Return one of them."""
        value, reason = float(self.value[at]), self.reason[at] if self.reason else ""
        return Point(
            int(self.at_ms[at]),
            None if math.isnan(value) else value,
            int(self.quality[at]),
            reason,
            float(self.share[at]),
        )

    def __iter__(self) -> Iterator[Point]:
        """Yield the points one by one."""
        reasons = self.reason or [""] * len(self.at_ms)
        columns = (self.at_ms.tolist(), self.value.tolist(), self.quality.tolist(), reasons, self.share.tolist())
        for at_ms, value, quality, reason, share in zip(*columns, strict=True):
            yield Point(at_ms, None if value != value else value, quality, reason, share)  # noqa: PLR0124 - NaN


class Latest(NamedTuple):
    """The newest sample of a series."""

    series: str
    point: Point


class Refused(NamedTuple):
    """A sample the store will never take, as it was to be written, and why; of two stores, which of them."""

    entry: EntryId
    series: str
    at_ms: int
    value: float
    quality: str
    line: str
    reason: str
    stores: tuple[str, ...] = ()


class Written(NamedTuple):
    """Outcome of a write: samples taken, entries that were there before, samples refused for good."""

    samples: int
    repeated: int
    refused: list[Refused] = []  # noqa: RUF012 - nobody adds to it


class StoreStatus(NamedTuple):
    """What /api/history/status and /health/detailed show."""

    kind: str
    series: int
    open_points: int
    files: int
    bytes: int
    oldest_at_ms: int | None
    newest_at_ms: int | None
    disk_percent: float


class Store(Protocol):
    """A history store. Every method is safe to call from the one event loop."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the ledger calls it, or each of the two it is."""
        ...

    async def open(self) -> None:
        """Make it ready; finish or undo what a crash interrupted."""
        ...

    def label(self, of: Callable[[str], Label]) -> None:
        """Take what the mappings say about a series; a store without measurements and tags ignores it."""
        ...

    async def write(self, entries: list[Entry], *, forget_before: EntryId | None = None) -> Written:
        """Keep the entries durably before returning: all of them or none, but for what is refused for good.

        An entry whose id was written before is left out, so a redelivery doubles
        nothing. Ids before `forget_before` never come again (the queue's oldest).
        """
        ...

    async def load(self, samples: Samples) -> None:
        """Keep many samples at once, of an import or a copy; the same ones again change nothing."""
        ...

    async def query(self, query: Query) -> dict[str, Points]:
        """Return the points by series; a series without points has none."""
        ...

    async def latest(self, series: list[str] | None, *, limit: int, after: str = "") -> list[Latest]:
        """Return the newest samples, sorted by series, of the named or of all series after one."""
        ...

    async def maintain(self, now_ms: int) -> None:
        """Do what is due: close and compact windows, end retention."""
        ...

    async def status(self) -> StoreStatus:
        """Describe the store."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...
