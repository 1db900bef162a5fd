"""A line: one transaction at a time, commands before polls. Channels that share a link share its line."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple


class Turn(NamedTuple):
    """A place in the queue for the line: `async with` waits for it and gives the line on at the end."""

    line: Line
    command: bool

    async def __aenter__(self) -> None:
        """Wait for the turn; without a wait when the line is free."""
        line = self.line
        if not line.taken:
            line.taken = True
            return
        await line.wait(command=self.command)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the line to who is next."""
        self.line.give()


class Line:
    """Gives the device to one at a time, in order. A command waits for at most the poll that is under way."""

    def __init__(self) -> None:
        """Start free."""
        self.taken = False
        # When each poller of the line has to read next, by the monotonic clock in milliseconds.
        self.dues: dict[object, float] = {}
        self._commands: deque[asyncio.Future[None]] = deque()
        self._polls: deque[asyncio.Future[None]] = deque()

    def for_command(self) -> Turn:
        """Return a turn before every poll, of whatever channel."""
        return Turn(self, command=True)

    def for_poll(self) -> Turn:
        """Return a turn for one block."""
        return Turn(self, command=False)

    async def wait(self, *, command: bool) -> None:
        """Wait in line."""
        queue = self._commands if command else self._polls
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    queue.remove(turn)
            else:
                # The turn came together with the cancellation: it is the next one's.
                self.give()
            raise

    def give(self) -> None:
        """Hand the line to the next command, else the next poll, else leave it free."""
        for queue in (self._commands, self._polls):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self.taken = False
