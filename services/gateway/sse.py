"""`/api/stream`: the live stream as server-sent events, for curl and for programs without a WebSocket.

What is asked for stands in the query, the token in the `Authorization` header. Each event is named as its
document's `op`. The stream ends with the token, and says why in the event `end`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web
from pydantic import Field

from libs.errors import LimitError
from libs.validation import Model
from services.gateway.hub import Hub
from services.gateway.live import Live, over
from services.gateway.settings import StreamSettings

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # nginx would gather it.
    "X-Accel-Buffering": "no",
}


class StreamQuery(Model):
    """What a stream brings."""

    ref: list[str] = Field(min_length=1, description="references as comsrv:1001:T:*, or alarms, rules, commands")
    interval_ms: int = Field(250, ge=50, le=10_000, description="shortest time between two deltas")


class Events(Live):
    """One connection."""

    def __init__(self, hub: Hub, key: str, settings: StreamSettings) -> None:
        """Keep what it needs; nothing is sent yet."""
        super().__init__(hub, key, settings)
        self._response = web.StreamResponse(headers=HEADERS)
        self._ended = asyncio.Event()

    async def serve(self, request: web.Request, token: str, query: StreamQuery) -> web.StreamResponse:
        """Send until either side ends it.

        Raises:
            InvalidError: what is asked for is no reference.
            LimitError: too much is asked for, or there are too many clients.
        """
        self.log_in(token)
        if self.hub.clients >= self.settings.max_clients:
            raise LimitError("too many clients")
        self.ask(query.ref, query.interval_ms)
        await self._response.prepare(request)
        self.hub.join(self.subscriber)
        writer = asyncio.create_task(self.write(), name="stream")
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({writer, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.hub.leave(self.subscriber)
            await over(writer, ended)
        return self._response

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._ended.is_set()

    async def send_text(self, op: str, text: str) -> None:
        """Send a document as an event."""
        await self._response.write(f"event: {op}\ndata: {text}\n\n".encode())

    async def break_off(self) -> None:
        """End it."""
        self._ended.set()

    async def end(self, reason: str) -> None:
        """Say why, and end."""
        if not self.closed and self._response.prepared:
            with suppress(ConnectionError):
                await self.send({"op": "end", "reason": reason})
        self._ended.set()
