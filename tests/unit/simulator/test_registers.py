"""Values on the wire, against bytes written by hand."""

from __future__ import annotations

import struct
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.errors import InvalidError, NotFoundError
from services.simulator.registers import CODES, ByteOrder, Register, RegisterMap, Table
from tests.unit.simulator.sites import lone_battery


def register(**fields: object) -> Register:
    return Register.model_validate({"table": "holding", "address": 0, "type": "int16", **fields})


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCD", [0x0102, 0x0304]),
        ("CDAB", [0x0304, 0x0102]),
        ("BADC", [0x0201, 0x0403]),
        ("DCBA", [0x0403, 0x0201]),
    ],
)
def test_byte_orders_of_a_32_bit_value(order: str, words: list[int]) -> None:
    assert register(type="uint32", byte_order=order).encode(0x01020304) == words


def test_64_bits_low_word_first() -> None:
    words = register(type="uint64", byte_order="CDAB").encode(0x0001_0002_0003_0004)
    assert words == [4, 3, 2, 1]


@given(st.sampled_from(sorted(CODES)), st.sampled_from(get_args(ByteOrder)), st.integers(0, 32_761))
def test_decode_undoes_encode(wire: str, order: str, value: int) -> None:
    item = register(type=wire, byte_order=order, scale=0.5, offset=-3)
    assert item.decode(item.encode(value / 2)) == value / 2


def test_value_beyond_the_type_saturates() -> None:
    assert register().encode(1e9) == [0x7FFF]
    assert register(type="uint16").encode(-5) == [0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "bool"}, "does not go into the holding table"),
        ({"table": "coil"}, "does not go into the coil table"),
        ({"table": "input", "writable": True}, "can't be written"),
        ({"scale": 0}, "scale must not be 0"),
        ({"type": "float64", "address": 65533}, "ends beyond address 65535"),
    ],
)
def test_impossible_register_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        register(**fields)


def battery_map() -> RegisterMap:
    battery, _ = lone_battery()
    registers = {
        "set_point": register(address=0, type="float32", writable=True),
        "watchdog_time": register(address=2, type="uint16", writable=True),
        "state_of_charge": register(address=3, type="uint16", scale=0.1),
    }
    return RegisterMap(battery, registers)


def words_of(value: float) -> list[int]:
    return list(struct.unpack(">2H", struct.pack(">f", value)))


def test_write_shows_at_once_in_the_register_written() -> None:
    units = battery_map()
    units.write(Table.HOLDING, 0, [*words_of(12.5), 30])
    assert units.read(Table.HOLDING, 0, 4) == [*words_of(12.5), 30, 500]


@pytest.mark.parametrize(
    ("address", "words", "error"),
    [
        (0, [*words_of(12.5), 4000], InvalidError),  # the second value is out of range
        (0, [*words_of(float("nan")), 30], InvalidError),
        (0, words_of(12.5)[:1], NotFoundError),  # half a value
        (2, [30, 500], NotFoundError),  # read-only
        (4, [1], NotFoundError),  # unknown
    ],
)
def test_refused_write_changes_nothing(address: int, words: list[int], error: type[Exception]) -> None:
    units = battery_map()
    before = units.read(Table.HOLDING, 0, 4)
    with pytest.raises(error):
        units.write(Table.HOLDING, address, words)
    assert units.read(Table.HOLDING, 0, 4) == before


def test_read_past_the_map_is_refused() -> None:
    with pytest.raises(NotFoundError, match="no holding at 4"):
        battery_map().read(Table.HOLDING, 3, 2)
