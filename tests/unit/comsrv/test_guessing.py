"""What unknown registers may mean: maps whose meaning is known are found again."""

from __future__ import annotations

import struct

import pytest
from sunspec2 import mb

from services.comsrv.plugins.modbus.guessing import guesses, layout
from services.comsrv.plugins.modbus.wiretypes import to_wire

# A meter: three voltages, a current, power, frequency, an energy counter that rises, and its name.
VOLTAGES = ((230.41, 229.87, 231.02), (230.38, 229.91, 231.05), (230.44, 229.85, 230.98))


def meter(order: str, read: int) -> list[int]:
    """Return the registers of a read, its numbers in an order, text plain."""
    numbers = [struct.pack(">f", value) for value in (*VOLTAGES[read], 12.3 + read / 10, -4821.5 + read, 49.98)]
    numbers.append(struct.pack(">I", 123_456_789 + 7 * read))
    data = b"".join(to_wire(order, number) for number in numbers) + b"PM5560 A"
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
@pytest.mark.parametrize("reads", [1, 3])
def test_a_meter_is_found_again_in_every_order(order: str, reads: int):
    found = layout(guesses(3000, [meter(order, read) for read in range(reads)]))
    shown = [(guess.address, guess.type, guess.order) for guess in found]
    floats = [(3000 + 2 * place, "float32", order) for place in range(6)]
    assert shown[:6] == floats
    assert shown[7:] == [(3014, "string", "AB")]
    assert found[0].values[0] == pytest.approx(230.41)
    if reads > 1:
        assert shown[6] in {(3012, "uint32", order), (3012, "int32", order)}
        assert found[6].why == "only rises"


def test_sixteen_bits_stay_sixteen_bits():
    """Of a SunSpec inverter: values and scale factors side by side, as pysunspec2 writes them."""
    data = b"".join(map(mb.s16_to_data, (412, 137, 138, 137, -2, 2305, 2311, 2298, -1)))
    registers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    found = layout(guesses(0, [registers]))
    assert [guess.width for guess in found] == [1] * 9
    assert [guess.values[0] for guess in found][4] == -2


def test_an_integer_of_64_bits_keeps_every_digit():
    number = 2**53 + 1
    registers = [int.from_bytes(number.to_bytes(8, "big")[at : at + 2], "big") for at in range(0, 8, 2)]
    (exact,) = [guess for guess in guesses(0, [registers])[0] if (guess.type, guess.order) == ("uint64", "ABCDEFGH")]
    assert exact.values == [number]


def test_a_register_alone_has_guesses_too():
    found = guesses(7, [[0]])
    assert {guess.type for guess in found[0]} == {"int16", "uint16", "float16", "bcd16"}


def test_the_filling_of_a_text_belongs_to_it():
    """A SunSpec string of 16 registers, between two numbers."""
    data = mb.s16_to_data(120) + mb.str_to_data("SN-0042", 32) + mb.s16_to_data(7)
    registers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    found = layout(guesses(0, [registers]))
    assert [(guess.type, guess.width) for guess in found][1] == ("string", 16)
    assert found[1].values == ["SN-0042"]


@pytest.mark.parametrize(("order", "read", "place"), [("ABCD", [0, 0, 18, 13_398], 2), ("CDAB", [13_398, 18, 0, 0], 0)])
def test_zeros_beside_a_counter_make_no_64_bits_of_it(order: str, read: list[int], place: int):
    found = {guess.address: guess for guess in layout(guesses(0, [read]))}
    assert (found[place].type, found[place].order, found[place].values) == ("uint32", order, [1_193_046])
