"""Every set of definitions has a bound; at it a new one is LIMIT, and a stored one can still be changed."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import LimitError
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.site import keyspace

BOUNDS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("model_upsert", "modsrv:models", 10_000, {"name": "x"}),
    ("template_upsert", "modsrv:templates", 1000, {"name": "x"}),
    ("alarm_define", "alarmsrv:definitions", 20_000, HOT),
    ("template_upsert", "modsrv:models:by_template:second", 1001, {"name": "x"}),
)


@pytest.mark.parametrize(("name", "index", "count", "document"), BOUNDS)
async def test_bound(functions: Functions, name: str, index: str, count: int, document: dict[str, Any]) -> None:
    await functions.call(name, "first", document)
    await functions.client.sadd(index, *(f"x{number}" for number in range(count)))
    before = await keyspace(functions)
    with pytest.raises(LimitError):
        await functions.call(name, "second", document)
    assert await keyspace(functions) == before
    await functions.call(name, "first", document)
