"""Pauses between attempts: exponential, capped, with jitter, for ever."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Counts attempts in vain and says how long to wait before the next."""

    def __init__(self, first_ms: int, longest_ms: int) -> None:
        """Keep the first and the longest pause."""
        self.attempts = 0
        self._first_ms = first_ms
        self._longest_ms = longest_ms

    def reset(self) -> None:
        """Start over after a success."""
        self.attempts = 0

    def next_ms(self) -> int:
        """Return the next pause: between half and the whole of first * 2^attempts, at most the longest.

        The jitter keeps many channels from coming back in step.
        """
        whole = min(self._first_ms * 2 ** min(self.attempts, 20), self._longest_ms)
        self.attempts += 1
        return int(whole * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret

    async def pause(self) -> None:
        """Wait that long."""
        await asyncio.sleep(self.next_ms() / 1000)
