"""From statistics of intervals to aggregates: what carries over an interval's edge.

DuckDB reduces the samples to one row an interval; here the few rows get what
only their neighbors know: the value held at the start, the last good value
before, the intervals nobody sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from services.hissrv.store.contract import BAD, GOOD, UNCERTAIN, Aggregate, Fill, Order, Point, Query


class Bucket(NamedTuple):
    """Statistics of one interval of one series; NaN where there is none.

    held: the newest sample's value, NaN when that one is not good.
    inner, covered_ms: value times ms and ms, from the first sample to the interval's end.
    """

    start_ms: int
    samples: int
    good: int
    value: float
    first: float
    last: float
    held: float
    first_at_ms: int
    inner: float
    covered_ms: int


class Carry(NamedTuple):
    """What a series brings into a range: the value held at its start, and its last good value; NaN for none."""

    held: float = math.nan
    last_good: float = math.nan


def columns(query: Query) -> str:
    """Return the SQL of a Bucket's fields after `start_ms`, over columns v (NULL unless good), at_ms, arrival."""
    need: dict[str, str] = dict.fromkeys(Bucket._fields[3:], "NULL")
    match query.aggregate:
        case Aggregate.MIN | Aggregate.MAX | Aggregate.SUM | Aggregate.COUNT:
            need["value"] = f"{query.aggregate}(v)"
        case Aggregate.FIRST:
            need["value"] = "arg_min(v, (at_ms, arrival))"
        case Aggregate.LAST:
            need["value"] = "arg_max(v, (at_ms, arrival))"
        case Aggregate.DELTA:
            need["first"] = "arg_min(v, (at_ms, arrival))"
            need["last"] = "arg_max(v, (at_ms, arrival))"
        case Aggregate.MEAN | Aggregate.INTEGRAL:
            need["value"] = "avg(v)"
            need["first_at_ms"] = "min(at_ms)"
            need["inner"] = "sum(v * span_ms)"
            need["covered_ms"] = "sum(span_ms) FILTER (v IS NOT NULL)"
        case None:
            raise AssertionError("raw points have no buckets")
    if query.fill is Fill.PREVIOUS or query.aggregate.timed:
        need["held"] = "arg_max(coalesce(v, 'nan'::DOUBLE), (at_ms, arrival))"
    return ", ".join(["count(*)", "count(v)", *need.values()])


def bucket_start(query: Query, at_ms: int) -> int:
    """Return the start of the interval an instant is in."""
    return at_ms - at_ms % query.interval_ms if query.interval_ms else query.start_ms


def finish(query: Query, buckets: list[Bucket], carry: Carry) -> list[Point]:
    """Return the points of one series from its buckets in time order."""
    points = list(
        _held(query, buckets, carry) if query.aggregate and query.aggregate.timed else _values(query, buckets, carry)
    )
    if query.order is Order.DESC:
        points.reverse()
    return points[: query.limit]


def _grid(query: Query, buckets: list[Bucket]) -> Iterator[tuple[int, Bucket | None]]:
    """Yield every interval of the range, with its bucket where it has samples."""
    by_start = {bucket.start_ms: bucket for bucket in buckets}
    end_ms = min(query.end_ms, max(query.now_ms, buckets[-1].start_ms + 1 if buckets else 0))
    step = query.interval_ms or max(1, query.end_ms - query.start_ms)
    for start_ms in range(bucket_start(query, query.start_ms), end_ms, step):
        yield start_ms, by_start.get(start_ms)


def _quality(share: float) -> int:
    return GOOD if share >= 1 else BAD if share <= 0 else UNCERTAIN


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _values(query: Query, buckets: list[Bucket], carry: Carry) -> Iterator[Point]:
    held, last_good = carry
    every = _grid(query, buckets) if query.fill is Fill.PREVIOUS else ((one.start_ms, one) for one in buckets)
    for start_ms, bucket in every:
        if bucket is None:
            if start_ms >= query.now_ms:  # Nothing is known to hold in the future.
                continue
            share = 0.0 if math.isnan(held) else 1.0
            if query.aggregate in {Aggregate.SUM, Aggregate.COUNT, Aggregate.DELTA}:
                yield Point(start_ms, 0.0, _quality(share), share=share)
            elif share:
                yield Point(start_ms, held, GOOD)
            continue
        share = bucket.good / bucket.samples
        value = _number(bucket.value)
        if query.aggregate is Aggregate.DELTA and bucket.good:
            value = bucket.last - (bucket.first if math.isnan(last_good) else last_good)
            last_good = bucket.last
        yield Point(start_ms, value, _quality(share), share=share)
        held = bucket.held


def _held(query: Query, buckets: list[Bucket], carry: Carry) -> Iterator[Point]:
    held = carry.held
    for start_ms, bucket in _grid(query, buckets):
        begin = max(start_ms, query.start_ms)
        finish_ms = min(start_ms + query.interval_ms if query.interval_ms else query.end_ms, query.end_ms)
        finish_ms = max(begin, min(finish_ms, query.now_ms))
        before = max(0, (finish_ms if bucket is None else min(bucket.first_at_ms, finish_ms)) - begin)
        total, covered = (0.0, 0) if math.isnan(held) else (held * before, before)
        if bucket is not None:
            total += 0.0 if math.isnan(bucket.inner) else bucket.inner
            covered += bucket.covered_ms
            held = bucket.held
        if covered:
            share = covered / (finish_ms - begin)
            value = total / covered if query.aggregate is Aggregate.MEAN else total / 1000
            yield Point(start_ms, value, _quality(share), share=share)
        elif bucket is not None and bucket.good and query.aggregate is Aggregate.MEAN:
            # Samples of this very instant: nothing has held yet, so they weigh the same.
            yield Point(start_ms, bucket.value, UNCERTAIN, share=0.0)
        elif bucket is not None:
            yield Point(start_ms, None, BAD, share=0.0)
