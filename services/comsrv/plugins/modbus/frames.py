"""Requests as frames, and the search for their answers in what comes back.

A receiver knows the one request under way and the first bytes its answer must begin with:
transaction, unit, function code and byte count, or the whole echo of a write. Whatever else
comes is counted by kind and dropped, so that no late, foreign or broken frame becomes a value.

Sources: MODBUS Application Protocol V1.1b3; MODBUS Messaging on TCP/IP V1.0b; MODBUS over
Serial Line V1.02.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from functools import lru_cache
from time import monotonic
from typing import Final, NamedTuple

from pymodbus.framer.rtu import FramerRTU

from services.comsrv.traffic import Traffic

READS: Final = (1, 2, 3, 4)
WRITES: Final = (5, 6, 15, 16, 22)
MASK_WRITE: Final = 22
EXCEPTION: Final = 0x80
_MBAP: Final = struct.Struct(">HHHB")
_HEADER: Final = 7
# A frame of either kind has at most 260 bytes; what piles up beyond two of them is no frame.
MAX_PENDING: Final = 520
# So many transaction ids that timed out are remembered, to tell a late answer from a foreign one.
REMEMBERED: Final = 64
# What a unit owes is forgotten after so long; and so many kinds of probe are there.
OWED_S: Final = 30.0
PROBES: Final = 16
# An id this close before the present one was used lately.
RECENT: Final = 1000


class Query(NamedTuple):
    """A request without address or check: what goes out, and what its answer begins with.

    `head` are the first bytes of the answer's PDU, `length` is that PDU's length.
    """

    pdu: bytes
    head: bytes
    length: int

    @property
    def code(self) -> int:
        """The function code."""
        return self.pdu[0]


class Fault(NamedTuple):
    """An answer that came and can't be taken."""

    kind: str
    text: str


@lru_cache(8192)
def read(code: int, address: int, count: int) -> Query:
    """Return a read of registers (3, 4) or bits (1, 2)."""
    byte_count = (count + 7) // 8 if code in {1, 2} else 2 * count
    return Query(struct.pack(">BHH", code, address, count), bytes((code, byte_count)), 2 + byte_count)


def write(pdu: bytes) -> Query:
    """Return a write; its answer repeats the first five bytes, that to a mask write all of it."""
    size = len(pdu) if pdu[0] == MASK_WRITE else 5
    return Query(pdu, pdu[:size], size)


def probe(query: Query, owed: Collection[bytes]) -> Query:
    """Return a read at the same address whose answer can't be taken for one that is still owed."""
    code = query.code if query.code in READS else 3
    address = int.from_bytes(query.pdu[1:3], "big")
    step = 8 if code in {1, 2} else 1
    candidates = [read(code, address, 1 + step * more) for more in range(PROBES)]
    return next((found for found in candidates if found.head not in owed and found.head != query.head), candidates[-1])


def crc(data: bytes) -> bytes:
    """Return the two check bytes as they go over the wire."""
    return FramerRTU.compute_CRC(data).to_bytes(2, "big")


class Receiver(ABC):
    """Finds the answer to one request at a time."""

    # What a frame of full length that can't be made out is counted as.
    _garbled = "malformed"

    def __init__(self, traffic: Traffic) -> None:
        """Start with nothing awaited."""
        self._traffic = traffic
        self._buffer = b""
        self._size = 0
        self._waiting = False
        self._unit = 0
        self._query = Query(b"\0", b"", 0)

    @abstractmethod
    def ask(self, unit: int, query: Query, *, any_unit: bool) -> bytes:
        """Return the frame to send, and wait for its answer from now on."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes | Fault | None:
        """Take bytes in; return the answer's PDU when it is whole, or why there will be none."""

    def settled(self) -> None:
        """Wait for nothing: the request ended."""
        self._waiting = False

    @abstractmethod
    def in_step(self, unit: int) -> None:
        """Note that a unit answered what it was asked."""

    def expire(self) -> str:
        """Give the request up; return what came instead of an answer, for the message."""
        self._waiting = False
        if not self._buffer:
            return ""
        size = len(self._buffer)
        self._drop(self._buffer, "partial" if size < self._size else self._garbled)
        self._buffer = b""
        return f", only {size} bytes of something"

    def _drop(self, data: bytes, kind: str) -> None:
        """Count a frame, or what is left of one, that is no answer."""
        self._traffic.rejected[kind] += 1
        if self._traffic.frames.on:
            self._traffic.frames.add(False, data, kind)

    def _take(self, data: bytes) -> None:
        if self._traffic.frames.on:
            self._traffic.frames.add(False, data)


