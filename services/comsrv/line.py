"""A channel's line: one transaction at a time, commands before polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Line:
    """Gives the device to one at a time. A command waits for at most the poll that is under way."""

    def __init__(self) -> None:
        """Start free."""
        self._lock = asyncio.Lock()
        self._commands = 0
        self._no_command = asyncio.Event()
        self._no_command.set()

    @asynccontextmanager
    async def for_command(self) -> AsyncIterator[None]:
        """Hold the line for a command."""
        self._commands += 1
        self._no_command.clear()
        try:
            async with self._lock:
                yield
        finally:
            self._commands -= 1
            if self._commands == 0:
                self._no_command.set()

    @asynccontextmanager
    async def for_poll(self) -> AsyncIterator[None]:
        """Hold the line for one block, once no command waits."""
        while True:
            await self._no_command.wait()
            async with self._lock:
                if self._commands == 0:
                    yield
                    return
