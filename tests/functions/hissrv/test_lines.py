"""Line protocol: floats are floats, instants are integers of milliseconds, names are escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.errors import InvalidError, LimitError, NotFoundError
from libs.redis.functions import Functions

# The same file holds the vectors of hissrv's own encoder (libs/influx/lines.py).
VECTORS: list[dict[str, Any]] = orjson.loads((Path(__file__).parents[2] / "vectors/line_protocol.json").read_bytes())


async def convert(functions: Functions, *points: object, mapping: str | None = None) -> list[str]:
    """Return the lines of some points."""
    reply = await functions.read("convert_to_line_protocol", mapping, {"points": list(points)})
    return reply.decode().splitlines()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
async def test_vectors(functions: Functions, vector: dict[str, Any]) -> None:
    """Each vector's lines, byte for byte."""
    if vector["mapping"]:
        await functions.call("configure_mapping", "m1", vector["mapping"])
    assert await convert(functions, *vector["points"], mapping="m1" if vector["mapping"] else None) == vector["lines"]
    assert await convert(functions) == []


async def test_mapping(functions: Functions) -> None:
    """A mapping's measurement, tags, field names and transform; what line protocol can't hold is replaced."""
    await functions.call(
        "configure_mapping",
        "m1",
        {
            "source": "*", "measurement": "site data, north", "fields": {"1": "grid power", "comsrv:7:S:2": "on=off"},
            "tags": {"sta tion": "a=b,c d\\", "where": "{service}/{owner}", "line": "x\ny", "type": ""},
            "transform": {"scale": 0.001, "offset": 1},
        },
    )  # fmt: skip
    first = {"source": "comsrv:1001:T:1", "at_ms": 5, "value": "2500.000000"}
    head = (
        "site\\ data\\,\\ north,channel={},line=x\\ y,point={},service=comsrv,sta\\ tion=a\\=b\\,c\\ d,where=comsrv/{} "
    )
    assert await convert(functions, first, {"source": "comsrv:7:S:2", "at_ms": 6, "value": 1}, mapping="m1") == [
        head.format(1001, 1, 1001) + "grid\\ power=3.500000,quality=192i 5",
        head.format(7, 2, 7) + "on\\=off=1.001000,quality=192i 6",
    ]


async def test_refusals(functions: Functions) -> None:
    """A wrong point is named by its place."""
    for point, place in (
        ({"source": "x", "at_ms": 1}, r"points\[0\].source"),
        ({"source": "comsrv:1:T:1"}, r"points\[0\].at_ms"),
        ({"source": "comsrv:1:T:1", "at_ms": 1, "value": "nan"}, r"points\[0\].value"),
        ({"source": "comsrv:1:T:1", "at_ms": 1.5}, r"points\[0\].at_ms"),
        ("text", r"points\[0\]"),
    ):
        with pytest.raises(InvalidError, match=place):
            await convert(functions, point)
    with pytest.raises(NotFoundError):
        await convert(functions, mapping="nobody")
    with pytest.raises(LimitError):
        await convert(functions, *[{"source": "comsrv:1:T:1", "at_ms": 1}] * 1001)
