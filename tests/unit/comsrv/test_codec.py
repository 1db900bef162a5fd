"""Bytes to arrays and back, against struct as the oracle."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidError
from libs.points import PointKind
from services.comsrv.contract import GOOD, NAN, OUT_OF_RANGE, SENTINEL
from services.comsrv.plugins.modbus.codec import Decoder, encode, from_device
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.wiretypes import ORDERS, TYPES
from tests.unit.comsrv.points import wire

FORMATS = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f",
    "int64": ">q", "uint64": ">Q", "float64": ">d",
}  # fmt: skip
TYPES_AND_ORDERS = [(name, order) for name in FORMATS for order in ORDERS[TYPES[name].size]]


def decode_one(point: Wire, data: bytes) -> tuple[float, int]:
    values, quality = Decoder([point], point.address, len(data) // 2).decode(data)
    return float(values[0]), int(quality[0])


def permuted(value: float, name: str, order: str) -> bytes:
    """Put the bytes of a value on the wire as the letters of the order say."""
    packed = struct.pack(FORMATS[name], value)
    return bytes(packed["ABCDEFGH".index(letter)] for letter in order)


@pytest.mark.parametrize(("name", "order"), TYPES_AND_ORDERS)
def test_every_type_in_every_byte_order(name: str, order: str):
    value = -1.5 if name.startswith("float") else (12345 if name.startswith("u") else -12345)
    data = permuted(value, name, order)
    point = wire(1, 40, name, byte_order=order)
    assert decode_one(point, data) == (value, GOOD)
    write = wire(1, 40, name, 16, kind=PointKind.ADJUSTMENT, byte_order=order)
    assert encode(write, value) == data
    assert from_device(write, data) == value


def test_a_whole_block_of_mixed_types():
    """One block with a float, a scaled integer, two bits of a register and a hole decodes in one go."""
    points = [
        wire(1, 10, "float32", byte_order="CDAB"),
        wire(2, 13, "int16", point={"scale": 0.1, "offset": -40}),
        wire(1, 14, "bool", kind=PointKind.SIGNAL, bit_position=9),
        wire(2, 14, "bool", kind=PointKind.SIGNAL, bit_position=0, point={"reverse": True}),
    ]
    data = permuted(2.5, "float32", "CDAB") + b"\xff\xff" + struct.pack(">h", 655) + b"\x02\x00"
    values, quality = Decoder(points, 10, 5).decode(data)
    assert values.tolist() == [2.5, 25.5, 1.0, 1.0]
    assert not quality.any()


def test_register_bits_are_counted_from_the_least_significant_of_the_whole_register():
    """0x0100 has bit 8 set, 0x0301 bits 0, 8 and 9; with BA the bytes change places."""
    points = [wire(bit + 1, 0, "bool", kind=PointKind.SIGNAL, bit_position=bit) for bit in range(16)]
    values, _ = Decoder(points, 0, 1).decode(b"\x03\x01")
    assert [bit for bit in range(16) if values[bit]] == [0, 8, 9]
    swapped = [wire(bit + 1, 0, "bool", kind=PointKind.SIGNAL, bit_position=bit, byte_order="BA") for bit in range(16)]
    values, _ = Decoder(swapped, 0, 1).decode(b"\x03\x01")
    assert [bit for bit in range(16) if values[bit]] == [0, 1, 8]


def test_coils_keep_their_place_beyond_the_first_bytes():
    points = [wire(address, address, "bool", 1, kind=PointKind.SIGNAL) for address in (3, 10, 103)]
    data = bytearray(13)
    data[(103 - 3) // 8] |= 1 << (103 - 3) % 8
    assert Decoder(points, 3, 101).decode(bytes(data))[0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("float32", math.nan, NAN),
        ("float64", math.inf, NAN),
        ("int64", 2**53, GOOD),
        ("int64", 2**53 + 1, OUT_OF_RANGE),
        ("int64", -(2**63), OUT_OF_RANGE),
        ("uint64", 2**64 - 1, OUT_OF_RANGE),
        ("float64", 1e300, OUT_OF_RANGE),
    ],
)
def test_what_is_no_number_or_too_large_is_bad(name: str, raw: float, expected: int):
    value, quality = decode_one(wire(1, 0, name), struct.pack(FORMATS[name], raw))
    assert quality == expected
    assert value == (raw if expected == GOOD else 0.0)


def test_a_large_integer_that_scales_into_range_is_good():
    value, quality = decode_one(wire(1, 0, "int64", point={"scale": 0.001}), struct.pack(">q", 2**60))
    assert (value, quality) == (pytest.approx(2**60 / 1000), GOOD)


def test_a_sentinel_is_compared_before_scaling():
    point = wire(1, 0, "int16", sentinel=-32768, point={"scale": 0.1})
    assert decode_one(point, b"\x80\x00") == (0.0, SENTINEL)
    assert decode_one(point, b"\x80\x01") == (pytest.approx(-3276.7), GOOD)


@pytest.mark.parametrize(
    ("scale", "value", "registers"),
    [(0.01, 0.29, 29), (0.01, 1.005, 101), (1, -2.5, -3), (0.1, -5.0, -50), (1, 2.4999, 2)],
)
def test_writes_are_rounded_to_nearest(scale: float, value: float, registers: int):
    point = wire(1, 0, "int16", 6, kind=PointKind.ADJUSTMENT, point={"scale": scale})
    assert encode(point, value) == struct.pack(">h", registers)


@pytest.mark.parametrize(
    ("name", "point", "value", "message"),
    [
        ("uint16", {}, 70000, "outside uint16"),
        ("uint16", {}, -1, "outside uint16"),
        ("int16", {"scale": 0.1}, 3276.8, "outside int16"),
        ("float32", {}, 1e39, "beyond what float32 holds"),
        ("float64", {}, math.nan, "not finite"),
        ("int16", {"min": -100, "max": 100}, 100.5, "above the maximum 100"),
        ("int16", {"min": -100, "max": 100}, -101, "below the minimum -100"),
    ],
)
def test_writes_are_refused_rather_than_wrapped(name: str, point: dict[str, float], value: float, message: str):
    with pytest.raises(InvalidError, match=message):
        encode(wire(1, 0, name, 16, kind=PointKind.ADJUSTMENT, point=point), value)


@given(st.integers(-(2**31), 2**31 - 1))
def test_integers_come_back_as_they_went(value: int):
    point = wire(1, 0, "int32", 16, kind=PointKind.ADJUSTMENT, byte_order="BADC")
    assert decode_one(wire(1, 0, "int32", byte_order="BADC"), encode(point, value)) == (value, GOOD)
