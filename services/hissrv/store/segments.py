"""How the range of a query is cut: where tiers can answer, and with what.

Three kinds of stretches:

    samples   what no tier can say: the cut ends of a range, days whose files have no tiers
    sealed    days whose every raw file has all tiers and of which nothing waits in the open window:
              rows of the longest step that fits
    running   other days with one-minute rows of every file, today above all: those rows, and the open samples
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from services.hissrv.store.catalog import MINUTE_MS, STEPS_MS, File, Tier
from services.hissrv.store.contract import Query
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.stats import Integers

# A single interval is worth a tier when it is this many of its steps long.
STEPS_A_RANGE: Final = 16


class Segment(NamedTuple):
    """A stretch of the range: of samples (step 0), of a tier's rows, or of a day that runs."""

    low: int
    high: int
    step: int = 0
    running: bool = False


class Days:
    """What each day has, at one state of the store."""

    def __init__(self, files: list[File], tiers: list[Tier], open_at_ms: Integers) -> None:
        """Sort files and tiers by day."""
        self._of = {tier.raw: tier for tier in tiers}
        self._open = set(np.unique(open_at_ms // DAY_MS).tolist())
        self._files: dict[int, list[File]] = {}
        for file in files:
            for day in range(file.day, file.last_day + 1):
                self._files.setdefault(day, []).append(file)
        self.sealed: dict[int, list[Tier]] = {}
        self.running: set[int] = set()
        for day, found in self._files.items():
            known = [self._of[file.name] for file in found if file.name in self._of]
            if len(known) < len(found):
                continue
            if day not in self._open and all(tier.coarse for tier in known):
                self.sealed[day] = known
            else:
                self.running.add(day)

    @property
    def all(self) -> set[int]:
        """Every day with samples."""
        return self._files.keys() | self._open

    def minutes(self, low: int, high: int) -> tuple[list[str], list[str]]:
        """Return the one-minute files of a stretch of a day, and the raw ones where there is none."""
        found = [self._of[file.name] for file in self._files.get(low // DAY_MS, []) if overlaps(file, low, high)]
        return [one.fine for one in found if one.fine], [one.raw for one in found if not one.fine]

    def ready(self, step: int) -> set[int]:
        """Return the days whose tiers of a step hold all there is."""
        return {day for day, tiers in self.sealed.items() if step > MINUTE_MS or all(tier.fine for tier in tiers)}


def overlaps(file: File, low: int, high: int) -> bool:
    """Say whether a file may have samples in low <= instant < high."""
    return file.min_at_ms < high and file.max_at_ms >= low


def step_of(query: Query, edges: Integers) -> int:
    """Return the longest step whose rows cross no edge and that is worth its cuts, 0 for none."""
    inner = edges[1:-1]
    span = int(np.diff(edges).min()) if len(inner) > 1 else query.end_ms - query.start_ms
    for step in STEPS_MS:
        fits = step <= span if len(inner) > 1 else step * STEPS_A_RANGE <= span
        if fits and not (inner % step).any():
            return step
    return 0


def segments(query: Query, days: Days, step: int) -> list[Segment]:
    """Cut the range of a query, with the longest step that fits its intervals (0: samples only)."""
    if not step:
        return [Segment(query.start_ms, query.end_ms)]
    until = min(query.end_ms, query.now_ms)
    ready = days.ready(step)
    found: list[Segment] = []
    at = query.start_ms
    first, last = query.start_ms // DAY_MS, (query.end_ms - 1) // DAY_MS
    for day in sorted(one for one in ready | days.running if first <= one <= last):
        unit = step if day in ready else MINUTE_MS
        low = max(day * DAY_MS, query.start_ms + -query.start_ms % unit)
        high = min((day + 1) * DAY_MS, until - until % unit)
        if low >= high:
            continue
        if at < low:
            found.append(Segment(at, low))
        before = found[-1] if found else Segment(at, at)
        if day in ready and before.step and before.high == low and not before.running:
            found[-1] = before._replace(high=high)
        else:
            found.append(Segment(low, high, unit, day not in ready))
        at = high
    if at < query.end_ms:
        found.append(Segment(at, query.end_ms))
    return found
