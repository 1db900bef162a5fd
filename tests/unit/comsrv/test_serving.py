"""Points as registers: every type and order, what does not fit, and a table with mistakes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ConfigurationError
from services.comsrv.serving.image import BAD, GOOD, Image, Readings, RefusedRequest, decode
from services.comsrv.serving.settings import Mirrors
from services.comsrv.serving.table import ORDERS, TYPES, Served, load_table, suggest

PLAIN = Mirrors(None, None)
FORMATS = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f", "int64": ">q", "uint64": ">Q",
    "float64": ">d",
}  # fmt: skip


def row(**fields: object) -> Served:
    return Served.model_validate({"table": "holding", "address": 0, "reference": "comsrv:1:T:1", **fields})


def shown(served: Served, value: float) -> bytes:
    image = Image([served], PLAIN)
    image.update(Readings(np.array([value]), np.array([GOOD]), np.array([0.0])), 1.0)
    return image.read(served.unit, served.table, served.address, served.width, hold=True)


def shuffled(data: bytes, order: str) -> bytes:
    """Put big-endian bytes into an order, word by word: the definition, not the code."""
    words = [data[index : index + 2] for index in range(0, len(data), 2)]
    if order in {"CDAB", "DCBA"}:
        words.reverse()
    return b"".join(word[::-1] if order in {"BADC", "DCBA"} else word for word in words)


@given(st.sampled_from(sorted(TYPES)), st.sampled_from(ORDERS), st.integers(0, 30_000))
def test_every_type_and_order_is_what_struct_packs_and_reads_back(data_type: str, order: str, value: int):
    served = row(data_type=data_type, byte_order=order)
    data = shown(served, value)
    assert data == shuffled(struct.pack(FORMATS[data_type], value), order)
    assert decode(served, data) == value


def test_scale_and_offset_mean_what_they_mean_in_a_point_table():
    served = row(data_type="int16", scale=0.1, offset=-40)
    assert shown(served, 21.56) == (616).to_bytes(2, "big")
    assert decode(served, (616).to_bytes(2, "big")) == pytest.approx(21.6)


@pytest.mark.parametrize(
    ("data_type", "value", "pattern"),
    [
        ("int16", 32768.0, b"\x80\x00"),
        ("uint16", -1.0, b"\xff\xff"),
        ("int64", 2.0**63, b"\x80" + bytes(7)),
        ("float32", 1e39, b"\x7f\xc0\x00\x00"),
        ("float64", np.nan, struct.pack(">d", np.nan)),
    ],
)
def test_what_a_register_cannot_hold_is_never_wrapped_and_never_fresh(data_type: str, value: float, pattern: bytes):
    served = row(data_type=data_type)
    assert shown(served, value) == pattern
    image = Image([served], PLAIN)
    image.update(Readings(np.array([value]), np.array([GOOD]), np.array([0.0])), 1.0)
    with pytest.raises(RefusedRequest, match="11"):
        image.read(1, "holding", 0, served.width, hold=False)


@pytest.mark.parametrize(("quality", "age_s"), [(BAD, 0.0), (GOOD, 1.1)])
def test_bad_and_old_values_are_not_fresh(quality: int, age_s: float):
    image = Image([row()], PLAIN)
    image.update(Readings(np.array([1.0]), np.array([quality]), np.array([age_s])), 1.0)
    with pytest.raises(RefusedRequest, match="11"):
        image.read(1, "holding", 0, 2, hold=False)
    assert image.read(1, "holding", 0, 2, hold=True) == struct.pack(">f", 1.0)


def test_a_table_with_mistakes_names_each_with_its_line(tmp_path: Path):
    path = tmp_path / "modbus_server.csv"
    path.write_text(
        "table,address,reference,data_type,writable\n"
        "input,0,comsrv:1:T:1,flota32,\n"
        "input,65535,comsrv:1:T:1,,\n"
        "coil,0,comsrv:1:S:1,,true\n"
        "input,10,comsrv:1:T:1,,\n"
        "input,11,comsrv:1:T:2,,\n"
        "input,20010,comsrv:1:T:2,int16,\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_table(path, Mirrors(20_000, 40_000))
    problems = [str(problem) for problem in caught.value.problems]
    assert problems == [
        f"{path}:2: data_type: unknown type 'flota32'; did you mean float32?",
        f"{path}:3: address: float32 at 65535 ends beyond 65535",
        f"{path}:4: writable: comsrv:1:S:1 is no point that can be commanded",
        f"{path}:6: input 11 would stand at 11, where the row of {path}:5 is",
        f"{path}:7: input 20010 would stand at 20010, where the quality of the row of {path}:5 is",
    ]


def test_a_suggested_table_is_a_good_one(tmp_path: Path):
    rows = suggest([
        ("comsrv:1:T:1", "number", False, "P"),
        ("comsrv:1:T:2", "number", False, "Q, reactive"),
        ("comsrv:1:S:1", "bool", False, ""),
        ("comsrv:1:A:1", "number", True, ""),
        ("comsrv:1:C:1", "bool", True, ""),
    ])  # fmt: skip
    assert [(row["table"], row["address"]) for row in rows] == [
        ("input", 0), ("input", 2), ("discrete", 0), ("holding", 0), ("coil", 0),
    ]  # fmt: skip
    assert all(Served.model_validate(row | {"writable": "false"}) for row in rows)
