"""The search for an answer among RTU frames.

Source: MODBUS over Serial Line V1.02.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from services.comsrv.plugins.modbus.frames import (
    EXCEPTION,
    MASK_WRITE,
    READS,
    WRITE_AND_READ,
    WRITES,
    Fault,
    Query,
    Receiver,
    crc,
    fault_of,
)
from services.comsrv.traffic import Traffic

# A frame of either kind has at most 260 bytes; what piles up beyond two of them is no frame.
MAX_PENDING: Final = 520
# What a unit owes is forgotten after so long.
OWED_S: Final = 30.0


class RtuReceiver(Receiver):
    """Unit, PDU and CRC. Nothing says which request an answer belongs to, so the order must be kept.

    `owed` holds the beginnings of answers that did not come in time and may still come. A request
    whose answer would begin alike must not be sent to that unit before another kind of request,
    a probe, was answered: a device answers in order, so what comes after that is in step again.
    """

    _garbled = "wrong_crc"

    def __init__(self, traffic: Traffic) -> None:
        """Start in step."""
        super().__init__(traffic)
        self.owed: dict[int, dict[bytes, float]] = {}
        # True when something came that may not have been all: wait for a silent line.
        self.dirty = False
        self._start = b""
        self._echo = b""
        self.echoes = False

    def ask(self, unit: int, query: Query, *, any_unit: bool) -> bytes:
        """Return the frame to send, and wait for its answer from now on."""
        _ = any_unit
        self.discard()
        self._unit, self._query, self._waiting = unit, query, True
        self._start = bytes((unit,)) + query.head
        self._size = query.length + 3
        body = bytes((unit,)) + query.pdu
        frame = body + crc(body)
        self._echo = frame if self.echoes else b""
        return frame

    def expire(self) -> str:
        """Give the request up; its answer may still come."""
        if self._waiting:
            self._owe()
        return super().expire()

    def ambiguous(self, unit: int, query: Query) -> bool:
        """Say whether an answer still owed would look like the answer to this request."""
        owed = self.owed.get(unit)
        if owed is None:
            return False
        now = monotonic()
        for head in [head for head, until in owed.items() if until < now]:
            del owed[head]
        return query.head in owed

    def _owe(self) -> None:
        """Note that the answer to the request under way may still come."""
        self.owed.setdefault(self._unit, {})[self._query.head] = monotonic() + OWED_S
        self.dirty = True

    def in_step(self, unit: int) -> None:
        """Forget what a unit owes."""
        self.owed.pop(unit, None)

    def discard(self) -> None:
        """Drop what came while nothing was asked."""
        if self._buffer:
            self._account(self._buffer)
            self._buffer = b""

    def feed(self, data: bytes) -> bytes | Fault | None:
        """Take bytes in; return the answer's PDU when it is whole, or why there will be none."""
        if self._echo:
            data = self._without_echo(data)
            if not data:
                return None
        if not self._waiting:
            self.dirty = True
        self._buffer = (self._buffer + data)[-MAX_PENDING:]
        return self._search() if self._waiting else None

    def _without_echo(self, data: bytes) -> bytes:
        """Take off what the adapter sends back of our own request."""
        shared = min(len(self._echo), len(data))
        if self._echo[:shared] != data[:shared]:
            self._echo = b""
            return data
        self._echo = self._echo[shared:]
        return data[shared:]

    def _search(self) -> bytes | Fault | None:
        """Look for the answer, or an exception, anywhere in the buffer; then at what stands first."""
        place, checked = self._find(self._start, self._size)
        if checked:
            return self._found(place)
        exception, checked = self._find(bytes((self._unit, self._query.code | EXCEPTION)), 5)
        if checked and (place < 0 or exception < place):
            return self._found(exception)
        fault = self._foreign()
        if fault is not None:
            return fault
        place = self._buffer.find(self._start)
        if place < 0 or len(self._buffer) - place < self._size:
            return None
        self._waiting = False
        self._owe()
        self._drop(self._buffer, "wrong_crc")
        self._buffer = b""
        return Fault("wrong_crc", "the check bytes are wrong")

    def _find(self, start: bytes, size: int) -> tuple[int, bool]:
        """Return where a frame begins, and whether it is whole with right check bytes; the first right one counts."""
        first = place = self._buffer.find(start)
        while place >= 0:
            frame = self._buffer[place : place + size]
            if len(frame) == size and crc(frame[:-2]) == frame[-2:]:
                return place, True
            place = self._buffer.find(start, place + 1)
        return first, False

    def _found(self, place: int) -> bytes:
        """Take the answer that begins at a place; what stands before it is no part of it."""
        self._account(self._buffer[:place])
        size = 5 if self._buffer[place + 1] & EXCEPTION else self._size
        frame, self._buffer = self._buffer[place : place + size], self._buffer[place + size :]
        self._waiting = False
        if self._buffer:
            self.dirty = True
        self._take(frame)
        return frame[1:-2]

    def _foreign(self) -> Fault | None:
        """Count whole frames of others that stand first in the buffer."""
        while frame := _first_frame(self._buffer):
            kind = self._kind_of(frame)
            self._buffer = self._buffer[len(frame) :]
            if kind is not None:
                self._drop(frame, kind)
                continue
            self._waiting = False
            self._owe()
            fault = fault_of(frame[1:-2], self._query)
            self._drop(frame, fault.kind)
            return fault
        return None

    def _kind_of(self, frame: bytes) -> str | None:
        """Return what a frame is that answers nothing; None for a wrong answer to the request under way."""
        if any(frame[1:].startswith(head) for head in self.owed.get(frame[0], ())):
            return "late"
        if not self._waiting:
            return "unsolicited"
        if frame[0] != self._unit:
            return "wrong_unit"
        return "wrong_function" if frame[1] & ~EXCEPTION != self._query.code else None

    def _account(self, data: bytes) -> None:
        """Count what stands in front of an answer, or came without a request: frames each, the rest as one."""
        while frame := _first_frame(data):
            self._drop(frame, self._kind_of(frame) or "wrong_byte_count")
            data = data[len(frame) :]
        if data:
            self._drop(data, "unsolicited")


def _first_frame(data: bytes) -> bytes:
    """Return the whole frame with right check bytes that stands first, or nothing."""
    size = _rtu_size(data)
    frame = data[:size]
    return frame if size and len(frame) == size and crc(frame[:-2]) == frame[-2:] else b""


def _rtu_size(data: bytes) -> int:
    """Return the size of the answer that stands first, or 0 where its bytes do not tell."""
    if len(data) < 3:
        return 0
    code = data[1]
    if code & EXCEPTION:
        return 5
    if code in READS or code == WRITE_AND_READ:
        return 5 + data[2]
    if code == MASK_WRITE:
        return 10
    return 8 if code in WRITES else 0
