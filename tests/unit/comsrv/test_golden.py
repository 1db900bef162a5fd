"""Every type against registers that other code made (tests/vectors/modbus_types.json), both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sunspec2 import mb

from libs.points import PointKind
from services.comsrv.contract import GOOD, SENTINEL
from services.comsrv.plugins.modbus.codec import Decoder, encode, from_device
from services.comsrv.plugins.modbus.texts import decode_text, encode_text
from services.comsrv.plugins.modbus.wiretypes import ORDERS, STRING_ORDERS, TYPES
from tests.unit.comsrv.points import wire

ROWS: list[dict[str, Any]] = json.loads(Path("tests/vectors/modbus_types.json").read_text("utf-8"))["rows"]
NUMBERS = [row for row in ROWS if row["type"] != "string"]
TEXTS = [row for row in ROWS if row["type"] == "string"]


def name_of(row: dict[str, Any]) -> str:
    return f"{row['type']}-{row['order'] or 'default'}-{row['value']}"


def options(row: dict[str, Any]) -> dict[str, Any]:
    known = {name: row[name] for name in ("bit_position", "bit_count", "encoding") if name in row}
    return known | {"byte_order": row["order"]}


@pytest.mark.parametrize("row", NUMBERS, ids=name_of)
def test_a_number_reads_and_writes_as_others_do(row: dict[str, Any]):
    data = bytes.fromhex(row["registers"])
    values, quality = Decoder([wire(1, 7, row["type"], **options(row))], 7, len(data) // 2).decode(data)
    assert (values[0], quality[0]) == (pytest.approx(row["value"], rel=1e-7), GOOD)
    if row.get("only") != "decode":
        write = wire(1, 7, row["type"], 16, kind=PointKind.ADJUSTMENT, **options(row))
        assert encode(write, row["value"]) == data
        assert from_device(write, data) == pytest.approx(row["value"], rel=1e-7)


@pytest.mark.parametrize("row", TEXTS, ids=name_of)
def test_a_text_reads_and_writes_as_others_do(row: dict[str, Any]):
    data = bytes.fromhex(row["registers"])
    point = wire(1, 7, "string", register_count=len(data) // 2, point={"data_type": "string"}, **options(row))
    decoder = Decoder([point], 7, len(data) // 2)
    _, quality = decoder.decode(data)
    assert (decoder.texts, quality[0]) == ((row["value"],), GOOD)
    if row.get("only") != "decode":
        assert encode_text(point, row["value"]) == data
    assert decode_text(point, data) == row["value"]


def test_the_vectors_have_every_type_in_every_order():
    """A type or an order that is added needs a vector."""
    found = {(row["type"], row["order"]) for row in ROWS}
    missing = {
        (name, order)
        for name, kind in TYPES.items()
        if name not in {"bool", "double_point"}
        for order in ORDERS[kind.size]
        if (name, order) not in found and not (order == ORDERS[kind.size][0] and (name, "") in found)
    }
    # Orders are undone in one place for all types of a size: a vector of one of them shows it.
    shown = {(TYPES[name].size, order) for name, order in found if name != "string"}
    assert {(TYPES[name].size, order) for name, order in missing} <= shown
    assert {name for name, _ in found} == {*TYPES, "string"} - {"bool", "double_point"}
    assert {order for name, order in found if name == "string"} == set(STRING_ORDERS)


@pytest.mark.parametrize(
    ("name", "sunspec"),
    [
        ("int16", mb.SUNS_UNIMPL_INT16), ("uint16", mb.SUNS_UNIMPL_UINT16), ("int32", mb.SUNS_UNIMPL_INT32),
        ("uint32", mb.SUNS_UNIMPL_UINT32), ("int64", mb.SUNS_UNIMPL_INT64), ("uint64", mb.SUNS_UNIMPL_UINT64),
        ("float32", mb.SUNS_UNIMPL_FLOAT32), ("float64", mb.SUNS_UNIMPL_FLOAT64),
    ],
)  # fmt: skip
def test_what_sunspec_calls_unimplemented_is_a_sentinel(name: str, sunspec: int):
    size = TYPES[name].size
    data = (sunspec & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    point = wire(1, 0, name, sentinel="sunspec")
    assert Decoder([point], 0, size // 2).decode(data)[1].tolist() == [SENTINEL]
