"""Points of devices made from tables: packed as others pack them, taken apart again, neighbors left alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.comsrv.plugins.modbus.wiretypes import STRING, WIDTHS, WIRE_TYPES, full_order, orders_of
from services.simulator.registers import Table
from services.simulator.twins.cells import TEXT, TYPES, Cell, exact
from services.simulator.twins.generators import Values, generator, pattern

ROWS: list[dict[str, Any]] = json.loads(Path("tests/vectors/modbus_types.json").read_text("utf-8"))["rows"]


def cell(kind: str, order: str = "", width: int | None = None, **more: Any) -> Cell:
    """Return a point that stands at address 0."""
    size = width or WIDTHS[kind]
    return Cell("1:T:1", Table.HOLDING, 0, size, kind, full_order(kind, order), **more)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['type']}-{row['order']}-{row['registers']}")
def test_values_are_packed_as_others_pack_them(row: dict[str, Any]):
    registers = bytes.fromhex(row["registers"])
    field = {"bit": row["bit_position"], "bits": row["bit_count"]} if "bit_count" in row else {}
    one = cell(row["type"], row["order"], len(registers) // 2, encoding=row.get("encoding", "ascii"), **field)
    value = row["value"]
    taken = one.take(registers, 0)
    assert taken == (value if one.whole or one.type == TEXT else pytest.approx(value, rel=1e-7))
    if row.get("only") != "decode" and one.type != TEXT:  # Others fill texts with blanks.
        memory = bytearray(len(registers))
        one.put(memory, 0, int(value) if one.whole else value)
        assert memory == registers


def test_it_knows_every_type_the_mapping_knows():
    assert set(TYPES) == set(WIRE_TYPES)


ORDERS = [(kind, order) for kind in WIRE_TYPES if kind != STRING for order in orders_of(kind)]


@given(st.sampled_from(ORDERS), st.integers(0, 2**31), st.binary(min_size=8, max_size=8))
def test_what_a_pattern_puts_is_taken_again_and_nothing_beside_it_moves(
    declared: tuple[str, str], step: int, before: bytes
):
    kind, order = declared
    bits = {"bool": 1, "double_point": 2}.get(kind, 0)
    one = cell(kind, order, bit=3 if bits else None, bits=bits)
    memory = bytearray(before)
    raw = pattern(one)(step)
    one.put(memory, 0, raw)
    assert one.take(memory, 0) == raw
    assert memory[one.size :] == before[one.size :]
    if bits:
        mask = ~(((1 << bits) - 1) << 3) & 0xFFFF
        big = "big" if one.order == "AB" else "little"
        assert int.from_bytes(memory[:2], big) & mask == int.from_bytes(before[:2], big) & mask


def test_two_bytes_share_a_register():
    memory = bytearray(2)
    cell("uint8", "A0").put(memory, 0, 0x12)
    cell("int8", "0A").put(memory, 0, -1)
    assert memory.hex() == "12ff"


@pytest.mark.parametrize("kind", [kind for kind in WIRE_TYPES if kind not in {"bool", "double_point", STRING}])
def test_a_pattern_changes_at_each_step_and_differs_by_address(kind: str):
    here, there = cell(kind), cell(kind)._replace(name="1:T:2")
    values = [pattern(here)(step) for step in range(4)]
    assert len(set(values)) == 4
    assert max(values) < exact(here)
    if exact(here) > 1 << 10:
        assert pattern(there)(0) not in values


@pytest.mark.parametrize("kind", ["constant", "ramp", "sine", "walk", "counter"])
def test_generators_stay_in_the_limits_and_repeat_with_their_seed(kind: Any):
    one = cell("int16", scale=0.1, low=-5.0, high=5.0)
    values = Values(generator=kind, value=2.5, period_s=3.0, step=0.5)

    def run() -> list[float]:
        made = generator(values, one, "", seed=3, step_ms=500)
        return [one.value(made(step)) for step in range(20)]

    assert run() == run()
    assert all(-5 <= value <= 5 or math.isclose(value, 5) for value in run()) or kind == "counter"
