"""A link: one connection, or serial line, to one place, shared by the channels that name it.

One transaction at a time over all of its channels. A request that was sent is waited for to
its end even when who asked is gone, so that no answer meets another's request.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Final

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
from services.comsrv.plugins.modbus.dialer import Dialer, Settings
from services.comsrv.plugins.modbus.endpoints import Endpoint
from services.comsrv.plugins.modbus.frames import EXCEPTION, Fault, Query
from services.comsrv.plugins.modbus.rtu_receiver import RtuReceiver

# A connection counts as dead after so many time-outs in a row, if units that had answered are among them.
SILENCES: Final = 3
# ... and after so many where there is but one unit: then nobody loses by a new connection.
LONE_SILENCES: Final = 2
# A line on which something came too late must be silent for so long at least.
QUIET_S: Final = 0.02
# Exceptions of a gateway whose unit does not answer.
UNREACHABLE: Final = frozenset((10, 11))
MAX_SILENT: Final = 256
# What the loop's timers count in.
TICK_S: Final = 0.001


class Link(Dialer):
    """Transactions with the units behind one endpoint, or behind another while that one does not answer."""

    def __init__(self, endpoints: tuple[Endpoint, ...], settings: Settings) -> None:
        """Start with nobody in line."""
        super().__init__(endpoints, settings)
        self.line = Line()
        self._lock = asyncio.Lock()
        self._finishing: set[asyncio.Task[None]] = set()
        self._silent_since = 0.0
        self._longest_s = 0.0
        # Units whose last request had no answer: these are not asked twice.
        self._dead: set[int] = set()

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
            text = f"{traffic.endpoint} unit {unit}: {meaning.refusal(code, query.pdu)}"
            traffic.error(text, unit)
            raise UnreachableError(code, text) if code in UNREACHABLE else RefusedError(code, text)
        return pdu

    async def _ask(self, connection: Connection, unit: int, query: Query, timeout_s: float, any_unit: bool) -> bytes:
        """Send one request and return the PDU that answers it, exceptions included."""
        await self._silence()
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
                # The silence began with the last byte, which may have been a while ago.
                silent_since = max(began, connection.heard_at)
                self._ready_at = silent_since + settings.pause_s + settings.gap_s
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

    async def _silence(self) -> None:
        """Wait until the next request may be sent.

        On a serial line to a fraction of the millisecond that the loop's timers count in: on a fast
        one the silence is 1.75 ms, and rounding costs a quarter of it.
        """
        tick_s = TICK_S if self.settings.character_s else 0.0
        while (wait_s := self._ready_at - monotonic()) > 0:  # noqa: ASYNC110 - the clock tells, and no event
            await asyncio.sleep(max(wait_s - tick_s, 0))

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
        if self._silences >= (LONE_SILENCES if self._alone(unit) else SILENCES) and enough and not self._serial:
            self._drop()
            text = f"{traffic.endpoint}: {self._silences} requests without an answer"
            return self._lost(text, sent=True)
        if connection is not self._connection:
            return self._lost(f"{traffic.endpoint}: connection lost", sent=True)
        return NoAnswerError(text)

    def _alone(self, unit: int) -> bool:
        """Say whether a new connection costs nobody but a silent unit anything.

        Either nobody else answered over this one; or nobody did so far, and the link only ever
        had this one to ask, which did answer: so it is no gateway with a dead unit.
        """
        if self._silent != {unit}:
            return False
        only = not self._proven and self.traffic.units.keys() == {unit} and self.traffic.answers > 0
        return only or self._proven == {unit}

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
            await self._silence()
            self.traffic.requests += 1
            connection.tell(0, query)
            self._ready_at = monotonic() + self.settings.turnaround_s + self.settings.character_s * len(query.pdu)
