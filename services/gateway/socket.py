"""`/ws`: log in, subscribe, a snapshot, then deltas.

The token comes in the `Authorization` header, as the subprotocol `bearer.<token>`, or in
the first message; never in the address, which ends up in logs. A newer token may be
sent at any time and prolongs the stream; without one it ends when the token does.

In   {op: auth, token}  {op: subscribe, refs, interval_ms?}  {op: unsubscribe, refs}  {op: ping, t?}
Out  {op: welcome, user}  {op: snapshot, seq, refs, points, seen, channels, alarms?, commands?, part, parts}
     {op: delta, seq?, points?, seen?, channels?, alarms?, commands?, rules?}  {op: tick}  {op: pong, t}
     {op: resync, streams}  {op: stale, reason}  {op: error, code, detail}
A point is [value, quality, at_ms]; in a delta a value of null stays what it was.
Everything sent carries `now_ms`, the gateway's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from aiohttp import WSMsgType, hdrs, web
from pydantic import Field, TypeAdapter, ValidationError

from libs.clock import monotonic_ms, now_ms
from libs.errors import InvalidError, LimitError, UnauthorizedError, UnavailableError, VoltageError
from libs.http import User, tokens
from libs.http.bodies import parse_json
from libs.validation import Model, problems_of
from services.gateway.functions import Image
from services.gateway.hub import Hub, Subscriber
from services.gateway.outbox import Document
from services.gateway.selection import Selection
from services.gateway.settings import StreamSettings

LOGIN_TIMEOUT_S: Final = 5.0
TICK_S: Final = 1.0
PAUSE_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
MAX_MESSAGE: Final = 262_144
# Channels and models read in one transaction; a larger snapshot comes in parts, each of them consistent.
OWNERS_A_PART: Final = 64
SUBPROTOCOL: Final = "bearer."
EXPIRED: Final = 4401
FULL: Final = 4429


class Auth(Model):
    """A first or a newer token."""

    op: Literal["auth"]
    token: str = Field(max_length=10_000)


class Subscribe(Model):
    """Wish for points and events."""

    op: Literal["subscribe"]
    refs: list[str] = Field(min_length=1)
    interval_ms: int | None = Field(None, ge=50, le=10_000, description="shortest time between two deltas")


class Unsubscribe(Model):
    """End of a wish."""

    op: Literal["unsubscribe"]
    refs: list[str] = Field(min_length=1)


class Ping(Model):
    """Asks for a sign of life."""

    op: Literal["ping"]
    t: int | float | str | None = None


Message = Annotated[Auth | Subscribe | Unsubscribe | Ping, Field(discriminator="op")]
_MESSAGE: Final[TypeAdapter[Auth | Subscribe | Unsubscribe | Ping]] = TypeAdapter(Message)


def parse_message(text: str) -> Auth | Subscribe | Unsubscribe | Ping:
    """Parse what a client sent, or raise INVALID naming each field."""
    data = parse_json(text.encode())
    try:
        return _MESSAGE.validate_python(data)
    except ValidationError as error:
        problems = problems_of(error, Subscribe)
        raise InvalidError("; ".join(str(problem) for problem in problems[:4]), problems) from None


class Stream:
    """One connection."""

    def __init__(self, hub: Hub, key: str, settings: StreamSettings) -> None:
        """Keep what it needs; nothing is sent yet."""
        self._hub = hub
        self._key = key
        self._settings = settings
        self._subscriber = Subscriber()
        self._socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE, compress=False)
        self._token = ""
        self._interval_ms = 250
        self._told_stale = False
        self.user: User | None = None

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Hold the connection until either side ends it."""
        header = _token_of(request.headers)
        if header is not None:
            # A bad token in the header is an HTTP answer: the connection is not upgraded.
            self._log_in(header)
        chosen = [name for name in _subprotocols(request.headers) if name.startswith(SUBPROTOCOL)]
        self._socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE, compress=False, protocols=chosen
        )
        await self._socket.prepare(request)
        try:
            await self._await_log_in()
        except (TimeoutError, UnauthorizedError, InvalidError) as error:
            await self._socket.close(code=EXPIRED, message=str(error or "no token came").encode()[:120])
            return self._socket
        if self._hub.clients >= self._settings.max_clients:
            await self._socket.close(code=FULL, message=b"too many clients")
            return self._socket
        self._hub.join(self._subscriber)
        writer = asyncio.create_task(self._write(), name="stream")
        try:
            await self._read()
        finally:
            self._hub.leave(self._subscriber)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return self._socket

    async def end(self, reason: str) -> None:
        """End the connection: the user's rights changed."""
        await self._socket.close(code=EXPIRED, message=reason.encode()[:120])

    # ------------------------------------------------------------ in

    def _log_in(self, token: str) -> None:
        user = tokens.verify(self._key, token)
        if self.user is not None and user.name != self.user.name:
            raise UnauthorizedError(f"this stream is {self.user.name}'s")
        self._token, self.user = token, user

    async def _await_log_in(self) -> None:
        if self.user is None:
            async with asyncio.timeout(LOGIN_TIMEOUT_S):
                message = parse_message(await self._socket.receive_str())
            if not isinstance(message, Auth):
                raise UnauthorizedError("the first message must be {op: auth, token}")
            self._log_in(message.token)
        await self._welcome()

    async def _welcome(self) -> None:
        assert self.user is not None  # noqa: S101 - called after log-in
        await self._send({"op": "welcome", "user": {"name": self.user.name, "role": self.user.role.value}})

    async def _read(self) -> None:
        async for frame in self._socket:
            if frame.type is not WSMsgType.TEXT:
                break
            try:
                await self._obey(parse_message(frame.data))
            except UnauthorizedError as error:
                await self.end(str(error))
            except VoltageError as error:
                await self._send({"op": "error", "code": error.code, "detail": str(error)})

    async def _obey(self, message: Auth | Subscribe | Unsubscribe | Ping) -> None:
        match message:
            case Auth(token=token):
                self._log_in(token)
                await self._welcome()
            case Subscribe(refs=refs, interval_ms=interval_ms):
                selection = Selection.parse(refs)
                if len(self._subscriber.wanted) + len(selection) > 5 * self._settings.max_refs or (
                    len(refs) > self._settings.max_refs
                ):
                    raise LimitError(f"a client may subscribe to {self._settings.max_refs} references")
                self._interval_ms = interval_ms or self._interval_ms
                self._subscriber.request(selection)
            case Unsubscribe(refs=refs):
                self._subscriber.release(Selection.parse(refs))
            case Ping(t=t):
                await self._send({"op": "pong", "t": t})

    # ------------------------------------------------------------ out

    async def _send(self, document: Document) -> None:
        """Send; waits while the client is slow, and meanwhile its outbox keeps the newest only."""
        await self._socket.send_str(orjson.dumps({**document, "now_ms": now_ms()}).decode())

    async def _write(self) -> None:
        """Send what is new, at most once an interval; say at least once a second that we are there."""
        ready = self._subscriber.outbox.ready
        checked_at = monotonic_ms()
        try:
            while not self._socket.closed:
                try:
                    async with asyncio.timeout(TICK_S):
                        await ready.wait()
                    ready.clear()
                    await self._flush()
                    await asyncio.sleep(self._interval_ms / 1000)
                except TimeoutError:
                    await self._send({"op": "tick"})
                if monotonic_ms() - checked_at >= TICK_S * 1000:
                    checked_at = monotonic_ms()
                    tokens.verify(self._key, self._token)
        except UnauthorizedError as error:
            await self.end(str(error))
        except ConnectionError:
            # The client is gone; the reader ends by itself.
            pass

    async def _flush(self) -> None:
        subscriber = self._subscriber
        if subscriber.stale is not None:
            await self._tell_stale(subscriber.stale)
            return
        if lost := subscriber.outbox.take_lost():
            await self._send({"op": "resync", "streams": sorted(lost)})
            subscriber.request(Selection.parse(lost))
        if subscriber.requested:
            await self._snapshot()
        if delta := subscriber.outbox.take():
            await self._send({"op": "delta", **delta})

    async def _tell_stale(self, reason: str) -> None:
        if not self._told_stale:
            self._told_stale = True
            await self._send({"op": "stale", "reason": reason})

    async def _snapshot(self) -> None:
        """Send a snapshot of what was asked for; when Redis is away, ask again later."""
        subscriber = self._subscriber
        selection, subscriber.requested = subscriber.requested, Selection()
        parts = selection.parts(OWNERS_A_PART)
        try:
            for number, part in enumerate(parts):
                image = await self._hub.snapshot(subscriber, part)
                place = {"part": number, "parts": len(parts)}
                await self._send({"op": "snapshot", **_document(image), "refs": part.refs(), **place})
            self._told_stale = False
        except UnavailableError as error:
            subscriber.requested.add(selection)
            await self._tell_stale(str(error))
            await asyncio.sleep(PAUSE_S)
            subscriber.outbox.ready.set()


def _document(image: Image) -> Document:
    document: Document = image._asdict()
    return {name: value for name, value in document.items() if value is not None}


def _subprotocols(headers: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")]


def _token_of(headers: Mapping[str, Any]) -> str | None:
    """Return the token of the header or of the subprotocol, or None: then the first message brings it."""
    if hdrs.AUTHORIZATION in headers:
        return tokens.bearer(headers[hdrs.AUTHORIZATION])
    for name in _subprotocols(headers):
        if name.startswith(SUBPROTOCOL):
            return name.removeprefix(SUBPROTOCOL)
    return None
