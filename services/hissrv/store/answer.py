"""From statistics to the points of an answer: what carries over an interval's edge, and what stands in a gap."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.hissrv.store import stats
from services.hissrv.store.contract import BAD, GOOD, UNCERTAIN, Aggregate, Fill, Order, Points, Query
from services.hissrv.store.edges import edges as edges_of
from services.hissrv.store.stats import Floats, Integers, Mask, Stats


class Carry(NamedTuple):
    """What a series brings into a range: the value held at its start, and its last good value; NaN for none."""

    held: float = math.nan
    last_good: float = math.nan


class _Grid(NamedTuple):
    """The intervals of one series: their rows where they have samples, and what stood before each."""

    labels: Integers
    begin: Integers
    finish: Integers
    some: Mask
    row: NDArray[np.intp]
    held: Floats


def intervals(edges: Integers, rows: Stats) -> NDArray[np.intp]:
    """Return where the rows of each series and interval start."""
    return stats.groups(rows.series, np.searchsorted(edges, rows.first_at, side="right"))


def answer(query: Query, edges: Integers, rows: Stats, carry: Carry) -> Points:
    """Return the points of one series from its rows, which may be finer than the intervals but cross none's edge."""
    if len(rows.series):
        now_ms = query.now_ms if query.aggregate and query.aggregate.timed else None
        folded = stats.fold(rows, intervals(edges, rows), now_ms=now_ms, counter=query.counter)
    else:
        folded = rows
    grid = _grid(query, edges, folded, carry)
    if query.aggregate and query.aggregate.timed:
        value, share, present = _held(query, grid, folded)
    else:
        value, share, present = _values(query, grid, folded, carry)
    quality = np.where(share >= 1, GOOD, np.where(share <= 0, BAD, UNCERTAIN)).astype(np.uint8)
    if query.aggregate is Aggregate.MEAN:
        # Samples of one instant and nothing held yet: known, but for no time.
        quality[present & (share <= 0) & ~np.isnan(value)] = UNCERTAIN
    value, quality, present = _filled(query, grid, value, quality, present)
    keep = np.flatnonzero(present)
    keep = keep[::-1][: query.limit] if query.order is Order.DESC else keep[: query.limit]
    return Points(grid.labels[keep], value[keep], quality[keep], share[keep])


def _grid(query: Query, edges: Integers, rows: Stats, carry: Carry) -> _Grid:
    labels = edges[:-1]
    number = np.searchsorted(edges, rows.first_at, side="right") - 1
    some = np.zeros(len(labels), np.bool_)
    some[number] = True
    row = np.cumsum(some) - 1  # The row of an interval, else the last one before it.
    before = np.concatenate([[-1], row[:-1]])
    held = (
        np.where(before >= 0, rows.held[before], carry.held) if len(rows.series) else np.full(len(labels), carry.held)
    )
    begin = np.maximum(labels, query.start_ms)
    finish = np.maximum(begin, np.minimum(np.minimum(edges[1:], query.end_ms), query.now_ms))
    return _Grid(labels, begin, finish, some, row, held)


def _held(query: Query, grid: _Grid, rows: Stats) -> tuple[Floats, Floats, Mask]:
    """Return mean or integral, the share of covered time, and which intervals have either."""
    some, row = grid.some, grid.row[grid.some]
    until = grid.finish.copy()
    until[some] = np.minimum(rows.first_at[row], grid.finish[some])
    before = np.maximum(0, until - grid.begin).astype(np.float64)
    known = ~np.isnan(grid.held)
    total = np.where(known, grid.held, 0.0) * before
    covered = known * before
    tail = np.maximum(0, grid.finish[some] - np.minimum(rows.last_at[row], grid.finish[some])).astype(np.float64)
    holds = ~np.isnan(rows.held[row])
    total[some] += rows.inner[row] + np.where(holds, rows.held[row], 0.0) * tail
    covered[some] += rows.covered[row] + holds * tail
    length = np.maximum(1, grid.finish - grid.begin)
    share = covered / length
    present = some | (covered > 0)
    if query.aggregate is Aggregate.INTEGRAL:
        return np.where(covered > 0, total / 1000, np.nan), share, present
    value = np.divide(total, covered, out=np.full(len(total), np.nan), where=covered > 0)
    instant = np.flatnonzero(some & (covered <= 0))
    good = rows.good[grid.row[instant]]
    value[instant] = np.divide(rows.total[grid.row[instant]], good, out=np.full(len(instant), np.nan), where=good > 0)
    return value, share, present


