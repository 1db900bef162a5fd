"""What is on disk, and what should be done about it. The catalog itself is in the window's database.

Raw files hold samples, one UTC day each:

    w   a compacted window's samples of a day        written every ten minutes
    m   several of them, merged while the day lasts  once there are many
    n   several of those                             once there are many
    d   all samples of a finished day                late ones rewrite it, and no other

Each comes with statistics (services/hissrv/store/stats.py) in tiers:

    f   one-minute rows of a raw file                left out where they would save little
    c   rows of 15 minutes, an hour, a day           of a `d` file
    q   the same of a month                          `c` files merged when the month is over

The longer tiers of a day count while its only raw file is the one they were made from. One-minute
rows always do: of a day that runs, or has late samples, those of its files add up wherever they are
about different times.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from services.hissrv.store.edges import DAY_MS

MINUTE_MS: Final = 60_000
COARSE_MS: Final = (900_000, 3_600_000, DAY_MS)
STEPS_MS: Final = (DAY_MS, 3_600_000, 900_000, MINUTE_MS)
# A day's files are merged this long after its end, when its windows are closed.
SETTLE_MS: Final = 1_800_000
# So many files of a kind of a running day are merged into one; a query opens each of them.
MANY: Final = 8
_LAST_DAY: Final = (dt.date.max - dt.date(1970, 1, 1)).days


class File(NamedTuple):
    """A cataloged file of samples; `retention` in days, 0 for the store's own setting."""

    name: str
    min_at_ms: int
    max_at_ms: int
    rows: int
    bytes: int
    retention: int

    @property
    def kind(self) -> str:
        """w, m, n or d."""
        return self.name[0]

    @property
    def day(self) -> int:
        """The number of its UTC day since 1970; files of the first format may reach into more."""
        return self.min_at_ms // DAY_MS

    @property
    def last_day(self) -> int:
        """The day of its last sample."""
        return self.max_at_ms // DAY_MS


class Tier(NamedTuple):
    """Where a raw file's tiers are; no fine one: not worth it; no coarse one: it may not be all of its day."""

    raw: str
    day: int
    retention: int
    fine: str | None
    coarse: str | None


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=min(day, _LAST_DAY))


def day_text(day: int) -> str:
    """Return a day as in 20260131."""
    return _date(day).strftime("%Y%m%d")


def month_of(day: int) -> tuple[int, int]:
    """Return year and month of a day."""
    date = _date(day)
    return date.year, date.month


def expired(files: list[File], now_ms: int, retention_days: int) -> list[File]:
    """Return the files whose newest sample is older than their retention; 0 days keeps for ever."""
    return [
        file for file in files if (days := file.retention or retention_days) and file.max_at_ms < now_ms - days * DAY_MS
    ]


def days_to_merge(files: list[File], tiers: list[Tier], now_ms: int) -> list[list[File]]:
    """Return the groups of files to be merged: days that are over and not one `d` file with tiers, busy days."""
    made = {tier.raw for tier in tiers if tier.coarse}
    groups: dict[tuple[int, int], list[File]] = {}
    crossing = [file for file in files if file.day != file.last_day]
    for file in files:
        if file not in crossing:
            groups.setdefault((file.retention, file.day), []).append(file)
    found = [[file] for file in crossing]  # They become one file a day first.
    for (_, day), group in sorted(groups.items()):
        over = (day + 1) * DAY_MS + SETTLE_MS <= now_ms
        many = [same for kind in "wm" if len(same := [file for file in group if file.kind == kind]) >= MANY]
        if over and (len(group) > 1 or group[0].kind != "d" or group[0].name not in made):
            found.append(group)
        elif not over:
            found += many
    return found


def months_to_merge(tiers: list[Tier], now_ms: int) -> list[list[Tier]]:
    """Return the months that are over and whose coarse tiers are in more than one file."""
    groups: dict[tuple[int, int, int], list[Tier]] = {}
    for tier in tiers:
        if tier.coarse:
            groups.setdefault((tier.retention, *month_of(tier.day)), []).append(tier)
    now = month_of((now_ms - DAY_MS - SETTLE_MS) // DAY_MS) if now_ms >= 2 * DAY_MS else (0, 0)
    return [
        sorted(group, key=lambda tier: tier.day)
        for (_, *month), group in sorted(groups.items())
        if tuple(month) < now and len({tier.coarse for tier in group}) > 1
    ]
