"""Receivers: the answer is found however its bytes are cut, and nothing else is ever taken for it."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.comsrv.plugins.modbus import frames, meaning
from services.comsrv.plugins.modbus.frames import Fault, Query, Receiver
from services.comsrv.plugins.modbus.rtu_receiver import RtuReceiver
from services.comsrv.plugins.modbus.tcp_receiver import TcpReceiver
from services.comsrv.traffic import Traffic
from tests.integration.comsrv.device import crc

UNIT = 7
words = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125)
cuts = st.lists(st.integers(0, 300), max_size=6)


def tcp() -> TcpReceiver:
    return TcpReceiver(Traffic(meaning.of_tcp))


def rtu() -> RtuReceiver:
    return RtuReceiver(Traffic(meaning.of_rtu))


def pdu_of(values: list[int]) -> bytes:
    return bytes((3, 2 * len(values))) + struct.pack(f">{len(values)}H", *values)


def framed(receiver: Receiver, request: bytes, pdu: bytes, unit: int = UNIT) -> bytes:
    """Return the answer's frame, as the other side makes it from the request's frame."""
    if isinstance(receiver, TcpReceiver):
        return request[:2] + struct.pack(">HHB", 0, len(pdu) + 1, unit) + pdu
    return bytes((unit,)) + pdu + crc(bytes((unit,)) + pdu)


def fed(receiver: Receiver, data: bytes, at: list[int]) -> bytes | Fault | None:
    """Feed bytes in pieces; return what was found first."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    for first, last in pairwise(places):
        found = receiver.feed(data[first:last]) if first < last else None
        if found is not None:
            return found
    return None


@given(values=words, at=cuts)
@settings(max_examples=150, deadline=None)
def test_an_answer_in_pieces_is_put_together(values: list[int], at: list[int]):
    for receiver in (tcp(), rtu()):
        query = frames.read(3, 0, len(values))
        request = receiver.ask(UNIT, query, any_unit=False)
        assert fed(receiver, framed(receiver, request, pdu_of(values)), at) == pdu_of(values)


@given(values=words, other=words, unit=st.integers(1, 247), at=cuts)
@settings(max_examples=150, deadline=None)
def test_a_whole_frame_of_somebody_else_before_it_is_passed_over(
    values: list[int], other: list[int], unit: int, at: list[int]
):
    if unit == UNIT:
        return
    for receiver in (tcp(), rtu()):
        request = receiver.ask(UNIT, frames.read(3, 0, len(values)), any_unit=False)
        stream = framed(receiver, request, pdu_of(other), unit) + framed(receiver, request, pdu_of(values))
        assert fed(receiver, stream, at) == pdu_of(values)


@given(junk=st.binary(max_size=600), count=st.integers(1, 3), at=cuts)
@settings(max_examples=400, deadline=None)
def test_what_is_taken_is_a_whole_frame_of_the_right_unit_and_length(junk: bytes, count: int, at: list[int]):
    """Random bytes, begun as an answer would: only what carries every mark of one is taken."""
    for receiver in (tcp(), rtu()):
        query = frames.read(3, 0, count)
        request = receiver.ask(UNIT, query, any_unit=False)
        head = request[:2] if isinstance(receiver, TcpReceiver) else bytes((UNIT, 3))
        found = fed(receiver, head + junk, at)
        if isinstance(found, bytes):
            marks = framed(receiver, request, found)
            assert marks in head + junk
            assert found[0] == 0x83 or (found[0] == 3 and len(found) == 2 + 2 * count == 2 + found[1])


# What this one leaves begins, by chance, with a whole exception of another function: that is one, the rest another.
@example(values=[2211, 0, 0], at=[], flip=(1, 225))
@given(values=words, at=cuts, flip=st.tuples(st.integers(0, 2000), st.integers(1, 255)))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_on_a_serial_line_is_never_a_value(values: list[int], at: list[int], flip: tuple[int, int]):
    receiver = rtu()
    request = receiver.ask(UNIT, frames.read(3, 0, len(values)), any_unit=False)
    frame = bytearray(framed(receiver, request, pdu_of(values)))
    frame[flip[0] % len(frame)] ^= flip[1]
    assert not isinstance(fed(receiver, bytes(frame), at), bytes)
    if receiver.expire():
        rejected = receiver._traffic.rejected
        assert rejected.total() == 1 or rejected == {"wrong_function": 1, "partial": 1}


@given(first=words, second=words, at=cuts)
@settings(max_examples=150, deadline=None)
def test_a_late_answer_on_tcp_is_not_taken_for_the_next(first: list[int], second: list[int], at: list[int]):
    receiver = tcp()
    early = receiver.ask(UNIT, frames.read(3, 0, len(first)), any_unit=False)
    receiver.expire()
    late = receiver.ask(UNIT, frames.read(3, 500, len(second)), any_unit=False)
    stream = framed(receiver, early, pdu_of(first)) + framed(receiver, late, pdu_of(second))
    assert fed(receiver, stream, at) == pdu_of(second)
    assert receiver._traffic.rejected == {"late": 1}


@given(owed=st.integers(1, 125), code=st.sampled_from([1, 2, 3, 4]))
def test_a_probe_never_looks_like_what_is_owed(owed: int, code: int):
    query = frames.read(code, 100, owed)
    heads: set[bytes] = {query.head}
    for _ in range(10):
        probe: Query = frames.probe(query, heads)
        assert probe.head not in heads
        heads.add(probe.head)


@given(values=words, at=cuts)
@settings(max_examples=100, deadline=None)
def test_what_an_adapter_sends_back_is_taken_off(values: list[int], at: list[int]):
    receiver = rtu()
    receiver.echoes = True
    request = receiver.ask(UNIT, frames.read(3, 0, len(values)), any_unit=False)
    assert fed(receiver, request + framed(receiver, request, pdu_of(values)), at) == pdu_of(values)
    assert receiver._traffic.rejected == {}


def test_an_adapter_that_sends_nothing_back_does_no_harm():
    receiver = rtu()
    receiver.echoes = True
    request = receiver.ask(UNIT, frames.read(3, 0, 1), any_unit=False)
    assert receiver.feed(framed(receiver, request, pdu_of([42]))) == pdu_of([42])
