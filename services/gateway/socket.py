"""`/ws`: log in, subscribe, a snapshot, then deltas.

The token comes in the `Authorization` header, as the subprotocol `bearer.<token>`, or in
the first message; never in the address, which ends up in logs. A newer token may be
sent at any time and prolongs the stream; without one it ends when the token does.

In   {op: auth, token}  {op: subscribe, refs, interval_ms?}  {op: unsubscribe, refs}  {op: ping, t?}
Out  {op: welcome, user}  {op: pong, t}  {op: error, code, detail}, and what every live stream sends (live.py)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from pydantic import Field, TypeAdapter, ValidationError

from libs.errors import InvalidError, UnauthorizedError, VoltageError
from libs.http import tokens
from libs.http.bodies import parse_json
from libs.validation import Model, problems_of, shortened
from services.gateway.hub import Hub
from services.gateway.live import Live, over
from services.gateway.selection import Selection
from services.gateway.settings import StreamSettings

LOGIN_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 15.0
MAX_MESSAGE: Final = 262_144
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
        raise InvalidError(shortened(problems), problems) from None


class Stream(Live):
    """One connection."""

    def __init__(self, hub: Hub, key: str, settings: StreamSettings) -> None:
        """Keep what it needs; nothing is sent yet."""
        super().__init__(hub, key, settings)
        self._socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE, compress=False)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Hold the connection until either side ends it."""
        header = _token_of(request.headers)
        if header is not None:
            # A bad token in the header is an HTTP answer: the connection is not upgraded.
            self.log_in(header)
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
        if self.hub.clients >= self.settings.max_clients:
            await self._socket.close(code=FULL, message=b"too many clients")
            return self._socket
        self.hub.join(self.subscriber)
        writer = asyncio.create_task(self.write(), name="stream")
        try:
            await self._read()
        finally:
            self.hub.leave(self.subscriber)
            await over(writer)
        return self._socket

    async def end(self, reason: str) -> None:
        """End the connection: the user's rights changed."""
        await self._socket.close(code=EXPIRED, message=reason.encode()[:120])

    async def break_off(self) -> None:
        """End the connection: what is asked for can't be read."""
        await self._socket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"what is asked for can't be read")

    # ------------------------------------------------------------ in

    async def _await_log_in(self) -> None:
        if self.user is None:
            async with asyncio.timeout(LOGIN_TIMEOUT_S):
                message = parse_message(await self._socket.receive_str())
            if not isinstance(message, Auth):
                raise UnauthorizedError("the first message must be {op: auth, token}")
            self.log_in(message.token)
        await self._welcome()

    async def _welcome(self) -> None:
        assert self.user is not None  # noqa: S101 - called after log-in
        await self.send({"op": "welcome", "user": {"name": self.user.name, "role": self.user.role.value}})

    async def _read(self) -> None:
        async for frame in self._socket:
            if frame.type is not WSMsgType.TEXT:
                break
            try:
                await self._obey(parse_message(frame.data))
            except UnauthorizedError as error:
                await self.end(str(error))
            except VoltageError as error:
                await self.send({"op": "error", "code": error.code, "detail": str(error)})

    async def _obey(self, message: Auth | Subscribe | Unsubscribe | Ping) -> None:
        match message:
            case Auth(token=token):
                self.log_in(token)
                await self._welcome()
            case Subscribe(refs=refs, interval_ms=interval_ms):
                self.ask(refs, interval_ms)
            case Unsubscribe(refs=refs):
                self.subscriber.release(Selection.parse(refs))
            case Ping(t=t):
                await self.send({"op": "pong", "t": t})

    # ------------------------------------------------------------ out

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self._socket.closed

    async def send_text(self, op: str, text: str) -> None:  # noqa: ARG002 - the document says it
        """Send a document."""
        await self._socket.send_str(text)


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
