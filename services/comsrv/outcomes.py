"""Tells who waits for a command in this process that something became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class News:
    """What a waiter holds: it forgets what it heard, looks, and waits for more."""

    def __init__(self) -> None:
        """Start without any."""
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake the waiter."""
        self._event.set()

    async def wait(self, longest_s: float) -> None:
        """Wait for news since the last time, at most so long: another process may hold the channel."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._event.wait()
        self._event.clear()


class Outcomes:
    """Who waits for which command."""

    def __init__(self) -> None:
        """Start without anybody."""
        self._waiters: dict[str, list[News]] = {}

    def tell(self, command_id: str) -> None:
        """Wake who waits for a command."""
        for news in self._waiters.get(command_id, ()):
            news.tell()

    @contextmanager
    def of(self, command_id: str) -> Iterator[News]:
        """Listen to a command."""
        news = News()
        self._waiters.setdefault(command_id, []).append(news)
        try:
            yield news
        finally:
            self._waiters[command_id].remove(news)
            if not self._waiters[command_id]:
                del self._waiters[command_id]
