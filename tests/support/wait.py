"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def wait_until(condition: Callable[[], Awaitable[T]], what: str, timeout_s: float = 10.0) -> T:
    """Await `condition` until it answers something true; fail naming what did not happen."""
    end = time.monotonic() + timeout_s
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s in vain: {what}; last answer {answer!r}")
        await asyncio.sleep(0.02)
