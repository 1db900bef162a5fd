"""A link: one connection, or serial line, to one place, shared by the channels that name it.

One transaction at a time over all of its channels. A request that was sent is waited for to
its end even when who asked is gone, so that no answer meets another's request. Connection
attempts are counted here, for all channels: capped exponential pauses with jitter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from services.comsrv.backoff import Backoff
from services.comsrv.contract import (
    MalformedError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
    UnreachableError,
)
from services.comsrv.line import Line
from services.comsrv.plugins.modbus import frames, meaning
from services.comsrv.plugins.modbus.connection import Connection, LostError, SilentError
from services.comsrv.plugins.modbus.endpoints import Endpoint
from services.comsrv.plugins.modbus.frames import EXCEPTION, Fault, Query, Receiver, RtuReceiver, TcpReceiver
from services.comsrv.traffic import Traffic

# A connection counts as dead after so many time-outs in a row, if units that had answered are among them.
SILENCES: Final = 3
# ... and after so many where there is but one unit: then nobody loses by a new connection.
LONE_SILENCES: Final = 2
FIRST_PAUSE_MS: Final = 250
# Who asks for a connection within this time of the next attempt waits; who comes earlier is told.
SHORT_WAIT_S: Final = 1.0
# The connection is given so long to close before the next one is opened.
CLOSING_S: Final = 1.0
# A line on which something came too late must be silent for so long at least.
QUIET_S: Final = 0.02
# Returning to the first endpoint in vain doubles the time to the next try, up to so many times.
LONGEST_RETURN: Final = 16
# Exceptions of a gateway whose unit does not answer.
UNREACHABLE: Final = frozenset((10, 11))
MAX_SILENT: Final = 256
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


class Link:
    """Transactions with the units behind one endpoint, or behind another while that one does not answer."""

    def __init__(self, endpoints: tuple[Endpoint, ...], settings: Settings) -> None:
        """Keep the endpoints, the first before its fallback; nothing is opened yet."""
        self.settings = settings
        self.line = Line()
        self.traffic = Traffic(self._explain)
        self.traffic.endpoint = endpoints[0].name
        self._users: dict[object, str] = {}
        self._endpoints = endpoints
        self._at = 0
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._last: Connection | None = None
        self._opening: asyncio.Task[NotConnectedError | None] | None = None
        self._finishing: set[asyncio.Task[None]] = set()
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
        self._silent_since = 0.0
        self._longest_s = 0.0
        # Units whose last request had no answer: these are not asked twice.
        self._dead: set[int] = set()

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
            self._return_at = monotonic() + self.settings.return_after_s
        traffic = self.traffic
        traffic.endpoint = self._endpoints[place].name
        traffic.connected = True
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
        self._returns = min(2 * max(self._returns, 1), LONGEST_RETURN)
        self._return_at = monotonic() + self.settings.return_after_s * self._returns
        self._at = place
        return await self._open(timeout_s)

    # Transactions.

    async def transact(
        self, unit: int, query: Query, timeout_s: float, *, retries: int = 0, any_unit: bool = False
    ) -> bytes:
        """Send a request and return its answer's PDU.

        Args:
            unit: who is asked.
            query: what.
            timeout_s: how long the device may take to answer; the time on the wire comes on top.
            retries: further attempts when there is no answer, or a broken one; none for writes.
            any_unit: take an answer of another unit.

        Raises:
            DeviceError: no connection, no answer, an exception code, or an answer that can't be taken.
        """
        self._longest_s = max(self._longest_s, timeout_s)
        lock = self._lock
        await lock.acquire()
        began = monotonic()
        try:
            attempts = 1 if unit in self._dead else 1 + retries
            while True:
                attempts -= 1
                try:
                    return await self._attempt(unit, query, timeout_s, any_unit)
                except (NoAnswerError, MalformedError) as error:
                    if attempts <= 0 or self._connection is None or isinstance(error, UnreachableError):
                        raise
                    self.traffic.retries += 1
        finally:
            self.traffic.busy(monotonic() - began)
            if self._connection is None or not self._connection.waiting:
                lock.release()
            else:
                self._finish(self._connection)

    def _finish(self, connection: Connection) -> None:
        """Wait for the answer of a request whose asker was cancelled, with the link still taken."""

        async def wait() -> None:
            try:
                with suppress(SilentError, LostError):
                    await connection.outcome()
            finally:
                self._lock.release()

        task = asyncio.create_task(wait())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _attempt(self, unit: int, query: Query, timeout_s: float, any_unit: bool) -> bytes:
        """Make one attempt: wait until the line is ready, ask, and judge what comes."""
        if self._return_at and monotonic() >= self._return_at and self._connection is not None:
            await self._opened(self._return, timeout_s)
        connection = self._connection
        if connection is None:
            raise self._lost(f"{self.traffic.endpoint} is not connected", sent=False)
        if self.settings.rtu:
            await self._in_step(connection, unit, query, timeout_s)
        pdu = await self._ask(connection, unit, query, timeout_s, any_unit)
        if not pdu[0] & EXCEPTION:
            if self.settings.rtu:
                connection.receiver.in_step(unit)
        else:
            code = pdu[1]
            traffic = self.traffic
            traffic.exceptions[code] += 1
            traffic.unit(unit).exceptions[code] += 1
            text = f"{traffic.endpoint} unit {unit}: {meaning.exception_text(code)}"
            traffic.error(text, unit)
            raise UnreachableError(code, text) if code in UNREACHABLE else RefusedError(code, text)
        return pdu

    async def _ask(self, connection: Connection, unit: int, query: Query, timeout_s: float, any_unit: bool) -> bytes:
        """Send one request and return the PDU that answers it, exceptions included."""
        wait_s = self._ready_at - monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        traffic = self.traffic
        counters = traffic.unit(unit)
        traffic.requests += 1
        counters.requests += 1
        settings = self.settings
        if settings.character_s:
            timeout_s += (len(query.pdu) + query.length + 6) * settings.character_s
        began = monotonic()
        try:
            pdu = await connection.ask(unit, query, timeout_s, any_unit)
        except SilentError as error:
            raise self._unanswered(connection, unit, timeout_s, str(error)) from None
        except LostError:
            raise self._lost(f"{traffic.endpoint}: connection lost", sent=True) from None
        finally:
            if settings.pause_s or settings.gap_s:
                self._ready_at = monotonic() + settings.pause_s + settings.gap_s
        if isinstance(pdu, Fault):
            counters.malformed += 1
            text = f"{traffic.endpoint} unit {unit}: {pdu.text}"
            traffic.error(text, unit)
            raise MalformedError(text)
        traffic.answered(unit, monotonic() - began)
        if self._silences or unit not in self._proven:
            self._heard(unit)
        if self._dead:
            self._dead.discard(unit)
        return pdu

    def _heard(self, unit: int) -> None:
        """Note an answer: the connection is well."""
        if not self._proven:
            self._backoff.reset()
            if self._at == 0:
                self._returns = 0
        self._proven.add(unit)
        self._silent.clear()
        self._silences = 0

    def _unanswered(
        self, connection: Connection, unit: int, timeout_s: float, rest: str
    ) -> NoAnswerError | NotConnectedError:
        """Return the error for a request without answer, and give up the connection when it seems dead.

        One dead unit behind a gateway must not cost the others their connection: it takes
        several time-outs in a row, and, where units had answered before, two of those among them.
        """
        traffic = self.traffic
        traffic.timeouts += 1
        traffic.unit(unit).timeouts += 1
        if self._silences == 0:
            self._silent_since = monotonic() - timeout_s
        self._silences += 1
        if len(self._dead) < MAX_SILENT:
            self._dead.add(unit)
        self._silent.add(unit)
        text = f"{traffic.endpoint} unit {unit}: no answer in {timeout_s:g} s{rest}"
        traffic.error(text, unit)
        enough = len(self._proven & self._silent) >= min(2, len(self._proven))
        # Requests among neighbors wait for less than the time-out: several of them may all be too early.
        enough = enough and monotonic() - self._silent_since >= self._longest_s
        alone = self._proven == self._silent == {unit}
        if self._silences >= (LONE_SILENCES if alone else SILENCES) and enough and not self._serial:
            self._drop()
            text = f"{traffic.endpoint}: {self._silences} requests without an answer"
            return self._lost(text, sent=True)
        if connection is not self._connection:
            return self._lost(f"{traffic.endpoint}: connection lost", sent=True)
        return NoAnswerError(text)

    # Serial lines.

    @property
    def _serial(self) -> bool:
        """True for a line with a speed: opening it again helps nobody, unless there is another."""
        return self.settings.character_s > 0 and len(self._endpoints) == 1

    async def _in_step(self, connection: Connection, unit: int, query: Query, timeout_s: float) -> None:
        """Make sure that an answer which is still owed can't be taken for the answer to this request."""
        receiver = connection.receiver
        if not isinstance(receiver, RtuReceiver):
            return
        if receiver.dirty:
            await self._quiet(connection, receiver, timeout_s)
        if not receiver.ambiguous(unit, query):
            return
        probe = frames.probe(query, receiver.owed.get(unit, ()))
        pdu = await self._ask(connection, unit, probe, timeout_s, any_unit=False)
        if pdu[0] & EXCEPTION:
            # It may be the late answer itself: only silence tells.
            await self._quiet(connection, receiver, timeout_s, silence_s=timeout_s)
        receiver.in_step(unit)

    async def _quiet(
        self, connection: Connection, receiver: RtuReceiver, timeout_s: float, silence_s: float = 0.0
    ) -> None:
        """Wait until nothing comes any more, and drop what came."""
        silence_s = max(silence_s, 2 * self.settings.gap_s, QUIET_S)
        last = monotonic() + timeout_s + silence_s
        while (wait_s := connection.heard_at + silence_s - monotonic()) > 0:
            if monotonic() >= last:
                raise NoAnswerError(f"{self.traffic.endpoint}: the line is never silent")
            await asyncio.sleep(wait_s)
        receiver.discard()
        receiver.dirty = False

    async def broadcast(self, query: Query) -> None:
        """Send a write that every unit obeys and none answers (serial lines), and give them time."""
        async with self._lock:
            connection = self._connection
            if connection is None:
                raise self._lost(f"{self.traffic.endpoint} is not connected", sent=False)
            wait_s = self._ready_at - monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.traffic.requests += 1
            connection.tell(0, query)
            self._ready_at = monotonic() + self.settings.turnaround_s + self.settings.character_s * len(query.pdu)


def _difference(one: Settings, other: Settings) -> str:
    """Say what two channels of a link do not agree on."""
    names = sorted(one.declared.keys() | other.declared.keys())
    found = [(name, one.declared.get(name), other.declared.get(name)) for name in names]
    return ", ".join(f"{name} {mine!r}, not {theirs!r}" for name, mine, theirs in found if mine != theirs)
