"""What went over a link: counters for the diagnostics, and a frame log that can be turned on while it runs.

A plugin that talks to a device shows one `Traffic`; channels that share a link share it.
Counting a good request costs a few additions; the log costs one comparison while it is off.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, NamedTuple

from libs.clock import now_ms

# Upper bounds of the round-trip histogram, milliseconds; what is longer goes into one bucket more.
BOUNDS_MS: Final = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
ERRORS: Final = 20
# Utilisation is shown over the last one to two of these windows.
WINDOW_S: Final = 10.0
MAX_FRAMES: Final = 10_000
DEFAULT_FRAMES: Final = 1000


class Error(NamedTuple):
    """Something that went wrong on the link; `unit` is empty where it was the link itself."""

    at_ms: int
    unit: str
    text: str


@dataclass
class UnitTraffic:
    """What one unit behind the link did."""

    requests: int = 0
    timeouts: int = 0
    malformed: int = 0
    exceptions: Counter[int] = field(default_factory=Counter)
    round_trip_ms: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return the counters as the API shows them; `round_trip_ms` is the last."""
        found = vars(self) | {"exceptions": {str(code): number for code, number in sorted(self.exceptions.items())}}
        return found | {"round_trip_ms": round(self.round_trip_ms, 3)}


class Frame(NamedTuple):
    """A frame as it went over the wire, numbered. `remark` says why an incoming one was not taken."""

    number: int
    at_ms: int
    sent: bool
    data: bytes
    remark: str


class FrameLog:
    """A bounded ring of frames, off until it is turned on, and off again when its time is over."""

    def __init__(self, explain: Callable[[bool, bytes], str]) -> None:
        """Keep what puts a frame into words: explain(sent, data)."""
        self.on = False
        self.until_ms = 0
        self._explain = explain
        self._frames: deque[Frame] = deque(maxlen=DEFAULT_FRAMES)
        self._count = 0

    def start(self, seconds: float, limit: int = DEFAULT_FRAMES) -> None:
        """Keep the last `limit` frames for a time; what was kept before stays if it fits."""
        self._frames = deque(self._frames, maxlen=min(limit, MAX_FRAMES))
        self.until_ms = now_ms() + int(seconds * 1000)
        self.on = True

    def stop(self) -> None:
        """Keep no more; what is kept can still be read."""
        self.on = False

    def add(self, sent: bool, data: bytes, remark: str = "") -> None:
        """Keep a frame; callers ask `on` first."""
        at_ms = now_ms()
        if at_ms >= self.until_ms:
            self.on = False
            return
        self._count += 1
        self._frames.append(Frame(self._count, at_ms, sent, bytes(data), remark))

    def document(self, limit: int = DEFAULT_FRAMES, after: int = 0) -> dict[str, Any]:
        """Return the newest frames, oldest first, with what they mean; only those numbered higher than `after`."""
        self.on = self.on and now_ms() < self.until_ms
        frames = [frame for frame in self._frames if frame.number > after][-limit:]
        return {
            "on": self.on,
            "until_ms": self.until_ms if self.on else None,
            "limit": self._frames.maxlen,
            "frames": [
                {
                    "number": frame.number,
                    "at_ms": frame.at_ms,
                    "direction": "out" if frame.sent else "in",
                    "hex": frame.data.hex(" "),
                    "meaning": self._explain(frame.sent, frame.data),
                    "remark": frame.remark,
                }
                for frame in frames
            ],
        }


class Traffic:
    """Counters of one link. Only ever counted up; rates are the reader's business."""

    def __init__(self, explain: Callable[[bool, bytes], str]) -> None:
        """Start at zero."""
        self.endpoint = ""
        self.connected = False
        self.requests = 0
        self.answers = 0
        self.timeouts = 0
        self.retries = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections = 0
        self.connection_failures = 0
        self.connected_at_ms = 0
        # Frames that came and were no answer to what was asked, by kind: late, duplicate, partial,
        # wrong_transaction, wrong_unit, wrong_function, wrong_byte_count, wrong_crc, malformed, unsolicited.
        self.rejected: Counter[str] = Counter()
        self.exceptions: Counter[int] = Counter()
        self.round_trips = [0] * (len(BOUNDS_MS) + 1)
        self.round_trip_sum_ms = 0.0
        # Of the last answered request, from its first byte out to its answer whole; without waiting in line.
        self.last_round_trip_ms = 0.0
        self.busy_s = 0.0
        self.units: dict[int, UnitTraffic] = {}
        self.errors: deque[Error] = deque(maxlen=ERRORS)
        self.frames = FrameLog(explain)
        self._began = monotonic()
        self._windows = (self._began, 0.0, self._began, 0.0)

    def unit(self, unit: int) -> UnitTraffic:
        """Return a unit's counters."""
        found = self.units.get(unit)
        if found is None:
            found = self.units[unit] = UnitTraffic()
        return found

    def answered(self, unit: int, seconds: float) -> None:
        """Count an answer, exceptions included, and how long it took."""
        milliseconds = seconds * 1000
        self.answers += 1
        self.last_round_trip_ms = self.unit(unit).round_trip_ms = milliseconds
        self.round_trip_sum_ms += milliseconds
        self.round_trips[bisect_left(BOUNDS_MS, milliseconds)] += 1

    def busy(self, seconds: float) -> None:
        """Count time in which the link was taken: requests with and without an answer, pauses that it needs."""
        self.busy_s += seconds
        now = monotonic()
        if now - self._windows[2] >= WINDOW_S:
            self._windows = (*self._windows[2:], now, self.busy_s)

    def utilization(self) -> float:
        """Return the share of the last 10 to 20 seconds in which the link was taken."""
        self.busy(0.0)
        began, busy_s = self._windows[:2]
        passed = monotonic() - began
        return min((self.busy_s - busy_s) / passed, 1.0) if passed > 0 else 0.0

    def error(self, text: str, unit: int | None = None) -> None:
        """Keep an error for the diagnostics."""
        self.errors.append(Error(now_ms(), "" if unit is None else str(unit), text))

    def statistics(self) -> dict[str, Any]:
        """Return everything as the API shows it."""
        names = (
            "endpoint", "connected", "requests", "answers", "timeouts", "retries", "bytes_in", "bytes_out",
            "connections", "connection_failures", "connected_at_ms",
        )  # fmt: skip
        bounds = [str(bound) for bound in BOUNDS_MS] + ["inf"]
        return {name: getattr(self, name) for name in names} | {
            "exceptions": {str(code): number for code, number in sorted(self.exceptions.items())},
            "rejected": dict(sorted(self.rejected.items())),
            "round_trip_ms": {
                "last": round(self.last_round_trip_ms, 3),
                "mean": round(self.round_trip_sum_ms / self.answers, 3) if self.answers else None,
                "buckets": dict(zip(bounds, self.round_trips, strict=True)),
            },
            "busy_s": round(self.busy_s, 3),
            "seconds": round(monotonic() - self._began, 3),
            "utilization": round(self.utilization(), 4),
            "units": {str(unit): found.document() for unit, found in sorted(self.units.items())},
            "errors": [error._asdict() for error in self.errors],
        }