def _values(query: Query, grid: _Grid, rows: Stats, carry: Carry) -> tuple[Floats, Floats, Mask]:
    """Return the aggregate of the samples, the share of good ones, and which intervals have any."""
    some = grid.some
    value, share = np.full(len(some), np.nan), np.zeros(len(some))
    value[some] = _of_samples(query, rows, carry)
    share[some] = rows.good / np.maximum(1, rows.samples)
    if query.fill is not Fill.PREVIOUS:
        return value, share, some.copy()
    empty = ~some & (grid.labels < query.now_ms)
    known = ~np.isnan(grid.held)
    share[empty] = known[empty]
    if query.aggregate in {Aggregate.SUM, Aggregate.COUNT, Aggregate.DELTA}:
        value[empty] = 0.0
        return value, share, some | empty
    value[empty] = grid.held[empty]
    return value, share, some | (empty & known)


def _of_samples(query: Query, rows: Stats, carry: Carry) -> Floats:
    """Return one value a row."""
    match query.aggregate:
        case Aggregate.MIN:
            value = rows.low
        case Aggregate.MAX:
            value = rows.high
        case Aggregate.COUNT:
            value = rows.good.astype(np.float64)
        case Aggregate.SUM:
            value = np.where(rows.good > 0, rows.total, np.nan)
        case Aggregate.FIRST:
            value = rows.first
        case Aggregate.LAST:
            value = rows.last
        case _:
            value = _delta(query, rows, carry)
    return value


def _delta(query: Query, rows: Stats, carry: Carry) -> Floats:
    """Return what a counter rose by in each row, from the last good value before it."""
    some = rows.good > 0
    value = np.full(len(some), np.nan)
    first, last = rows.first[some], rows.last[some]
    if len(first):
        before = np.concatenate([[first[0] if math.isnan(carry.last_good) else carry.last_good], last[:-1]])
        if query.counter is None:
            value[some] = last - before
        else:
            value[some] = rows.rise[some] + stats.steps(before, first, query.counter)
    return value


def _filled(
    query: Query, grid: _Grid, value: Floats, quality: NDArray[np.uint8], present: Mask
) -> tuple[Floats, NDArray[np.uint8], Mask]:
    """Put nulls or lines into the gaps."""
    if query.fill is Fill.NULL:
        known = grid.labels < query.now_ms
        return value, np.where(present, quality, BAD).astype(np.uint8), present | known
    if query.fill is Fill.LINEAR:
        valued = present & ~np.isnan(value)
        at = np.flatnonzero(valued)
        if len(at):
            gaps = ~valued
            gaps[: at[0]] = gaps[at[-1] :] = False
            value = value.copy()
            value[gaps] = np.interp(grid.labels[gaps], grid.labels[valued], value[valued])
            return value, np.where(gaps, UNCERTAIN, quality).astype(np.uint8), present | gaps
    return value, quality, present


class Samples(NamedTuple):
    """Samples of one series in time order, one an instant: value is NaN where there is none."""

    at_ms: Integers
    value: Floats
    quality: NDArray[np.uint8]

    @classmethod
    def of(cls, rows: list[list[Any]]) -> Samples:
        """Take (instant, value or None, quality number or None) in time order."""
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([math.nan if row[1] is None else row[1] for row in rows], np.float64),
            np.array([GOOD if row[2] is None else row[2] for row in rows], np.uint8),
        )

    @property
    def good(self) -> Floats:
        """The values, NaN where the sample is not good."""
        return np.where(self.quality == GOOD, self.value, math.nan)


def of_samples(query: Query, inside: Samples, before: Samples) -> Points:
    """Answer a query from all samples of a series in the range, and those before it that it starts from."""
    good = before.good
    some = good[~np.isnan(good)]
    carry = Carry(float(good[-1]) if len(good) else math.nan, float(some[-1]) if len(some) else math.nan)
    if query.aggregate is None:
        return _raw(query, inside, carry.held)
    edges = edges_of(query)
    rows = stats.of_samples(np.zeros(len(inside.at_ms), np.int64), inside.at_ms, inside.good)
    return answer(query, edges, rows, carry)


def _raw(query: Query, inside: Samples, held: float) -> Points:
    at_ms, value, quality = inside
    if query.fill is Fill.PREVIOUS and not math.isnan(held) and not (at_ms[:1] == query.start_ms).any():
        at_ms, value = np.append([query.start_ms], at_ms), np.append([held], value)
        quality = np.append([GOOD], quality).astype(np.uint8)
    keep: Any = slice(None, None, -1) if query.order is Order.DESC else slice(None)
    at_ms, value, quality = at_ms[keep][: query.limit], value[keep][: query.limit], quality[keep][: query.limit]
    reason = [reason_of(one) for one in quality.tolist()]
    return Points(at_ms, value, quality, np.ones(len(at_ms)), reason)


def reason_of(quality: int) -> str:
    """Return a text for a quality number, of a store that keeps the number only."""
    return "" if quality == GOOD else "bad" if quality == BAD else "uncertain"
