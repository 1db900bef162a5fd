"""One open connection: bytes out, bytes in, one request under way, and its time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from services.comsrv.plugins.modbus.frames import Fault, Query, Receiver
from services.comsrv.traffic import Traffic

# pymodbus' serial transport is set up by the loop a moment after it is made.
START_S: Final = 1.0


class LostError(Exception):
    """The connection ended."""


class SilentError(Exception):
    """No answer in time; the text says what came instead."""


class Connection(asyncio.Protocol):
    """Carries the transactions of a link, one at a time."""

    def __init__(self, receiver: Receiver, traffic: Traffic, ended: Callable[[Connection], None]) -> None:
        """Keep what it works with; `ended` is called when the other side ends the connection."""
        self.receiver = receiver
        self.ended = asyncio.Event()
        self.heard_at = 0.0
        self._traffic = traffic
        self._on_end = ended
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._made = asyncio.Event()
        self._answer: asyncio.Future[bytes | Fault] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False

    @property
    def waiting(self) -> bool:
        """True while a request is under way."""
        return self._answer is not None

    async def started(self) -> None:
        """Wait until bytes can be sent. Raises LostError."""
        try:
            async with asyncio.timeout(START_S):
                await self._made.wait()
        except TimeoutError:
            raise LostError("the port did not open") from None
        if self._transport is None:
            raise LostError("closed at once")

    async def ask(self, unit: int, query: Query, timeout_s: float, any_unit: bool) -> bytes | Fault:
        """Send a request and return its answer's PDU, or what is wrong with it.

        A caller that is cancelled leaves the request under way: `waiting` stays true, `outcome` waits.

        Raises:
            SilentError: no answer in time.
            LostError: the connection ended.
        """
        if self._transport is None:
            raise LostError
        self._send(self.receiver.ask(unit, query, any_unit=any_unit))
        answer: asyncio.Future[bytes | Fault] = self._loop.create_future()
        self._answer = answer
        self._deadline = monotonic() + timeout_s
        if self._timer is None or self._deadline < self._timer_at:
            self._watch()
        try:
            return await answer
        except asyncio.CancelledError:
            if self._answer is answer:
                self._answer = self._loop.create_future()
                self._answer.add_done_callback(_seen)
            raise

    def tell(self, unit: int, query: Query) -> None:
        """Send a request that nobody answers."""
        self._send(self.receiver.ask(unit, query, any_unit=False))
        self.receiver.settled()

    async def outcome(self) -> None:
        """Wait until the request under way has ended."""
        if self._answer is not None:
            await self._answer

    def close(self) -> None:
        """End the connection; a request under way fails."""
        transport, self._transport = self._transport, None
        self._closed = True
        self._stop_timer()
        if transport is not None:
            silent = transport.get_extra_info("socket") is None
            transport.abort()
            if silent:
                # pymodbus' serial transport does not say itself that it ended.
                self.ended.set()
        else:
            self.ended.set()
        self._made.set()
        self._fail(LostError("closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport into use, unless nobody wants it any more."""
        if self._closed:
            transport.abort()  # type: ignore[attr-defined] # serial and socket transports are Transports
            return
        self._transport = transport  # type: ignore[assignment] # as above
        self.heard_at = monotonic()
        self._made.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        _ = exc
        self._transport = None
        self._stop_timer()
        self.ended.set()
        self._made.set()
        self._on_end(self)
        self._fail(LostError("lost"))

    def data_received(self, data: bytes) -> None:
        """Look for the answer."""
        self.heard_at = monotonic()
        self._traffic.bytes_in += len(data)
        found = self.receiver.feed(data)
        if found is not None:
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():
                answer.set_result(found)

    def _send(self, frame: bytes) -> None:
        transport = self._transport
        if transport is None:
            raise LostError
        traffic = self._traffic
        traffic.bytes_out += len(frame)
        if traffic.frames.on:
            traffic.frames.add(True, frame)
        transport.write(frame)

    def _watch(self) -> None:
        """End the request under way when its time is over; one timer serves many requests."""
        self._stop_timer()
        left_s = self._deadline - monotonic()
        if left_s > 0:
            self._timer_at = self._deadline
            self._timer = self._loop.call_later(left_s, self._watch)
        elif self._answer is not None:
            self._fail(SilentError(self.receiver.expire()))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)


def _seen(answer: asyncio.Future[bytes | Fault]) -> None:
    """Take note of an outcome that nobody may ask for."""
    if not answer.cancelled():
        answer.exception()
