"""How often somebody may try: the generic cell rate algorithm (ITU-T I.371), in memory.

It bounds guessing through this gateway; what it forgets at a restart is a handful of tries.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from libs.errors import LimitError

MAX_KEYS: Final = 10_000


class RateLimit:
    """`burst` tries at once, then one every `interval_s`, for each key."""

    def __init__(self, interval_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing used."""
        self._interval = interval_s
        self._tolerance = interval_s * (burst - 1)
        self._clock = clock
        # For each key the instant from which it has its whole burst again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> None:
        """Use one try.

        Raises:
            LimitError: none is left; the message says when there is one.
        """
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now)
        wait = full_at - now - self._tolerance
        if wait > 0:
            raise LimitError(f"too many tries; wait {wait:.0f} s")
        self._full_at[key] = full_at + self._interval
        self._full_at.move_to_end(key)
        if len(self._full_at) > MAX_KEYS:
            self._full_at.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget the tries of a key: one succeeded."""
        self._full_at.pop(key, None)
