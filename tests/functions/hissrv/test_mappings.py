"""Mappings: stored as they came, refused with every problem named."""

from __future__ import annotations

import pytest

from libs.errors import InvalidError, NotFoundError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.definitions import said


async def token(functions: Functions) -> bytes:
    """Return the mappings' token as a consumer sees it."""
    reply = await functions.call("batch_collect", None, {"consumer": "one"})
    return bytes(reply[2])


async def test_life_of_a_mapping(functions: Functions) -> None:
    """Create, change, list, delete; a consumer sees another token after each."""
    tokens = {await token(functions)}
    text = '{"source":"comsrv:1001:T:*", "tags":{"site":"north","ch":"{channel}"}}'
    stored = await functions.call("configure_mapping", "m1", text)
    assert said(stored).decode() == '{"id":"m1",' + text[1:], "kept byte for byte, with its id"
    tokens.add(await token(functions))
    await functions.call("configure_mapping", "m2", {"id": "m2", "source": "*", "retention_days": 7})
    page = await functions.read_json("mapping_list", None, {"limit": 1})
    assert [one["id"] for one in page["items"]] == ["m1"]
    page = await functions.read_json("mapping_list", None, {"cursor": page["cursor"]})
    assert ([one["id"] for one in page["items"]], page["cursor"]) == (["m2"], None)
    tokens.add(await token(functions))
    assert await functions.json("mapping_delete", "m1") == {"deleted": "m1"}
    tokens.add(await token(functions))
    assert len(tokens) == 4
    for name in ("mapping_delete", "mapping_list"):
        with pytest.raises(NotFoundError):
            await functions.call(name, "m1")


async def test_refusals(functions: Functions) -> None:
    """Every problem of a mapping is named at once, and nothing is stored."""
    with pytest.raises(InvalidError) as caught:
        await functions.call(
            "configure_mapping", "m1",
            {"id": "m2", "source": "a b", "colour": 1, "tags": {"x": "{color}", "y": 3}, "sampling": "interval",
             "transform": {"scale": "2"}, "enabled": "yes", "measurement": ""},
        )  # fmt: skip
    for part in (
        "m1",
        "source",
        "colour",
        "{color}",
        "tags must",
        "interval_ms",
        "transform",
        "enabled",
        "measurement",
    ):
        assert part in str(caught.value)
    for name, document in (
        ("mapping", {"source": "*"}),
        ("m1", {"source": "*", "interval_ms": 0}),
        ("m1", {"source": "*", "retention_days": -1}),
    ):
        with pytest.raises(InvalidError):
            await functions.call("configure_mapping", name, document)
    assert await execute(functions.client, "KEYS", "hissrv:m*") == []
