"""What a device takes for a request: t = request + register * n, learned from its own traffic.

A robust fit in bounded memory: of each length of request the last round trips, of those the
medians, through those the line of Theil and Sen (the median of the slopes between all pairs).
Neither a slow answer now and then nor a slow hour a day ago moves it far.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations
from statistics import median
from typing import Any, Final

from services.comsrv.contract import Cost

SAMPLES: Final = 32
LENGTHS: Final = 24
# Of a length, before it counts.
ENOUGH: Final = 5
# Lengths closer together say nothing about what a register takes.
SPREAD: Final = 16


class CostModel:
    """The round trips of one unit by length, and the line through them."""

    def __init__(self, learned: Cost | None = None) -> None:
        """Start with what an earlier process learned."""
        self.learned = learned
        self.samples = 0
        self._round_trips: dict[float, deque[float]] = {}

    def add(self, length: float, milliseconds: float) -> None:
        """Keep the round trip of a good answer."""
        known = self._round_trips.get(length)
        if known is None:
            if len(self._round_trips) >= LENGTHS:
                # The oldest length makes room; what is still asked for comes again at once.
                del self._round_trips[next(iter(self._round_trips))]
            known = self._round_trips[length] = deque(maxlen=SAMPLES)
        known.append(milliseconds)
        self.samples += 1

    def fit(self) -> Cost | None:
        """Fit the line anew and return it; what was learned before where the traffic does not tell."""
        places = [
            (length, median(times)) for length, times in sorted(self._round_trips.items()) if len(times) >= ENOUGH
        ]
        if len(places) > 1 and places[-1][0] - places[0][0] >= SPREAD:
            slopes = [(later[1] - one[1]) / (later[0] - one[0]) for one, later in combinations(places, 2)]
            register = max(median(slopes), 0.0)
            request = max(median(time - register * length for length, time in places), 0.0)
            self.learned = Cost(request, register)
        return self.learned

    def document(self) -> dict[str, Any] | None:
        """Return what was learned, as the API shows it."""
        if self.learned is None:
            return None
        request, register = self.learned
        even = request / register if register > 0 else None
        return {
            "request_ms": round(request, 3),
            "register_ms": round(register, 5),
            "break_even_gap": None if even is None or even > 65_535 else int(even),
            "samples": self.samples,
        }
