"""A model's point across changes of device: each stretch of time is asked of the point it was mapped to then.

The intervals of the stretches are put together. An interval in which the device
changed has an answer of either side; the two become one by what the aggregate is:
sums, counts, deltas and integrals add up, a mean is weighed by the time each side held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.hissrv.store.contract import BAD, GOOD, UNCERTAIN, Aggregate, Fill, Order, Points, Query, Store
from services.hissrv.store.edges import MAX_INTERVALS, edges
from services.hissrv.store.stats import Integers

_ADDED = frozenset({Aggregate.SUM, Aggregate.COUNT, Aggregate.DELTA, Aggregate.INTEGRAL})


class Piece(NamedTuple):
    """The reference a point was stored under in low <= instant < high."""

    low: int
    high: int
    source: str


async def ask(store: Store, query: Query, sources: Sequence[Sequence[Piece]]) -> list[Points]:
    """Answer a query of points, each in one or several pieces; `query.series` is what the pieces say."""
    inside = [_inside(pieces, query) for pieces in sources]
    plain = sorted({pieces[0].source for pieces in inside if len(pieces) == 1})
    found = await store.query(query._replace(series=plain)) if plain else {}
    return [found[pieces[0].source] if len(pieces) == 1 else await _joined(store, query, pieces) for pieces in inside]


def _inside(pieces: Sequence[Piece], query: Query) -> list[Piece]:
    """Return the pieces of a range; neighbors of one source are one piece."""
    found: list[Piece] = []
    for piece in pieces:
        if piece.low < query.end_ms and piece.high > query.start_ms:
            if found and found[-1].source == piece.source:
                found[-1] = found[-1]._replace(high=piece.high)
            else:
                found.append(piece)
    return found or [pieces[-1]]


async def _joined(store: Store, query: Query, pieces: list[Piece]) -> Points:
    """Answer piece by piece. Gaps are filled at the end, so that a line may cross the change."""
    answers = []
    raw = query.aggregate is None
    for piece in reversed(pieces) if raw and query.order is Order.DESC else pieces:
        low, high = max(query.start_ms, piece.low), min(query.end_ms, piece.high)
        held = query.fill if query.fill is Fill.PREVIOUS else Fill.NONE
        part = query._replace(series=[piece.source], start_ms=low, end_ms=high, fill=held)
        if not raw:
            part = part._replace(order=Order.ASC, limit=MAX_INTERVALS)
        elif piece is not pieces[0]:
            part = part._replace(fill=Fill.NONE)
        answers.append(((await store.query(part))[piece.source], low, high))
    if raw:
        return _cut(_chain([points for points, _, _ in answers]), slice(0, query.limit))
    keep = slice(None, None, -1) if query.order is Order.DESC else slice(None)
    joined = _cut(_merged(query, answers), keep)
    return _cut(joined, slice(0, query.limit))


def _cut(points: Points, keep: slice) -> Points:
    reason = None if points.reason is None else points.reason[keep]
    return Points(points.at_ms[keep], points.value[keep], points.quality[keep], points.share[keep], reason)


def _chain(parts: list[Points]) -> Points:
    return Points(
        np.concatenate([part.at_ms for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.share for part in parts]),
        [reason for part in parts for reason in part.reason or ()],
    )


def _merged(query: Query, answers: list[tuple[Points, int, int]]) -> Points:
    """Put the intervals of all pieces together; those that two pieces share become one."""
    labels = edges(query)
    found: dict[int, tuple[float, float, float]] = {}
    parts = [_by_interval(labels, *answer) for answer in answers]
    some = set().union(*parts)
    for part, (_, low, high) in zip(parts, answers, strict=True):
        # Where a piece says nothing of an interval it shares, its time counts as not covered.
        ends = {int(at) for at in np.searchsorted(labels, [low, high - 1], side="right") - 1}
        for number in sorted(part.keys() | (ends & some)):
            begin, end = max(int(labels[number]), low), min(int(labels[number + 1]), high, query.now_ms)
            one = (*part.get(number, (math.nan, 0.0)), float(max(0, end - begin)))
            found[number] = _both(query.aggregate, found[number], one) if number in found else one
    if query.fill in {Fill.NULL, Fill.LINEAR}:
        _fill(query, found, labels.tolist())
    numbers = sorted(found)
    value = np.array([found[number][0] for number in numbers], np.float64)
    share = np.array([found[number][1] for number in numbers], np.float64)
    quality = np.where(share >= 1, GOOD, np.where(share <= 0, BAD, UNCERTAIN)).astype(np.uint8)
    if query.fill is Fill.LINEAR:
        quality[(share <= 0) & ~np.isnan(value)] = UNCERTAIN
    return Points(labels[numbers], value, quality, share)


def _by_interval(labels: Integers, points: Points, low: int, _: int) -> dict[int, tuple[float, float]]:
    """Return value and share by the number of the interval."""
    at = np.searchsorted(labels, np.maximum(points.at_ms, low), side="right") - 1
    return dict(zip(at.tolist(), zip(points.value.tolist(), points.share.tolist(), strict=True), strict=True))


def _both(
    aggregate: Aggregate | None, one: tuple[float, float, float], two: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return value, share and length of two neighboring stretches; the first one is the earlier."""
    length = one[2] + two[2]
    share = (one[1] * one[2] + two[1] * two[2]) / (length or 1)
    known = [part for part in (one, two) if not math.isnan(part[0])]
    if len(known) < 2:
        return known[0][0] if known else math.nan, share, length
    if aggregate in _ADDED:
        value = one[0] + two[0]
    elif aggregate is Aggregate.MIN:
        value = min(one[0], two[0])
    elif aggregate is Aggregate.MAX:
        value = max(one[0], two[0])
    elif aggregate is Aggregate.FIRST:
        value = one[0]
    elif aggregate is Aggregate.LAST:
        value = two[0]
    else:
        weights = one[1] * one[2], two[1] * two[2]
        value = (one[0] * weights[0] + two[0] * weights[1]) / (sum(weights) or 1)
    return value, share, length


def _fill(query: Query, found: dict[int, tuple[float, float, float]], labels: list[int]) -> None:
    """Put nulls or lines where intervals have no value."""
    if query.fill is Fill.NULL:
        for number, label in enumerate(labels[:-1]):
            if label < query.now_ms:
                found.setdefault(number, (math.nan, 0.0, 1.0))
        return
    known = sorted(number for number, part in found.items() if not math.isnan(part[0]))
    for number in range(known[0], known[-1]) if known else ():
        if number not in found or math.isnan(found[number][0]):
            at = [labels[one] for one in known]
            found[number] = float(np.interp(labels[number], at, [found[one][0] for one in known])), 0.0, 1.0
