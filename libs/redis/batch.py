"""Calls that are made at the same time go to Redis together.

redis-py costs a call more than Redis itself does: taking a connection, events, time-outs,
a system call each way. Where many tasks call at once, as comsrv's channels do, what came
while the last batch was under way leaves as one pipeline: one write, one read. Each call
is still a call of its own to Redis, with a reply or an error of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from libs.errors import VoltageError
from libs.redis.client import Client, translate, translated

# Calls that travel together; more would make the first wait for the last one's reply.
MOST: Final = 8
# Batches under way: while Redis works on one, the next are packed and unpacked. Measured with 16 channels.
AT_ONCE: Final = 4

Word = str | bytes | int


class Batches:
    """Sends commands in batches. Nothing is ever sent twice."""

    def __init__(self, client: Client) -> None:
        """Keep the client; its pool gives the connections."""
        self._client = client
        self._waiting: deque[tuple[tuple[Word, ...], asyncio.Future[Any]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def execute(self, *words: Word) -> Any:
        """Send a command with whatever else leaves now, and return its reply.

        Raises:
            VoltageError: as Redis refused it; UnavailableError where its reply was lost.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((words, answer))
        if len(self._senders) < AT_ONCE:
            sender = asyncio.create_task(self._send(), name="redis batch")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        reply = await answer
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def _send(self) -> None:
        """Send what waits until nothing does."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                await self._exchange(batch)
            finally:
                # Cancelled, as at the end of the loop: nobody may wait for ever.
                for _, answer in batch:
                    answer.cancel()

    async def _exchange(self, batch: list[tuple[tuple[Word, ...], asyncio.Future[Any]]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for words, _ in batch:
            pipeline.execute_command(*words)
        try:
            with translated():
                replies = await pipeline.execute(raise_on_error=False)
        except VoltageError as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(type(error)(str(error)))
            return
        for (_, answer), reply in zip(batch, replies, strict=True):
            if not answer.done():
                answer.set_result(reply)
