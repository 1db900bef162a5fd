"""Instants are Unix milliseconds, integers, everywhere."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the wall clock's instant, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return a clock that never steps, in milliseconds; for durations and schedules."""
    return time.monotonic_ns() // 1_000_000
