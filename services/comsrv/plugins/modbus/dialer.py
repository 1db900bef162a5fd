"""Keeping a link connected: who uses it, where it leads, when the next attempt is due.

Connection attempts are counted for all channels of a link: capped exponential pauses with
jitter. There is never a second connection while the first is open, also on the way to the
fallback endpoint and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from libs.clock import now_ms
from services.comsrv.backoff import Backoff
from services.comsrv.contract import NotConnectedError
from services.comsrv.plugins.modbus import meaning
from services.comsrv.plugins.modbus.connection import Connection, LostError
from services.comsrv.plugins.modbus.endpoints import Endpoint
from services.comsrv.plugins.modbus.frames import Receiver
from services.comsrv.plugins.modbus.rtu_receiver import RtuReceiver
from services.comsrv.plugins.modbus.tcp_receiver import TcpReceiver
from services.comsrv.traffic import Traffic

FIRST_PAUSE_MS: Final = 250
# Who asks for a connection within this time of the next attempt waits; who comes earlier is told.
SHORT_WAIT_S: Final = 1.0
# The connection is given so long to close before the next one is opened.
CLOSING_S: Final = 1.0
# Returning to the first endpoint in vain doubles the time to the next try, up to so many times.
LONGEST_RETURN: Final = 16
# A channel that may not share a link as it is asks again after so long.
CONFLICT_MS: Final = 5000


@dataclass(frozen=True)
class Settings:
    """What all channels of a link must agree on. Times in seconds."""

    rtu: bool = False
    echo: bool = False
    gap_s: float = 0.0
    pause_s: float = 0.0
    connect_pause_s: float = 0.0
    reconnect_pause_s: float = 0.0
    return_after_s: float = 60.0
    turnaround_s: float = 0.1
    # Seconds a byte takes on the wire; a time-out is longer by the request and its answer.
    character_s: float = 0.0
    # All of it as people wrote it, for saying what differs.
    declared: dict[str, Any] = field(default_factory=dict)


class Dialer:
    """The connecting half of a link."""

    def __init__(self, endpoints: tuple[Endpoint, ...], settings: Settings) -> None:
        """Keep the endpoints, the first before its fallback; nothing is opened yet."""
        self.settings = settings
        self.traffic = Traffic(self._explain)
        self.traffic.endpoint = endpoints[0].name
        self._users: dict[object, str] = {}
        self._endpoints = endpoints
        self._at = 0
        self._connection: Connection | None = None
        self._last: Connection | None = None
        self._opening: asyncio.Task[NotConnectedError | None] | None = None
        self._backoff = Backoff(FIRST_PAUSE_MS, 10_000)
        self._next_attempt = 0.0
        self._closed_at = -1e9
        self._ready_at = 0.0
        self._return_at = 0.0
        self._returns = 0
        # Units that answered over this connection; units without an answer since the last one of any.
        self._proven: set[int] = set()
        self._silent: set[int] = set()
        self._silences = 0

    @property
    def connected(self) -> bool:
        """True while requests can be sent."""
        return self._connection is not None

    # Channels.

    def join(
        self, user: object, name: str, endpoints: tuple[Endpoint, ...], settings: Settings, longest_pause_ms: int
    ) -> None:
        """Count a channel among those that use the link.

        Raises:
            NotConnectedError: another channel uses it with other settings.
        """
        others = [found for other, found in self._users.items() if other is not user]
        if settings != self.settings:
            if others:
                text = _difference(self.settings, settings)
                raise NotConnectedError(
                    f"{self.traffic.endpoint} is shared with {others[0]}, which has {text}", retry_after_ms=CONFLICT_MS
                )
            self._drop()
            self.settings = settings
            self._endpoints = endpoints
            self._at = 0
        self._users[user] = name
        attempts = self._backoff.attempts
        self._backoff = Backoff(FIRST_PAUSE_MS, longest_pause_ms)
        self._backoff.attempts = attempts

    async def leave(self, user: object) -> None:
        """Count a channel out; the last one closes the connection."""
        if self._users.pop(user, None) is None or self._users:
            return
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._drop()
        await self._closed()

    def _explain(self, sent: bool, data: bytes) -> str:
        return (meaning.of_rtu if self.settings.rtu else meaning.of_tcp)(sent, data)

    # Connections.

    async def connect(self, timeout_s: float) -> None:
        """Connect, unless there is a connection; whoever asks meanwhile gets the same one.

        Raises:
            NotConnectedError: it can't be had now; `retry_after_ms` says when to ask again.
        """
        if self._connection is not None:
            return
        wait_s = self._next_attempt - monotonic()
        if self._opening is None and wait_s > SHORT_WAIT_S:
            raise NotConnectedError(
                f"{self.traffic.endpoint} can't be reached; next attempt in {wait_s:.0f} s",
                retry_after_ms=int(wait_s * 1000),
            )
        await self._opened(self._open, timeout_s)

    async def _opened(
        self, how: Callable[[float], Coroutine[Any, Any, NotConnectedError | None]], timeout_s: float
    ) -> None:
        """Wait for the attempt under way, or begin one."""
        if self._opening is None:
            opening = asyncio.create_task(how(timeout_s), name=f"connect {self.traffic.endpoint}")
            opening.add_done_callback(self._no_more_opening)
            self._opening = opening
        error = await asyncio.shield(self._opening)
        if error is not None:
            raise NotConnectedError(str(error), retry_after_ms=error.retry_after_ms)

    def _no_more_opening(self, opening: asyncio.Task[NotConnectedError | None]) -> None:
        if self._opening is opening:
            self._opening = None

    async def _closed(self) -> None:
        """Wait until the device had the chance to see that the connection ended."""
        if self._last is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await self._last.ended.wait()

    async def _open(self, timeout_s: float) -> NotConnectedError | None:
        """Try the endpoints in turn, from the one that worked last. Returns what was wrong with the last one."""
        await asyncio.sleep(max(self._next_attempt - monotonic(), 0))
        error: NotConnectedError | None = None
        for _ in self._endpoints:
            error = await self._open_at(self._at, timeout_s)
            if error is None:
                return None
            self._at = (self._at + 1) % len(self._endpoints)
        pause_ms = self._backoff.next_ms()
        self._next_attempt = monotonic() + pause_ms / 1000
        if error is not None:
            error.retry_after_ms = pause_ms
        return error

    async def _open_at(self, place: int, timeout_s: float) -> NotConnectedError | None:
        """Open one endpoint, once the connection before is closed and the device had its pause."""
        await self._closed()
        await asyncio.sleep(max(self._closed_at + self.settings.reconnect_pause_s - monotonic(), 0))
        endpoint = self._endpoints[place]
        connection = Connection(self._receiver(), self.traffic, self._ended)
        try:
            await endpoint.open(lambda: connection, timeout_s)
            await connection.started()
        except asyncio.CancelledError:
            connection.close()
            raise
        except (OSError, LostError) as error:
            connection.close()
            self._closed_at = monotonic()
            self.traffic.connection_failures += 1
            text = f"{endpoint.name} can't be reached: {getattr(error, 'strerror', None) or error}"
            self.traffic.error(text)
            return NotConnectedError(text)
        self._begin(connection, place)
        return None

    def _receiver(self) -> Receiver:
        if not self.settings.rtu:
            return TcpReceiver(self.traffic)
        receiver = RtuReceiver(self.traffic)
        receiver.echoes = self.settings.echo
        return receiver

    def _begin(self, connection: Connection, place: int) -> None:
        """Take a new connection into use."""
        self._connection = self._last = connection
        self._at = place
        self._proven.clear()
        self._silent.clear()
        self._silences = 0
        self._ready_at = monotonic() + self.settings.connect_pause_s
        if place == 0:
            self._return_at = 0.0
        elif not self._return_at:
            self._return_at = monotonic() + self.settings.return_after_s * max(self._returns, 1)
        traffic = self.traffic
        traffic.endpoint = self._endpoints[place].name
        traffic.connected, traffic.connected_at_ms = True, now_ms()
        traffic.connections += 1

    def _drop(self) -> None:
        """Close the connection; one that never carried an answer counts as an attempt in vain."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._closed_at = monotonic()
        self.traffic.connected = False
        connection.close()
        if not self._proven and self._users:
            self._next_attempt = monotonic() + self._backoff.next_ms() / 1000
            if self._at == 0:
                self._in_vain()
            self._at = (self._at + 1) % len(self._endpoints)

    def _ended(self, connection: Connection) -> None:
        """Note that a connection was lost."""
        if connection is self._connection:
            self.traffic.error(f"{self.traffic.endpoint}: connection lost")
            self._drop()

    def _lost(self, text: str, *, sent: bool) -> NotConnectedError:
        wait_ms = max(int((self._next_attempt - monotonic()) * 1000), 0)
        return NotConnectedError(text, sent=sent, retry_after_ms=wait_ms)

    async def _return(self, timeout_s: float) -> NotConnectedError | None:
        """Try the first endpoint again, with the other one closed: a device may take one client only."""
        place = self._at
        self._drop()
        self._next_attempt = 0.0
        if await self._open_at(0, timeout_s) is None:
            return None
        self._in_vain()
        self._return_at = monotonic() + self.settings.return_after_s * self._returns
        self._at = place
        return await self._open(timeout_s)

    def _in_vain(self) -> None:
        """Note that the first endpoint was tried in vain: it is tried again later each time."""
        self._returns = min(2 * self._returns, LONGEST_RETURN) if self._returns else 1


def _difference(one: Settings, other: Settings) -> str:
    """Say what two channels of a link do not agree on."""
    names = sorted(one.declared.keys() | other.declared.keys())
    found = [(name, one.declared.get(name), other.declared.get(name)) for name in names]
    return ", ".join(f"{name} {mine!r}, not {theirs!r}" for name, mine, theirs in found if mine != theirs)