class TcpReceiver(Receiver):
    """MBAP header and PDU: the transaction id says which request an answer belongs to."""

    def __init__(self, traffic: Traffic) -> None:
        """Start with transaction 0."""
        super().__init__(traffic)
        self._transaction = 0
        self._start = b""
        self._any_unit = False
        self._expired: deque[int] = deque(maxlen=REMEMBERED)

    def ask(self, unit: int, query: Query, *, any_unit: bool) -> bytes:
        """Return the frame to send, and wait for its answer from now on."""
        transaction = self._transaction = (self._transaction + 1) & 0xFFFF
        self._unit, self._query, self._waiting, self._any_unit = unit, query, True, any_unit
        self._start = _MBAP.pack(transaction, 0, query.length + 1, unit) + query.head
        self._size = _HEADER + query.length
        return _MBAP.pack(transaction, 0, len(query.pdu) + 1, unit) + query.pdu

    def in_step(self, unit: int) -> None:
        """Do nothing: transaction ids keep the order."""

    def expire(self) -> str:
        """Give the request up, and know its answer when it comes late."""
        if self._waiting:
            self._expired.append(self._transaction)
        return super().expire()

    def feed(self, data: bytes) -> bytes | Fault | None:
        """Take bytes in; return the answer's PDU when it is whole, or why there will be none."""
        if self._waiting and not self._buffer and len(data) == self._size and data.startswith(self._start):
            self._waiting = False
            self._take(data)
            return data[_HEADER:]
        self._buffer += data
        return self._search()

    def _search(self) -> bytes | Fault | None:
        """Look at each frame in the buffer; behind bytes that are no frame, for the answer's beginning."""
        while len(self._buffer) > _HEADER:
            transaction, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            place = self._buffer.find(self._start) if self._waiting else -1
            if protocol or not 2 <= length <= 254 or 0 < place < length + 6:
                # Out of step: what stands before the answer, or all there is.
                cut = place if place > 0 else len(self._buffer)
                self._drop(self._buffer[:cut], "malformed")
                self._buffer = self._buffer[cut:]
                continue
            if len(self._buffer) < length + 6:
                return None
            frame, self._buffer = self._buffer[: length + 6], self._buffer[length + 6 :]
            found = self._judge(frame, transaction, unit)
            if found is not None:
                return found
        return None

    def _judge(self, frame: bytes, transaction: int, unit: int) -> bytes | Fault | None:
        """Return the answer, or count what a frame is instead."""
        if not self._waiting or transaction != self._transaction:
            self._drop(frame, self._kind_of(transaction))
            return None
        if unit != self._unit and not self._any_unit:
            self._drop(frame, "wrong_unit")
            return None
        pdu = frame[_HEADER:]
        if _answers(pdu, self._query):
            self._waiting = False
            if not _begins_a_frame(self._buffer):
                # Half an answer with the next frame in its place: its last bytes are not its own.
                self._drop(frame + self._buffer, "malformed")
                self._buffer = b""
                return Fault("malformed", "the answer runs into another frame")
            self._take(frame)
            return pdu
        if pdu[0] & ~EXCEPTION != self._query.code:
            self._drop(frame, "wrong_function")
            return None
        self._waiting = False
        fault = _fault(pdu, self._query)
        self._drop(frame, fault.kind)
        return fault

    def _kind_of(self, transaction: int) -> str:
        if transaction in self._expired:
            return "late"
        if (self._transaction - transaction) & 0xFFFF < RECENT:
            return "duplicate"
        return "wrong_transaction"


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
            fault = _fault(frame[1:-2], self._query)
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


def _answers(pdu: bytes, query: Query) -> bool:
    """Say whether a PDU is a whole answer to a request, or an exception to it."""
    if len(pdu) == 2 and pdu[0] == query.code | EXCEPTION:
        return True
    return len(pdu) == query.length and pdu.startswith(query.head)


def _begins_a_frame(data: bytes) -> bool:
    """Say whether bytes behind a frame can be the beginning of another: protocol 0, a length there is."""
    return not any(data[2:4]) and (len(data) < 6 or 2 <= int.from_bytes(data[4:6], "big") <= 254)


def _fault(pdu: bytes, query: Query) -> Fault:
    if query.code in WRITES:
        return Fault("wrong_echo", "the answer does not repeat what was written")
    return Fault("wrong_byte_count", f"{len(pdu) - 2} bytes where {query.length - 2} were asked for")


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
    if code in READS:
        return 5 + data[2]
    if code == MASK_WRITE:
        return 10
    return 8 if code in WRITES else 0
