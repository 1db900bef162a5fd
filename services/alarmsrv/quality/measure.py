"""The measures of ANSI/ISA-18.2 and IEC 62682 (clause 16, monitoring and assessment), from the journal.

An annunciation is an alarm that asks for an operator: raised, recurred to New,
announced again, or active when its shelving or suppression ends. What is shelved,
suppressed or out of service asks nobody, and an Info is an event. Peers: EEMUA 191 gives the same figures.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any, Final, NamedTuple

from services.alarmsrv.journal.chain import Entry

TEN_MINUTES_MS: Final = 600_000
MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
FLOOD_BEGIN: Final = 10
FLOOD_END: Final = 5
CHATTER: Final = 3
MAX_BUCKETS: Final = 1008
TOP: Final = 10
LEVELS: Final = ("Critical", "Major", "Minor", "Warning")
# Of an entry that names no priority: an alarm by hand, or one of before priorities were journaled.
PRIORITIES: Final = {"Critical": 900, "Major": 700, "Minor": 500, "Warning": 300}
# The system alarm that says that there is a flood is no part of it (redis_functions/core/floods.lua).
FLOOD: Final = "system:flood"
# What the standards recommend for one operator; the split is of alarms of three priorities.
TARGETS: Final = {
    "per_day": {"acceptable": 150, "manageable": 300},
    "per_ten_minutes": {"acceptable": 1, "manageable": 2},
    "peak_ten_minutes": 10,
    "ten_minutes_over_10_percent": 1,
    "flood_percent": 1,
    "chattering": 0,
    "stale": 5,
    "top_10_percent": 5,
    "levels_percent": {"Critical": 5, "Major": 15, "Minor and Warning": 80},
}

_ANNOUNCES: Final = frozenset({"raised", "recurred", "realarmed", "unshelved", "unsuppressed", "in_service"})
_BEGINS: Final = frozenset({"raised", "recurred"})
_ENDS: Final = frozenset({"returned", "latched"})


class Announced(NamedTuple):
    """One annunciation."""

    at_ms: int
    alarm: str
    origin: str
    level: str
    title: str
    source: str
    priority: int


class Measured:
    """Takes the journal in its order, and answers for the span [start, end)."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        """Begin empty."""
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.announced: list[Announced] = []
        self.transitions: dict[str, list[int]] = defaultdict(list)
        self.names: dict[str, Announced] = {}
        self.to_acknowledge: dict[str, list[int]] = defaultdict(list)
        self._waits: dict[str, Announced] = {}
        self.active_since: dict[str, int] = {}

    def standing(self, alarm: str, since_ms: int) -> None:
        """Take an alarm that is active at the end of the span; the journal of the last day knows better."""
        self.active_since.setdefault(alarm, since_ms)

    def take(self, entry: Entry) -> None:
        """Take the next entry."""
        fields = entry.fields
        at, event, alarm = int(fields.get("at_ms") or 0), fields.get("event", ""), fields.get("alarm", "")
        if fields.get("level") == "Info" or fields.get("origin") == FLOOD:
            return
        if event in _BEGINS:
            self.active_since.setdefault(alarm, at)
        one = Announced(
            at, alarm, fields.get("origin") or alarm, fields.get("level", ""), fields.get("title", ""),
            fields.get("source", ""), int(fields.get("priority") or PRIORITIES.get(fields.get("level", ""), 0)),
        )  # fmt: skip
        inside = self.start_ms <= at < self.end_ms
        if event in _ANNOUNCES and fields.get("status") == "New" and not fields.get("masked"):
            self._waits.setdefault(alarm, one)
            if inside:
                self.announced.append(one)
                self.names[one.origin] = one
        self._end(event, fields, alarm, at)
        of_condition = event in _BEGINS or event in _ENDS or (event == "resolved" and not fields.get("user"))
        if of_condition and inside:
            self.transitions[one.origin].append(at)
            self.names.setdefault(one.origin, one)

    def _end(self, event: str, fields: Mapping[str, str], alarm: str, at: int) -> None:
        if event == "acknowledged":
            waits = self._waits.pop(alarm, None)
            if waits and self.start_ms <= at < self.end_ms:
                self.to_acknowledge[waits.level].append(at - waits.at_ms)
        if event in _ENDS or fields.get("status") == "Resolved":
            self.active_since.pop(alarm, None)
        if fields.get("status") == "Resolved":
            self._waits.pop(alarm, None)

    # ---------------------------------------------------------------- answers

    def report(self, operators: int = 1) -> dict[str, Any]:
        """Return all measures."""
        announced = sorted(self.announced)
        instants = [one.at_ms for one in announced]
        span_ms = max(self.end_ms - self.start_ms, 1)
        flooded = floods(instants, self.end_ms, operators)
        in_flood = sum((flood["end_ms"] or self.end_ms) - flood["begin_ms"] for flood in flooded)
        return {
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "operators": operators,
            "announced": len(announced),
            "rate": self._rate(instants, span_ms, operators),
            "floods": flooded,
            "flood_percent": _percent(in_flood, span_ms),
            "chattering": self._chattering(),
            "stale": self._stale(),
            "top": self._top(announced),
            "levels": self._levels(announced),
            "priorities": self._priorities(announced),
            "acknowledge": self._acknowledge(),
            "targets": TARGETS,
        }

    def _rate(self, instants: Sequence[int], span_ms: int, operators: int) -> dict[str, Any]:
        buckets = Counter(at // TEN_MINUTES_MS * TEN_MINUTES_MS for at in instants)
        number = max(-(-self.end_ms // TEN_MINUTES_MS) - self.start_ms // TEN_MINUTES_MS, 1)
        peak = max(buckets.items(), key=lambda item: (item[1], -item[0]), default=(None, 0))
        days = Counter(dt.datetime.fromtimestamp(at / 1000, dt.UTC).date().isoformat() for at in instants)
        over = sum(1 for count in buckets.values() if count > FLOOD_BEGIN * operators)
        return {
            "per_day": round(len(instants) * DAY_MS / span_ms / operators, 2),
            "per_ten_minutes": round(len(instants) * TEN_MINUTES_MS / span_ms / operators, 3),
            "peak_ten_minutes": peak[1],
            "peak_at_ms": peak[0],
            "ten_minutes_over_10_percent": _percent(over, number),
            "days": dict(sorted(days.items())),
            "ten_minutes": [[at, count] for at, count in sorted(buckets.items())[-MAX_BUCKETS:]],
        }

    def _chattering(self) -> list[dict[str, Any]]:
        found = []
        for origin, instants in self.transitions.items():
            peak, episodes = chatter(sorted(instants))
            if peak >= CHATTER:
                one = self.names[origin]
                found.append({
                    "origin": origin, "source": one.source, "title": one.title, "level": one.level,
                    "transitions": len(instants), "peak_per_minute": peak, "episodes": episodes,
                })  # fmt: skip
        return sorted(found, key=lambda one: (-int(str(one["transitions"])), str(one["origin"])))

    def _stale(self) -> list[dict[str, Any]]:
        old = [(since, alarm) for alarm, since in self.active_since.items() if since <= self.end_ms - DAY_MS]
        return [
            {"alarm": alarm, "active_since_ms": since, "hours": round((self.end_ms - since) / 3_600_000, 1)}
            for since, alarm in sorted(old)
        ]

    def _top(self, announced: Sequence[Announced]) -> dict[str, Any]:
        counts = Counter(one.origin for one in announced)
        top = counts.most_common(TOP)
        return {
            "percent": _percent(sum(count for _, count in top), len(announced)),
            "items": [
                {
                    "origin": origin, "source": self.names[origin].source, "title": self.names[origin].title,
                    "level": self.names[origin].level, "count": count, "percent": _percent(count, len(announced)),
                }
                for origin, count in top
            ],
        }  # fmt: skip

    def _levels(self, announced: Sequence[Announced]) -> dict[str, Any]:
        counts = Counter(one.level for one in announced)
        return {level: {"count": counts[level], "percent": _percent(counts[level], len(announced))} for level in LEVELS}

    def _priorities(self, announced: Sequence[Announced]) -> list[dict[str, Any]]:
        counts = sorted(Counter(one.priority for one in announced).items(), reverse=True)
        return [
            {"priority": priority, "count": count, "percent": _percent(count, len(announced))}
            for priority, count in counts
        ]

    def _acknowledge(self) -> dict[str, Any]:
        every = [took for level in self.to_acknowledge.values() for took in level]
        waiting = [one for one in self._waits.values() if one.at_ms < self.end_ms]
        return {
            **_times(every),
            "waiting": len(waiting),
            "oldest_waiting_ms": max((self.end_ms - one.at_ms for one in waiting), default=None),
            "levels": {level: _times(took) for level, took in sorted(self.to_acknowledge.items())},
        }


def floods(instants: Sequence[int], end_ms: int, operators: int = 1) -> list[dict[str, Any]]:
    """Return the floods: more than ten in ten minutes an operator begin one, fewer than five end it."""
    found: list[dict[str, Any]] = []
    window: deque[int] = deque()
    flood: dict[str, Any] | None = None

    def let_pass(now: int) -> None:
        nonlocal flood
        while window and window[0] <= now - TEN_MINUTES_MS:
            left = window.popleft() + TEN_MINUTES_MS
            if flood is not None and len(window) < FLOOD_END * operators:
                flood["end_ms"], flood = left, None

    for at in instants:
        let_pass(at)
        window.append(at)
        if flood is None and len(window) > FLOOD_BEGIN * operators:
            flood = {"begin_ms": at, "end_ms": None, "alarms": len(window) - 1, "peak": 0}
            found.append(flood)
        if flood is not None:
            flood["alarms"] += 1
            flood["peak"] = max(flood["peak"], len(window))
    let_pass(end_ms)
    return found


def chatter(instants: Sequence[int]) -> tuple[int, int]:
    """Return the most transitions within a minute, and how often a span with three of them began."""
    peak, episodes, until = 0, 0, -1
    for index, at in enumerate(instants):
        count = index + 1 - bisect_right(instants, at - MINUTE_MS, 0, index + 1)
        peak = max(peak, count)
        if count >= CHATTER:
            episodes += at > until
            until = at + MINUTE_MS
    return peak, episodes


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _times(took: Sequence[int]) -> dict[str, Any]:
    if not took:
        return {"count": 0, "median_ms": None, "p90_ms": None, "longest_ms": None}
    cuts = quantiles(took, n=10, method="inclusive") if len(took) > 1 else [took[0]] * 9
    return {"count": len(took), "median_ms": round(cuts[4]), "p90_ms": round(cuts[8]), "longest_ms": max(took)}
