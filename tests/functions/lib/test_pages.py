"""Lists of definitions: what is kept of them for speed is never another list than the one that is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from libs.errors import NotFoundError
from libs.redis.client import Client, execute
from libs.redis.functions import Functions

RULE: dict[str, Any] = {"name": "x", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1}]}
ALARM: dict[str, Any] = {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 1, "level": "Minor"}
MODEL: dict[str, Any] = {"name": "x", "mapping": {"channel": 1001, "data": {"p": 1}}}
KINDS = {
    "rule": ("rule_upsert", "rule_delete", "rule_list", RULE),
    "alarm": ("alarm_define", "alarm_definition_delete", "alarm_definition_list", ALARM),
    "model": ("model_upsert", "model_delete", "model_list", MODEL),
}


async def listed(functions: Functions, name: str, limit: int = 7) -> list[str]:
    """Return the ids of a list, page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        asked = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = await functions.read_json(name, None, asked)
        assert len(page["items"]) <= limit
        found += [item["id"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_list_is_what_there_is_after_changes(functions: Functions, kind: str) -> None:
    store, delete, listing, document = KINDS[kind]
    rng = random.Random(kind)
    there: set[str] = set()
    for _ in range(60):
        name = f"n{rng.randrange(40)}"
        if name in there and rng.random() < 0.5:
            await functions.call(delete, name)
            there.remove(name)
        else:
            await functions.call(store, name, document)
            there.add(name)
        if rng.random() < 0.5:
            assert await listed(functions, listing) == sorted(there)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_nothing_of_it_outlives_a_flush_or_crosses_a_namespace(
    redis: Client, functions: Functions, kind: str
) -> None:
    store, delete, listing, document = KINDS[kind]
    other = Functions(redis, "plant7")
    await functions.call(store, "a", document)
    await other.call(store, "b", document)
    assert await listed(functions, listing) == ["a"]
    assert await listed(other, listing) == ["b"]
    await execute(redis, "FLUSHALL")
    assert await listed(functions, listing) == await listed(other, listing) == []
    await functions.call(store, "c", document)
    assert await listed(functions, listing) == ["c"]
    with pytest.raises(NotFoundError):
        await functions.call(delete, "a")


async def test_a_page_goes_on_behind_an_id_that_is_gone(functions: Functions) -> None:
    for name in "abcdef":
        await functions.call("rule_upsert", name, RULE)
    page = await functions.read_json("rule_list", None, {"limit": 3})
    assert page["cursor"] == "c"
    await functions.call("rule_delete", "c")
    rest = await functions.read_json("rule_list", None, {"limit": 3, "cursor": "c"})
    assert ([item["id"] for item in rest["items"]], rest["cursor"]) == (["d", "e", "f"], None)


async def test_a_page_is_read_in_several_calls(functions: Functions) -> None:
    for number in range(25):
        await functions.call("rule_upsert", f"r{number:02}", RULE)
    ids = [f"r{number:02}" for number in range(25)]
    for limit, a_call in ((25, 10), (20, 10), (7, 10), (100, 10)):
        page = await functions.read_page("rule_list", {"limit": limit, "cursor": None}, a_call)
        assert [item["id"] for item in page["items"]] == ids[:limit]
        assert page["cursor"] == (ids[limit - 1] if limit < 25 else None)
