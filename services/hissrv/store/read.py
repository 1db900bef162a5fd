"""Queries of the embedded store: cataloged files and the rows not yet compacted, seen as one series of rows.

The range is cut where tiers begin and end (services/hissrv/store/segments.py). A stretch with
tiers gives their rows, any other its samples; both are rows of the same kind
(services/hissrv/store/stats.py), are folded to the query's intervals, and the answer does not
depend on the mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np

from services.hissrv.store import segments, stats
from services.hissrv.store.answer import Carry, answer, intervals
from services.hissrv.store.catalog import MINUTE_MS
from services.hissrv.store.contract import GOOD, Aggregate, Fill, Order, Points, Query
from services.hissrv.store.edges import DAY_MS, edges
from services.hissrv.store.parquet import Files, tier_rows
from services.hissrv.store.segments import Days
from services.hissrv.store.source import VALUES, Limits, Snapshot, Source
from services.hissrv.store.stats import Counter, Integers, Stats

# Stretches of a running day that are read from samples one by one; more are read as one.
_STRETCHES: Final = 8
# Columns of the tiers that an aggregate needs, beside those that tell when, how many and what held.
_ROWS: Final = ["step_ms", "start_ms", "first_at", "last_at", "samples", "good", "held", "last"]
_OF: Final[dict[Aggregate | None, list[str]]] = {
    Aggregate.MEAN: ["total", "inner", "covered"], Aggregate.INTEGRAL: ["total", "inner", "covered"],
    Aggregate.MIN: ["low"], Aggregate.MAX: ["high"], Aggregate.SUM: ["total"], Aggregate.FIRST: ["first"],
    Aggregate.DELTA: ["first", "rise", "falls", "leap"],
}  # fmt: skip


class _Mixed(Exception):  # noqa: N818 - it is no error, but a way back
    """The tiers can't answer this query; the samples can."""


