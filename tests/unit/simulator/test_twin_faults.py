"""What goes out instead of an answer, and what a device makes of requests."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.faults import Answer, Fault, Kind, spoil
from services.simulator.twins.frames import Request, RtuFraming, TcpFraming, crc
from services.simulator.twins.unit import Unit, asked_of

READ = bytes((3, 0, 0, 0, 2))
PDU = bytes((3, 4, 1, 2, 3, 4))
RIGHT = bytes((0, 7, 0, 0, 0, 7, 1)) + PDU
BEFORE = bytes((0, 6, 0, 0, 0, 7, 1, 3, 4, 9, 9, 9, 9))


def sent(kind: Kind, **fault: Any) -> list[bytes]:
    answer = Answer(TcpFraming(), Request(7, 1, READ), PDU, BEFORE, Random(1))
    return [part.data for part in spoil(Fault(kind=kind, **fault), answer)]


def test_faults_of_answers_send_what_they_say():
    assert sent(Kind.SILENCE) == []
    assert sent(Kind.LATENCY, ms=50) == [RIGHT]
    assert sent(Kind.EXCEPTION, code=6) == [bytes((0, 7, 0, 0, 0, 3, 1, 0x83, 6))]
    assert sent(Kind.HALF) == [RIGHT[:6]]
    assert b"".join(sent(Kind.SPLIT, parts=4)) == RIGHT
    assert len(sent(Kind.SPLIT, parts=4)) == 4
    assert sent(Kind.STALE) == [BEFORE, RIGHT]
    assert sent(Kind.STALE, then_answer=False) == [BEFORE]
    assert sent(Kind.DUPLICATED) == [RIGHT, RIGHT]
    assert sent(Kind.BYTE_ORDER) == [RIGHT[:9] + bytes((2, 1, 4, 3))]


@pytest.mark.parametrize("kind", [Kind.WRONG_TRANSACTION, Kind.WRONG_UNIT, Kind.WRONG_FUNCTION])
def test_a_foreign_frame_is_no_answer_and_holds_no_value_of_the_device(kind: Kind):
    foreign, right = sent(kind)
    assert right == RIGHT
    assert (foreign[:2], foreign[6:8]) != (RIGHT[:2], RIGHT[6:8])
    assert foreign[9:] != RIGHT[9:]
    assert len(foreign) == 6 + int.from_bytes(foreign[4:6])


def test_a_short_frame_is_whole_but_for_a_register():
    (short,) = sent(Kind.SHORT)
    assert len(short) == len(RIGHT) - 2 == 6 + int.from_bytes(short[4:6])


@pytest.mark.parametrize("kind", [kind for kind in Kind if not kind.of_link])
def test_every_fault_of_an_answer_does_something_on_rtu_too(kind: Kind):
    answer = Answer(RtuFraming(), Request(0, 1, READ), PDU, b"", Random(1))
    assert isinstance(spoil(Fault(kind=kind), answer), list)


def test_checksum_of_the_specification():
    # Modbus over serial line V1.02, appendix B: 02 07 has 41 12.
    assert crc(bytes((0x02, 0x07))) == 0x1241


def test_requests_come_out_of_a_stream_however_it_is_cut():
    stream = bytes((0, 1, 0, 0, 0, 6, 1)) + READ + bytes((0, 2, 0, 0, 0, 6, 9)) + READ
    found: list[Request] = []
    buffer = bytearray()
    for byte in stream:
        buffer.append(byte)
        found += TcpFraming().requests(buffer)
    assert found == [Request(1, 1, READ), Request(2, 9, READ)]
    with pytest.raises(ValueError, match="protocol 5"):
        TcpFraming().requests(bytearray((0, 1, 0, 5, 0, 6, 1, 3)))


def test_rtu_skips_what_starts_no_request():
    frame = bytes((1,)) + READ
    buffer = bytearray(b"\xff\x03" + frame + crc(frame).to_bytes(2, "little") + b"\x01")
    assert RtuFraming().requests(buffer) == [Request(0, 1, READ)]


@pytest.fixture
def unit() -> Unit:
    """Give a device with registers 10 to 13 and coils 0 to 9."""
    registers = [Cell(f"r{at}", Table.HOLDING, at, 1, "uint16", "AB", writable=True) for at in range(10, 14)]
    coils = [Cell(f"c{at}", Table.COIL, at, 1, "bool", "", writable=True) for at in range(10)]
    return Unit("1/1", 1, [*registers, *coils])


def test_a_device_answers_as_the_specification_has_it(unit: Unit):
    assert unit.answer(bytes.fromhex("10000A00020412345678")) == bytes.fromhex("10000A0002")
    assert unit.answer(bytes.fromhex("03000A0002")) == bytes.fromhex("030412345678")
    assert unit.answer(bytes.fromhex("06000A00FF")) == bytes.fromhex("06000A00FF")
    assert unit.answer(bytes.fromhex("16000A00F00005")) == bytes.fromhex("16000A00F00005")
    assert unit.answer(bytes.fromhex("03000A0001")) == bytes.fromhex("030200F5")
    assert unit.answer(bytes.fromhex("17000A0002000B0001020007")) == bytes.fromhex("170400F50007")
    assert unit.answer(bytes.fromhex("050002FF00")) == bytes.fromhex("050002FF00")
    assert unit.answer(bytes.fromhex("0F0008000201 02".replace(" ", ""))) == bytes.fromhex("0F00080002")
    assert unit.answer(bytes.fromhex("010000000A")) == bytes.fromhex("01020402")


@pytest.mark.parametrize(
    ("request_hex", "code"),
    [
        ("0300090001", 2), ("03000D0002", 2), ("0300000000", 3), ("03000A007E", 3), ("0400000001", 2),
        ("0700", 1), ("0500020001", 3), ("10000A000204FFFF", 3), ("03", 3),
    ],
)  # fmt: skip
def test_a_device_refuses_as_the_specification_has_it(unit: Unit, request_hex: str, code: int):
    pdu = bytes.fromhex(request_hex)
    assert unit.answer(pdu) == bytes((pdu[0] | 0x80, code))


def test_a_write_that_takes_no_effect_or_half_of_it_is_acknowledged(unit: Unit):
    write = bytes.fromhex("10000A000306111122223333")
    for share, held in ((0.0, "000000000000"), (0.5, "111100000000"), (1.0, "111122223333")):
        assert unit.answer(write, written=share) == bytes.fromhex("10000A0003")
        assert unit.answer(bytes.fromhex("03000A0003")) == bytes.fromhex("0306" + held)


def test_a_write_is_reverted_when_the_time_has_come(unit: Unit):
    write = bytes.fromhex("06000A00FF")
    unit.keep(asked_of(write), 1000)
    unit.answer(write)
    assert not unit.revert(999)
    assert unit.answer(bytes.fromhex("03000A0001")) == bytes.fromhex("030200FF")
    assert unit.revert(1000)
    assert unit.answer(bytes.fromhex("03000A0001")) == bytes.fromhex("03020000")
