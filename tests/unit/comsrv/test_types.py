"""Every wire type both ways, in every order; and what a value becomes on its way."""

from __future__ import annotations

import asyncio
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidError
from libs.points import PointKind
from services.comsrv.contract import GOOD, NAN, OUT_OF_RANGE, QUALITY, SENTINEL
from services.comsrv.plugins.modbus import writing
from services.comsrv.plugins.modbus.codec import Decoder, encode, from_device
from services.comsrv.plugins.modbus.encoding import field_range, mask
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.scaling import far_scales
from services.comsrv.plugins.modbus.texts import encode_text
from services.comsrv.plugins.modbus.wiretypes import FIELD_TYPES, RANGES, STRING_ORDERS, TYPES, orders_of
from tests.unit.comsrv.points import wire

ADJUSTMENT = PointKind.ADJUSTMENT
TYPES_AND_ORDERS = st.sampled_from([(name, order) for name in TYPES for order in orders_of(name)])


def decode(points: list[Wire] | Wire, data: bytes) -> list[tuple[float, str]]:
    """Return values and qualities of the points in registers from 0 on."""
    wires = points if isinstance(points, list) else [points]
    values, quality = Decoder(wires, 0, len(data) // 2).decode(data)
    return [(float(value), QUALITY[code]) for value, code in zip(values, quality, strict=True)]


def values_of(name: str) -> st.SearchStrategy[float]:
    """Return what a type holds and the image can show."""
    if name == "bool":
        return st.sampled_from([0.0, 1.0])
    if name == "double_point":
        return st.sampled_from([0.0, 1.0, 2.0])
    if name in RANGES:
        low, high = RANGES[name]
        return st.integers(max(low, -(2**53) + 1), min(high, 2**53 - 1)).map(float)
    width = 8 * TYPES[name].size
    return st.floats(width=width, allow_nan=False, allow_infinity=False, min_value=-60000, max_value=60000)


@given(st.data())
def test_what_is_written_is_read_again(data: st.DataObject):
    """decode(encode(x)) = x for every type and order, in the block decoder and in the read-back."""
    name, order = data.draw(TYPES_AND_ORDERS)
    value = data.draw(values_of(name))
    write = wire(1, 0, name, 16, kind=ADJUSTMENT, byte_order=order)
    written = encode(write, value)
    assert decode(wire(1, 0, name, byte_order=order), written) == [(value, "")]
    assert from_device(write, written) == value


@given(st.data())
def test_a_field_is_written_and_read_without_its_neighbours(data: st.DataObject):
    """Whatever stands around it stays: decode((old & ~mask) | encode(x)) = x, the rest as before."""
    name = data.draw(st.sampled_from([*FIELD_TYPES, "int8", "uint8", "bool", "double_point"]))
    order = data.draw(st.sampled_from(orders_of(name)))
    place: dict[str, Any] = {}
    if name in FIELD_TYPES:
        size = 8 * TYPES[name].size
        count = data.draw(st.integers(1, min(size, 53)))
        place = {"bit_position": data.draw(st.integers(0, size - count)), "bit_count": count}
    elif name in {"bool", "double_point"}:
        place = {"bit_position": data.draw(st.integers(0, 15 if name == "bool" else 14))}
    write = wire(1, 0, name, 16, kind=ADJUSTMENT, byte_order=order, read_modify_write=True, **place)
    low, high = field_range(write)
    value = float(data.draw(st.integers(low, 2 if name == "double_point" else high)))
    old = data.draw(st.binary(min_size=2 * write.width, max_size=2 * write.width))
    bits, new = mask(write), encode(write, value)
    assert bits is not None
    merged = bytes(was & ~bit | one for was, bit, one in zip(old, bits, new, strict=True))
    assert decode(wire(1, 0, name, byte_order=order, **place), merged) == [(value, "")]
    assert from_device(write, merged) == value
    assert bytes(now & ~bit for now, bit in zip(merged, bits, strict=True)) == bytes(
        was & ~bit for was, bit in zip(old, bits, strict=True)
    )


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(TEXT.map(lambda text: text.rstrip(" ")), st.sampled_from(STRING_ORDERS))
def test_texts_come_back_as_they_went(text: str, order: str):
    point = wire(1, 0, "string", register_count=80, byte_order=order, encoding="utf-8", point={"data_type": "string"})
    decoder = Decoder([point], 0, 80)
    decoder.decode(encode_text(point, text))
    assert decoder.texts == (text,)


def test_texts_that_do_not_fit_are_refused():
    point = wire(1, 0, "string", register_count=2, point={"data_type": "string"})
    with pytest.raises(InvalidError, match="5 bytes of text do not fit into 4"):
        encode_text(point, "abcde")
    with pytest.raises(InvalidError, match="'ß' is not in ascii"):
        encode_text(point, "aß")


def test_bytes_that_are_no_text_are_bad_and_cost_the_block_nothing():
    """A number, a text, and one whose bytes are none of the declared encoding."""
    number = wire(1, 0)
    texts = [wire(n, n, "string", register_count=1, point={"data_type": "string"}) for n in (2, 3)]
    decoder = Decoder([number, *texts], 0, 4)
    values, quality = decoder.decode(b"\x00\x07\x00\x00OK\xff\xfe")
    assert (values.tolist(), decoder.texts) == ([7, 0, 0], ("OK", ""))
    assert [QUALITY[code] for code in quality] == ["", "", "bad:no_text"]


def test_a_digit_above_nine_is_no_bcd():
    assert decode([wire(1, 0, "bcd16"), wire(2, 1, "bcd16")], b"\x12\x3a\x99\x99") == [(0, "bad:no_bcd"), (9999, "")]


@pytest.mark.parametrize(
    ("bits", "expected"), [(0b00, (0, "")), (0b01, (1, "")), (0b10, (2, "")), (0b11, (3, "uncertain:invalid_state"))]
)
def test_a_double_point_stands_in_two_bits_of_a_register_or_two_coils(bits: int, expected: tuple[float, str]):
    """Both bits set is a state that nobody may trust, and it is shown."""
    kind = PointKind.SIGNAL
    register = wire(1, 0, "double_point", kind=kind, bit_position=7, point={"data_type": "double_point"})
    assert decode(register, (bits << 7).to_bytes(2, "big")) == [expected]
    coils = [wire(1, 7, "double_point", 1, kind=kind, point={"data_type": "double_point"})]
    values, quality = Decoder(coils, 0, 16).decode((bits << 7).to_bytes(2, "little"))
    assert (values[0], QUALITY[quality[0]]) == expected


@pytest.mark.parametrize(
    ("name", "sentinel", "data", "expected"),
    [
        ("int16", "-32768; -1 | 0x7FFF", b"\xff\xff", SENTINEL),
        ("int16", "-32768; -1 | 0x7FFF", b"\x7f\xff", SENTINEL),
        ("int16", "-32768; -1 | 0x7FFF", b"\x7f\xfe", GOOD),
        ("float32", "0x7FC00000", b"\x7f\xc0\x00\x00", SENTINEL),
        ("float32", "0x7FC00000", b"\x7f\xc0\x00\x01", NAN),
        ("float32", "nan", b"\x7f\xc0\x00\x01", SENTINEL),
        ("float32", "-9999.9", struct.pack(">f", -9999.9), SENTINEL),
        ("float64", "0", struct.pack(">d", -0.0), SENTINEL),
        ("uint64", "0xFFFFFFFFFFFFFFFF", b"\xff" * 8, SENTINEL),
        ("uint64", "1", b"\xff" * 8, OUT_OF_RANGE),
        ("bcd16", "9999", b"\x99\x99", SENTINEL),
        ("bcd16", "0xFFFF", b"\xff\xff", SENTINEL),
    ],
)
def test_sentinels_are_numbers_or_bits(name: str, sentinel: str, data: bytes, expected: int):
    point = wire(1, 0, name, sentinel=sentinel)
    assert decode(point, data)[0][1] == QUALITY[expected]


def scaled(data_type: str = "int16", **options: Any) -> Wire:
    return wire(1, 0, data_type, scale_register=1 if data_type == "int16" else 2, **options)


@pytest.mark.parametrize(
    ("raw", "exponent", "expected"),
    [(2305, -1, (230.5, "")), (-12, 3, (-12000.0, "")), (5, 11, (0, "bad:no_scale")), (5, -32768, (0, "bad:no_scale"))],
)
def test_a_power_of_ten_in_another_register_scales(raw: int, exponent: int, expected: tuple[float, str]):
    assert decode(scaled(), struct.pack(">hh", raw, exponent)) == [(pytest.approx(expected[0]), expected[1])]


def test_scales_too_far_away_stand_behind_the_bytes_of_the_answer():
    """Three values of one block: a scale among them, one 300 registers on and one right behind that."""
    points = [wire(1, 0, "int16", scale_register=1), *(wire(n, n, "int16", scale_register=300 + n) for n in (2, 3))]
    assert [(one.start, one.end) for one in points] == [(0, 2), (2, 3), (3, 4)]
    far = far_scales(points)
    assert far == ((302, 2),)
    values, _ = Decoder(points, 0, 4, far).decode(struct.pack(">hhhhhh", 5, 1, 25, 2305, 2, -1))
    assert values == pytest.approx([50, 2500, 230.5])


def test_a_factor_in_another_register_scales_beside_the_points_own():
    """Two values share a float factor in the device's own order; a factor of 0 is none."""
    common = {"byte_order": "CDAB", "scale_mode": "factor", "scale_data_type": "float32", "scale_register": 4}
    points = [wire(n, 2 * n - 2, "int32", point={"scale": 0.1, "offset": 1}, **common) for n in (1, 2)]
    factor = struct.pack(">f", 40.0)
    data = struct.pack(">HHHH", 100, 0, 7, 0) + factor[2:] + factor[:2]
    assert decode(points, data) == [(pytest.approx(401.0), ""), (pytest.approx(29.0), "")]
    assert decode(points[0], data[:8] + b"\0\0\0\0") == [(0, "bad:no_scale")]


@pytest.mark.parametrize(
    ("limits", "raw", "expected"),
    [
        ("show", 120, (120, "")),
        ("clamp", 120, (100, "")),
        ("clamp", -5, (0, "")),
        ("bad", 120, (0, "bad:out_of_range")),
        ("bad", 50, (50, "")),
    ],
)
def test_limits_show_clamp_or_refuse_what_is_read(limits: str, raw: int, expected: tuple[float, str]):
    point = wire(1, 0, "int16", point={"min": 0, "max": 100, "limits": limits})
    assert decode(point, struct.pack(">h", raw)) == [expected]


def test_a_value_map_is_checked_on_a_write():
    modes = {"value_map": "0=Off; 1=Auto | 5=Grid forming"}
    point = wire(1, 0, "uint16", 6, kind=ADJUSTMENT, point=modes)
    assert encode(point, 5) == b"\x00\x05"
    with pytest.raises(InvalidError, match="2 is none of 0 Off, 1 Auto, 5 Grid forming"):
        encode(point, 2)


class Device:
    """Registers as `writing` sees a connection; what it did is kept."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = dict(registers)
        self.coils: dict[int, bool] = {}
        self.codes: list[int] = []

    async def read(self, unit: int, code: int, address: int, count: int) -> bytes:
        self.codes.append(code)
        assert unit == 1
        if code == 1:
            return bytes((sum(self.coils.get(address + place, False) << place for place in range(count)),))
        return b"".join(self.registers.get(address + place, 0).to_bytes(2, "big") for place in range(count))

    async def write_bits(self, unit: int, code: int, address: int, bits: list[bool]) -> None:
        self.codes.append(code)
        assert unit == 1
        self.coils |= {address + place: bit for place, bit in enumerate(bits)}

    async def write_registers(self, unit: int, code: int, address: int, data: bytes) -> None:
        self.codes.append(code)
        assert unit == 1
        for place in range(len(data) // 2):
            self.registers[address + place] = int.from_bytes(data[2 * place : 2 * place + 2], "big")

    async def mask_write(self, unit: int, address: int, and_mask: int, or_mask: int) -> None:
        self.codes.append(22)
        assert unit == 1
        held = self.registers.get(address, 0)
        self.registers[address] = (held & and_mask) | (or_mask & ~and_mask & 0xFFFF)

    async def write_and_read(self, unit: int, address: int, data: bytes, read_address: int) -> bytes:
        await self.write_registers(unit, 23, address, data)
        return b"".join(self.registers[read_address + place].to_bytes(2, "big") for place in range(len(data) // 2))


def written(device: Device, point: Wire, value: float) -> bool:
    """Write a value and say whether it is read back."""

    async def go() -> bool:
        planned = writing.prepare(point, value)
        await writing.write(device, planned)
        return (await writing.read_back(device, planned)).matches

    return asyncio.run(go())


def test_one_bit_is_written_by_mask_or_by_read_modify_write_where_declared():
    """The other bits stay, also those that the mask of the specification's example keeps."""
    by_mask = wire(1, 5, "bool", 22, kind=ADJUSTMENT, bit_position=3, point={"data_type": "bool"})
    device = Device({5: 0xA5A5})
    assert written(device, by_mask, 1)
    assert (device.registers[5], device.codes) == (0xA5AD, [22, 3])
    field = wire(1, 5, "uint32", 16, kind=ADJUSTMENT, bit_position=12, bit_count=8, read_modify_write=True)
    device = Device({5: 0xFFFF, 6: 0xFFFF})
    assert written(device, field, 0)
    assert (device.registers[5], device.registers[6], device.codes) == (0xFFF0, 0x0FFF, [3, 16, 3])


def test_function_code_23_needs_no_read_back_but_where_the_answer_does_not_show_it():
    shown_at_once = wire(1, 5, "float32", 23, kind=ADJUSTMENT)
    device = Device({})
    assert written(device, shown_at_once, 2.5)
    assert device.codes == [23]
    later = Device({9: 0, 10: 0})
    assert not written(later, wire(1, 5, "float32", 23, kind=ADJUSTMENT, verify_address=9), 2.5)
    delayed = wire(1, 5, "float32", 23, kind=ADJUSTMENT, point={"command": {"verify_delay_ms": 5}})
    device = Device({})
    assert written(device, delayed, 2.5)
    assert device.codes == [23, 3]


def test_a_double_point_is_written_to_two_coils():
    point = wire(1, 5, "double_point", 15, kind=PointKind.CONTROL, point={"data_type": "double_point"})
    device = Device({})
    assert written(device, point, 2)
    assert device.coils == {5: False, 6: True}


def test_a_write_asks_the_device_for_its_scale():
    """231.5 V at a scale factor of -1 is 2315; without a scale nothing is sent."""
    point = wire(1, 0, "int16", 16, kind=ADJUSTMENT, scale_register=9)
    device = Device({9: 0xFFFF})
    assert written(device, point, 231.5)
    assert device.registers[0] == 2315
    device = Device({9: 0x8000})
    with pytest.raises(InvalidError, match="register 9 holds none"):
        written(device, point, 231.5)
    assert device.codes == [3]
    device = Device({9: 1})
    with pytest.raises(InvalidError, match="outside int16"):
        written(device, wire(1, 0, "int16", 16, kind=ADJUSTMENT, scale_register=9), 1e6)


def test_a_read_back_that_is_none_is_no_number():
    assert math.isnan(from_device(wire(1, 0, "bcd16", 6, kind=ADJUSTMENT), b"\xff\xff"))
