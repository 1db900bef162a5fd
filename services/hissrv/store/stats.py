"""Statistics of stretches of a series, that add up: of samples, of minutes, of days.

A row stands for what a series did from its first to its last sample in a stretch
of time. A sample is such a row by itself. `fold` makes one row of the rows of a
stretch, so one-minute rows come from samples, quarters of an hour from minutes,
and the answer to a query from whatever mix covers its range: the same arithmetic
everywhere. What lies between two rows (the value held meanwhile, the step of a
counter) is added when they are folded.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Counter(NamedTuple):
    """How a counter's steps are read.

    A step up is consumption. A step down is a roll-over where `modulus` is given and
    the step over it is less than half of it; else the meter was exchanged, and the
    new one began at zero (`exchange` "zero") or anywhere ("skip": the step counts as
    nothing). A step of more than `max_step` is an exchange too.
    """

    modulus: float = 0.0
    exchange: str = "zero"
    max_step: float = math.inf


class Stats(NamedTuple):
    """Rows sorted by series and time; NaN where there is no value.

    series: number of the series. first_at, last_at: instants of the first and the last sample.
    samples, good: how many, and those of them that are good; the next five are over the good ones.
    low, high, total, first, last: smallest, largest, sum, oldest, newest value.
    held: value of the last sample, NaN when that one is not good.
    inner, covered: value times ms, and ms of good value, from first_at to last_at.
    rise: sum of the steps between good values. falls: steps down among them. leap: the largest step up.
    """

    series: Integers
    first_at: Integers
    last_at: Integers
    samples: Integers
    good: Integers
    low: Floats
    high: Floats
    total: Floats
    first: Floats
    last: Floats
    held: Floats
    inner: Floats
    covered: Floats
    rise: Floats
    falls: Integers
    leap: Floats

    def pick(self, where: Any) -> Stats:
        """Return the rows of a mask, of positions or of a slice."""
        return Stats(*(column[where] for column in self))


FLOATS: Final = frozenset({"low", "high", "total", "first", "last", "held", "inner", "covered", "rise", "leap"})
PLAIN: Final = Counter(exchange="skip")


def empty() -> Stats:
    """Return no rows."""
    columns: Any = (np.zeros(0) if name in FLOATS else np.zeros(0, np.int64) for name in Stats._fields)
    return Stats(*columns)


def concatenate(parts: list[Stats]) -> Stats:
    """Return the rows of all parts, sorted by series and time."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty()
    joined = Stats(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    order = np.lexsort((joined.first_at, joined.series))
    return joined if _ascending(order) else joined.pick(order)


def _ascending(order: NDArray[np.intp]) -> bool:
    return bool((np.diff(order) > 0).all())


def of_samples(series: Integers, at_ms: Integers, value: Floats) -> Stats:
    """Return a row a sample; value is NaN where the sample is not good."""
    good = ~np.isnan(value)
    zeros = np.zeros(len(value))
    none = zeros.astype(np.int64)
    total = np.where(good, value, 0.0)
    return Stats(
        series, at_ms, at_ms, np.ones(len(value), np.int64), good.astype(np.int64),
        value, value, total, value, value, value, zeros, zeros, zeros, none, zeros,
    )  # fmt: skip


def steps(before: Floats, after: Floats, counter: Counter | None) -> Floats:
    """Return what each step from a good value to the next counts for; without a counter, the difference."""
    step = after - before
    if counter is None:
        return step
    exchanged = (step < 0) | (step > counter.max_step)
    new = after if counter.exchange == "zero" else np.zeros_like(after)
    found = np.where(exchanged, new, step)
    if counter.modulus:
        wrapped = step + counter.modulus
        rolled = (step < 0) & (wrapped < counter.modulus / 2) & (wrapped <= counter.max_step)
        found = np.where(rolled, wrapped, found)
    return found


def groups(*keys: Integers) -> NDArray[np.intp]:
    """Return where each run of equal keys starts."""
    change = np.zeros(max(0, len(keys[0]) - 1), np.bool_)
    for key in keys:
        change |= key[1:] != key[:-1]
    return np.concatenate([[0], np.flatnonzero(change) + 1]).astype(np.intp)


def fold(rows: Stats, starts: NDArray[np.intp], *, now_ms: int | None = None, counter: Counter | None = PLAIN) -> Stats:
    """Return one row for each run of rows that begins at `starts`; no run holds two series.

    now_ms: nothing is held after it. counter: how the steps between the rows are read;
    `rise` of rows that were folded before was read with theirs.
    """
    if not len(rows.series):
        return rows
    ends = np.append(starts[1:], len(rows.series))
    inside = np.ones(len(rows.series), np.bool_)
    inside[ends - 1] = False  # The last row of a run has no next one.
    first_at, last_at = rows.first_at, rows.last_at
    if now_ms is not None:
        first_at, last_at = np.minimum(first_at, now_ms), np.minimum(last_at, now_ms)
    gap = np.where(inside, np.append(first_at[1:], 0) - last_at, 0)
    known = ~np.isnan(rows.held)
    held = np.where(known, rows.held, 0.0)
    rise, falls, leap = _rises(rows, starts, ends, counter)
    first, last = _outer(rows, starts, ends)
    return Stats(
        rows.series[starts],
        rows.first_at[starts],
        rows.last_at[ends - 1],
        np.add.reduceat(rows.samples, starts),
        np.add.reduceat(rows.good, starts),
        np.fmin.reduceat(rows.low, starts),
        np.fmax.reduceat(rows.high, starts),
        np.add.reduceat(rows.total, starts),
        first,
        last,
        rows.held[ends - 1],
        np.add.reduceat(rows.inner + held * gap, starts),
        np.add.reduceat(rows.covered + known * gap, starts),
        rise,
        falls,
        leap,
    )


def _outer(rows: Stats, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return the first and the last good value of each run."""
    good = np.flatnonzero(rows.good > 0)
    at = np.searchsorted(good, starts)
    to = np.searchsorted(good, ends)
    some = to > at
    first, last = np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    first[some] = rows.first[good[at[some]]]
    last[some] = rows.last[good[to[some] - 1]]
    return first, last


def _rises(
    rows: Stats, starts: NDArray[np.intp], ends: NDArray[np.intp], counter: Counter | None
) -> tuple[Floats, Integers, Floats]:
    """Return steps, steps down and the largest step up within each run."""
    good = np.flatnonzero(rows.good > 0)
    run = np.searchsorted(ends, good, side="right")
    within = run[1:] == run[:-1]
    before, after = rows.last[good[:-1]][within], rows.first[good[1:]][within]
    target = run[1:][within]
    rise = np.add.reduceat(rows.rise, starts)
    falls = np.add.reduceat(rows.falls, starts)
    leap = np.maximum.reduceat(rows.leap, starts)
    if len(target):
        rise = rise + np.bincount(target, steps(before, after, counter), len(starts))
        falls = falls + np.bincount(target[after < before], minlength=len(starts))
        np.maximum.at(leap, target, after - before)
    return rise, falls, leap


def tier(rows: Stats, step_ms: int) -> Stats:
    """Fold rows into steps of time, aligned to the epoch."""
    return fold(rows, groups(rows.series, rows.first_at // step_ms)) if len(rows.series) else rows
