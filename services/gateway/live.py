"""What a live stream sends, however it travels: a snapshot of what was asked for, then deltas.

Out  {op: snapshot, seq, refs, points, seen, channels, alarms?, commands?, part, parts}
     {op: delta, seq?, points?, seen?, channels?, alarms?, commands?, rules?}  {op: tick}
     {op: resync, streams}  {op: stale, reason}
A point is [value, quality, at_ms]; in a delta a value of null stays what it was.
Everything sent carries `now_ms`, the gateway's clock.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import orjson

from libs.clock import monotonic_ms, now_ms
from libs.errors import LimitError, UnauthorizedError, UnavailableError, VoltageError
from libs.http import User, tokens
from libs.tasks import cancel
from services.gateway.functions import Image
from services.gateway.hub import Hub, Subscriber
from services.gateway.outbox import Document
from services.gateway.selection import Selection
from services.gateway.settings import StreamSettings

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
PAUSE_S: Final = 0.5
DEFAULT_INTERVAL_MS: Final = 250
# Read in one transaction; a larger snapshot comes in parts, each of them consistent. Redis has one thread: 1,000 points
# of a channel keep it busy for 0.15 ms.
CHANNELS_A_PART: Final = 4
MODELS_A_PART: Final = 64


class Live(ABC):
    """One client: what it asked for, and what it is sent."""

    def __init__(self, hub: Hub, key: str, settings: StreamSettings) -> None:
        """Keep what it needs; nothing is sent yet."""
        self.hub = hub
        self.settings = settings
        self.subscriber = Subscriber()
        self.interval_ms = DEFAULT_INTERVAL_MS
        self.user: User | None = None
        self._key = key
        self._token = ""
        self._told_stale = False

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the client is gone."""

    @abstractmethod
    async def send_text(self, op: str, text: str) -> None:
        """Send a document; waits while the client is slow, and meanwhile its outbox keeps the newest only."""

    @abstractmethod
    async def end(self, reason: str) -> None:
        """End the stream: the token's time is over, or the user's rights changed."""

    @abstractmethod
    async def break_off(self) -> None:
        """End the stream without a reason that concerns the client: it may come again."""

    def log_in(self, token: str) -> None:
        """Take a first or a newer token.

        Raises:
            UnauthorizedError: it is not valid, or another user's.
        """
        user = tokens.verify(self._key, token)
        if self.user is not None and user.name != self.user.name:
            raise UnauthorizedError(f"this stream is {self.user.name}'s")
        self._token, self.user = token, user

    def ask(self, refs: Sequence[str], interval_ms: int | None) -> None:
        """Ask for references and event streams.

        Raises:
            InvalidError: one is no reference.
            LimitError: they are too many.
        """
        selection = Selection.parse(refs)
        if len(self.subscriber.wanted) + len(selection) > 5 * self.settings.max_refs or (
            len(refs) > self.settings.max_refs
        ):
            raise LimitError(f"a client may subscribe to {self.settings.max_refs} references")
        self.interval_ms = interval_ms or self.interval_ms
        self.subscriber.request(selection)

    async def send(self, document: Document) -> None:
        """Send a document with the gateway's clock."""
        await self.send_text(document["op"], orjson.dumps({**document, "now_ms": now_ms()}).decode())

    async def write(self) -> None:
        """Send what is new, at most once an interval; say at least once a second that we are there."""
        ready = self.subscriber.outbox.ready
        checked_at = monotonic_ms()
        try:
            while not self.closed:
                try:
                    async with asyncio.timeout(TICK_S):
                        await ready.wait()
                    ready.clear()
                    await self._flush()
                    await asyncio.sleep(self.interval_ms / 1000)
                except TimeoutError:
                    await self.send({"op": "tick"})
                if monotonic_ms() - checked_at >= TICK_S * 1000:
                    checked_at = monotonic_ms()
                    tokens.verify(self._key, self._token)
        except UnauthorizedError as error:
            await self.end(str(error))
        except ConnectionError:
            # The client is gone; whoever serves it ends by itself.
            pass
        except VoltageError as error:
            # A client that stays would wait for words that never come.
            logger.error("a live stream ended: %s", error)  # noqa: TRY400 - the text is Redis', our stack says nothing
            await self.break_off()

    async def _flush(self) -> None:
        subscriber = self.subscriber
        if subscriber.stale is not None:
            await self._tell_stale(subscriber.stale)
            return
        if lost := subscriber.outbox.take_lost():
            await self.send({"op": "resync", "streams": sorted(lost)})
            subscriber.request(Selection.parse(lost))
        if subscriber.requested:
            await self._snapshot()
        if delta := subscriber.outbox.take():
            await self.send({"op": "delta", **delta})

    async def _tell_stale(self, reason: str) -> None:
        if not self._told_stale:
            self._told_stale = True
            await self.send({"op": "stale", "reason": reason})

    async def _snapshot(self) -> None:
        """Send a snapshot of what was asked for; when Redis is away, ask again later."""
        subscriber = self.subscriber
        selection, subscriber.requested = subscriber.requested, Selection()
        parts = selection.parts(MODELS_A_PART, CHANNELS_A_PART)
        try:
            for number, part in enumerate(parts):
                image = await self.hub.snapshot(subscriber, part)
                place = {"part": number, "parts": len(parts)}
                await self.send({"op": "snapshot", **_document(image), "refs": part.refs(), **place})
            self._told_stale = False
        except UnavailableError as error:
            subscriber.requested.add(selection)
            await self._tell_stale(str(error))
            await asyncio.sleep(PAUSE_S)
            subscriber.outbox.ready.set()


async def over(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what serves a client that is gone; a defect in it is logged."""
    for found in await cancel(*tasks):
        if isinstance(found, Exception):
            logger.error("a live stream failed", exc_info=found)


def _document(image: Image) -> Document:
    document: Document = image._asdict()
    return {name: value for name, value in document.items() if value is not None}