class Reader:
    """Answers one query."""

    def __init__(self, raw: Files, tiers: Files, query: Query, state: Snapshot, limits: Limits) -> None:
        self._tiers = tiers
        self._query = query
        self._state = state
        self._source = Source(raw, state, limits)
        self._edges = edges(query) if query.aggregate else np.zeros(0, np.int64)
        self._columns = _ROWS + _OF.get(query.aggregate, [])
        self._days = Days(state.files, state.tiers, state.open.at_ms)

    def points(self) -> dict[str, Points]:
        """Return the points by series, in the order they were asked for."""
        query, refs = self._query, self._state.refs
        carry = self._carry() if query.carries else [Carry()] * len(refs)
        if query.aggregate is None:
            found = dict(zip(refs, self._samples(carry), strict=True))
            nothing = Points(*_no_points(), [])
            return {ref: found.get(ref, nothing) for ref in query.series}
        try:
            rows = self._rows(tiers=query.tiers)
        except _Mixed:
            rows = self._rows(tiers=False)
        bounds = np.searchsorted(rows.series, np.arange(len(refs) + 1))
        found = {
            ref: answer(query, self._edges, rows.pick(slice(bounds[at], bounds[at + 1])), carry[at])
            for at, ref in enumerate(refs)
        }
        none = stats.empty()
        return {ref: found[ref] if ref in found else answer(query, self._edges, none, Carry()) for ref in query.series}

    # Aggregates

    def _rows(self, *, tiers: bool) -> Stats:
        """Return the rows of all series, none of which crosses an interval's edge."""
        parts: list[Stats] = []
        step = segments.step_of(self._query, self._edges) if tiers else 0
        for one in segments.segments(self._query, self._days, step):
            if one.running:
                parts += self._running(one.low, one.high, self._source.all, self._query.counter)
            elif one.step:
                parts.append(self._tier(one.low, one.high, one.step))
            else:
                parts += self._folded(one.low, one.high)
        return stats.concatenate([part for part in parts if len(part.series)])

    def _folded(self, low: int, high: int, only: Integers | None = None) -> Iterator[Stats]:
        """Yield the rows of a stretch's samples, folded to the intervals."""
        for begin, end, some in self._source.chunks(low, high, only):
            rows = self._source.stats(begin, end, some)
            if len(rows.series):
                timed = self._query.aggregate and self._query.aggregate.timed
                now_ms = self._query.now_ms if timed else None
                starts = intervals(self._edges, rows)
                rows = stats.fold(rows, starts, now_ms=now_ms, counter=self._query.counter)
            yield rows

    def _running(self, low: int, high: int, only: Integers, counter: Counter | None) -> Iterator[Stats]:
        """Yield the rows of whole minutes of a day that runs; those of minutes that files disagree on from samples."""
        rows = self._minutes(low, high, only)
        twice = (rows.series[1:] == rows.series[:-1]) & (rows.first_at[1:] <= rows.last_at[:-1])
        late = np.unique(rows.first_at[1:][twice]) // MINUTE_MS
        breaks = np.flatnonzero(np.diff(late) > 1) + 1
        runs = np.split(late, breaks) if len(breaks) < _STRETCHES else [late]
        for run in runs if len(late) else []:
            begin, end = int(run[0]) * MINUTE_MS, int(run[-1] + 1) * MINUTE_MS
            rows = rows.pick((rows.first_at < begin) | (rows.first_at >= end))
            yield from self._folded(begin, end, only)
        _plain(rows, counter)
        yield rows

    def _minutes(self, low: int, high: int, only: Integers) -> Stats:
        """Return one-minute rows of a stretch of a day that runs, by file, and its samples that are in no tier."""
        fine, raw = self._days.minutes(low, high)
        refs = self._source.refs(only)
        self._source.spend(sum(self._tiers.cost(name, refs, low, high) for name in fine))
        self._source.spend(self._source.cost(low, high, only, raw))
        parts = []
        for name in fine:
            rows = tier_rows(self._tiers.read(name, refs, low, high, self._columns))
            parts.append(rows._replace(series=only[rows.series]))
        parts.append(self._source.stats(low, high, only, raw))
        return stats.concatenate([part for part in parts if len(part.series)])

    def _tier(self, low: int, high: int, step: int) -> Stats:
        """Return a tier's rows of a stretch."""
        of: dict[str, set[int]] = {}
        for day in range(low // DAY_MS, (high - 1) // DAY_MS + 1):
            for tier in self._days.sealed[day]:
                name = tier.fine if step == MINUTE_MS else tier.coarse
                of.setdefault(name or "", set()).add(day)
        parts = []
        for name, wanted in of.items():
            begin, end = max(low, min(wanted) * DAY_MS), min(high, (max(wanted) + 1) * DAY_MS)
            self._source.spend(self._tiers.cost(name, self._state.refs, begin, end, step))
            read = self._tiers.read(name, self._state.refs, begin, end, self._columns, step)
            rows = tier_rows(read)
            keep = read.columns["step_ms"] == step
            if len(wanted) < max(wanted) - min(wanted) + 1:
                keep &= np.isin(read.columns["start_ms"] // DAY_MS, list(wanted))
            parts.append(rows if keep.all() else rows.pick(keep))
        rows = stats.concatenate([part for part in parts if len(part.series)])
        twice = (rows.series[1:] == rows.series[:-1]) & (rows.first_at[1:] // step == rows.first_at[:-1] // step)
        if twice.any():  # A series in two retentions has two rows a step.
            raise _Mixed
        _plain(rows, self._query.counter)
        return rows

    # Samples

    def _samples(self, carry: list[Carry]) -> list[Points]:
        """Return raw points of each series; no more is read than the limit asks for."""
        query, count = self._query, len(self._state.refs)
        found: list[list[Points]] = [[] for _ in range(count)]
        missing = np.full(count, query.limit)
        backward = query.order is Order.DESC
        for low, high, only in self._source.chunks(query.start_ms, query.end_ms, reverse=backward):
            series, of = self._source.gather(low, high, [*VALUES, "reason"], only)
            bounds = np.searchsorted(series, np.arange(count + 1))
            for number in np.flatnonzero((bounds[1:] > bounds[:-1]) & (missing > 0)).tolist():
                at = np.arange(bounds[number], bounds[number + 1])
                at = (at[::-1] if backward else at)[: missing[number]]
                found[number].append(
                    Points(
                        of["at_ms"][at], of["value"][at], of["quality"][at], np.ones(len(at)), of["reason"][at].tolist()
                    )
                )
                missing[number] -= len(at)
            if not (missing > 0).any():
                break
        return [self._with_held(_joined(parts), carry[at].held) for at, parts in enumerate(found)]

    def _with_held(self, points: Points, held: float) -> Points:
        """Add the value held at the start, where the query asks for it."""
        query = self._query
        if query.fill is not Fill.PREVIOUS or math.isnan(held) or (points.at_ms == query.start_ms).any():
            return points
        first = Points(
            np.array([query.start_ms], np.int64), np.array([held]), np.array([GOOD], np.uint8), np.ones(1), [""]
        )
        if query.order is Order.DESC:
            return points if len(points.at_ms) >= query.limit else _joined([points, first])
        return _cut(_joined([first, points]), query.limit)

    # What was before the range

    def _carry(self) -> list[Carry]:
        """Return what each series was just before the range: newest first, day by day, by the tiers where they are."""
        count = len(self._state.refs)
        held, good = np.full(count, math.nan), np.full(count, math.nan)
        # Only delta asks for the last good value behind a bad one.
        delta = self._query.aggregate is Aggregate.DELTA
        unknown, never_good = np.ones(count, np.bool_), np.ones(count, np.bool_)
        for look in self._earlier():
            missing = np.flatnonzero(never_good if delta else unknown)
            if not len(missing):
                break
            rows = look(missing)
            for rows_of, known, into, name in (
                (rows, unknown, held, "held"),
                (rows.pick(rows.good > 0), never_good, good, "last"),
            ):
                if len(rows_of.series):
                    last = np.append(rows_of.series[1:] != rows_of.series[:-1], [True])
                    series, value = rows_of.series[last], getattr(rows_of, name)[last]
                    fresh = known[series]
                    into[series[fresh]] = value[fresh]
                    known[series] = False
        return [Carry(float(one), float(two)) for one, two in zip(held, good, strict=True)]

    def _earlier(self) -> Iterator[Callable[[Integers], Stats]]:
        """Yield ways to look for rows of some series before the range, from the newest stretch to the oldest."""
        start = self._query.start_ms
        ready = {day for day in self._days.ready(DAY_MS) if (day + 1) * DAY_MS <= start}
        of: dict[str, set[int]] = {}
        for day in ready:
            for tier in self._days.sealed[day]:
                of.setdefault(tier.coarse or "", set()).add(day)
        sources: list[tuple[int, str]] = [(day, "") for day in self._days.all - ready if day * DAY_MS < start]
        # A month with a day that is not ready is read day by day, so that the order in time is kept.
        for name, days in of.items():
            low, high = min(days), max(days)
            whole = not any(low < day < high for day, other in sources if not other)
            sources += [(high, name)] if whole else [(day, name) for day in days]
            if not whole:
                of[name] = set()
        for day, name in sorted(sources, reverse=True):
            if name:
                yield partial(self._of_days, name, of[name] or {day})
            else:
                yield from self._of_day(day * DAY_MS, min(start, (day + 1) * DAY_MS))

    def _of_day(self, low: int, high: int) -> Iterator[Callable[[Integers], Stats]]:
        """Yield ways to look at a day, or its beginning, that is not ready."""
        minute = low
        if low // DAY_MS in self._days.running:
            minute = high - high % MINUTE_MS
        for begin, end, only in self._source.chunks(minute, high, reverse=True) if minute < high else ():
            yield partial(self._of_some, begin, end, only)
        if low < minute:
            yield partial(self._of_minutes, low, minute)

    def _of_minutes(self, low: int, high: int, missing: Integers) -> Stats:
        return stats.concatenate([part for part in self._running(low, high, missing, None) if len(part.series)])

    def _of_some(self, low: int, high: int, only: Integers, missing: Integers) -> Stats:
        wanted = np.intersect1d(only, missing)
        return self._source.stats(low, high, wanted) if len(wanted) else stats.empty()

    def _of_days(self, name: str, days: set[int], missing: Integers) -> Stats:
        refs = self._source.refs(missing)
        low, high = min(days) * DAY_MS, (max(days) + 1) * DAY_MS
        self._source.spend(self._tiers.cost(name, refs, low, high, DAY_MS))
        read = self._tiers.read(name, refs, low, high, _ROWS, DAY_MS)
        keep = (read.columns["step_ms"] == DAY_MS) & np.isin(read.columns["start_ms"] // DAY_MS, list(days))
        rows = tier_rows(read).pick(keep)
        return rows._replace(series=missing[rows.series])


def _plain(rows: Stats, counter: Counter | None) -> None:
    """A counter that fell is read by the query's own rules, which a tier's rows do not know."""
    if counter and (rows.falls.any() or (rows.leap > counter.max_step).any()):
        raise _Mixed


def _no_points() -> tuple[Any, Any, Any, Any]:
    return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0)


def _joined(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Points(*_no_points(), [])
    return Points(
        np.concatenate([part.at_ms for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.share for part in parts]),
        [reason for part in parts for reason in part.reason or ()],
    )


def _cut(points: Points, limit: int) -> Points:
    reason = None if points.reason is None else points.reason[:limit]
    return Points(points.at_ms[:limit], points.value[:limit], points.quality[:limit], points.share[:limit], reason)
