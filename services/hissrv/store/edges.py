"""Where the intervals of a query begin and end.

Without a zone, intervals are aligned to the epoch, in UTC. With one:

    months          from the first of a month, 00:00 local time
    whole days      from local midnights; several days are counted from Monday, 1970-01-05, so weeks begin on Mondays
    shorter ones    start anew at every local midnight, and the day's last one ends with the day

So a day of a daylight-saving change has 23 or 25 hours.
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidError, LimitError
from services.hissrv.store.contract import Query

DAY_MS: Final = 86_400_000
MAX_INTERVALS: Final = 200_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MONDAY: Final = dt.date(1970, 1, 5)
_MONTHS_A_YEAR: Final = 12


def zone_of(name: str) -> dt.tzinfo:
    """Return a time zone by its IANA name; "" is UTC.

    Raises:
        InvalidError: there is none of that name.
    """
    if not name:
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidError(f"there is no time zone {name[:40]!r}; write one as Europe/Berlin") from None


def edges(query: Query) -> NDArray[np.int64]:
    """Return where the intervals begin, and where the last one ends.

    The first one begins at or before the query's start, the last one ends at or after its end.

    Raises:
        LimitError: too many.
        InvalidError: no such zone.
    """
    try:
        return _edges(query, zone_of(query.zone))
    except (ValueError, OverflowError):
        raise InvalidError("the range reaches beyond the year 9999 in its last interval") from None


def _edges(query: Query, zone: dt.tzinfo) -> NDArray[np.int64]:
    start, end, step = query.start_ms, query.end_ms, query.interval_ms
    if query.months:
        _bounded((end - start) // (28 * DAY_MS * query.months) * len(query.series))
        return _months(start, end, query.months, zone)
    if not step:
        return np.array([start, end], np.int64)
    _bounded((end - start) // step * len(query.series))
    if not query.zone:
        first = start - start % step
        return np.arange(first, end + step, step, dtype=np.int64)[: (end - first - 1) // step + 2]
    if step % DAY_MS == 0:
        return _days(start, end, step // DAY_MS, zone)
    return _parts_of_days(start, end, step, zone)


def _bounded(intervals: int) -> None:
    if intervals > MAX_INTERVALS:
        raise LimitError(f"{intervals} intervals, at most {MAX_INTERVALS}: take a longer one, or a shorter range")


def _instant(day: dt.date, zone: dt.tzinfo) -> int:
    local = dt.datetime(day.year, day.month, day.day, tzinfo=zone)
    return (local.astimezone(dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)


def _day(at_ms: int, zone: dt.tzinfo) -> dt.date:
    return (_EPOCH + dt.timedelta(milliseconds=at_ms)).astimezone(zone).date()


def _days(start: int, end: int, count: int, zone: dt.tzinfo) -> NDArray[np.int64]:
    first = _day(start, zone)
    if count > 1:
        first -= dt.timedelta(days=(first - _MONDAY).days % count)
    found = [_instant(first, zone)]
    while found[-1] < end:
        first += dt.timedelta(days=count)
        found.append(_instant(first, zone))
    return np.array(found, np.int64)


def _parts_of_days(start: int, end: int, step: int, zone: dt.tzinfo) -> NDArray[np.int64]:
    midnights = _days(start, end, 1, zone)
    parts = [np.arange(begin, until, step, dtype=np.int64) for begin, until in itertools.pairwise(midnights)]
    found = np.append(np.concatenate(parts), midnights[-1])
    low = max(0, int(np.searchsorted(found, start, side="right")) - 1)
    return found[low : int(np.searchsorted(found, end)) + 1]


def _months(start: int, end: int, count: int, zone: dt.tzinfo) -> NDArray[np.int64]:
    day = _day(start, zone)
    number = day.year * _MONTHS_A_YEAR + day.month - 1
    number -= number % count
    found: list[int] = []
    while not found or found[-1] < end:
        found.append(_instant(dt.date(number // _MONTHS_A_YEAR, number % _MONTHS_A_YEAR + 1, 1), zone))
        number += count
    return np.array(found, np.int64)
