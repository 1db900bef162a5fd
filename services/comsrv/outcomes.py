"""Tells who waits for a command in this process what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class News:
    """What a waiter holds: the command as it was last reported here, and when that changes."""

    def __init__(self) -> None:
        """Start without any."""
        self._event = asyncio.Event()
        self._command: dict[str, Any] | None = None

    def tell(self, command: dict[str, Any]) -> None:
        """Hand the waiter what the command is now."""
        self._command = command
        self._event.set()

    async def wait(self, longest_s: float) -> dict[str, Any] | None:
        """Return the command at its next news; None without any for so long: another process may hold the channel."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._event.wait()
        self._event.clear()
        command, self._command = self._command, None
        return command


class Outcomes:
    """Who waits for which command."""

    def __init__(self) -> None:
        """Start without anybody."""
        self._waiters: dict[str, list[News]] = {}

    def tell(self, command: dict[str, Any]) -> None:
        """Wake who waits for a command."""
        for news in self._waiters.get(command["id"], ()):
            news.tell(command)

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
