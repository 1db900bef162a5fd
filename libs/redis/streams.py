"""Streams of what happened, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from libs.redis.client import execute
from libs.redis.functions import Functions

# Entries looked at in one call when a filter leaves most of them out.
LOOK: Final = 5000
_STEP: Final = 500


async def newest(
    functions: Functions,
    key: str,
    *,
    limit: int,
    cursor: str | None,
    only: Mapping[str, str],
    documents: Collection[str] = (),
) -> dict[str, Any]:
    """Return {items, cursor}: the entries whose fields have the wanted values.

    Args:
        functions: the gate, for its client and namespace.
        key: the stream's key without namespace.
        limit: how many at most.
        cursor: the id of the last entry of the page before.
        only: fields and the text each must have.
        documents: fields that are JSON; those that end in `_ms`, and `seq`, are numbers.
    """
    items: list[dict[str, Any]] = []
    looked, last = 0, cursor
    while len(items) < limit and looked < LOOK:
        end = f"({last}" if last else "+"
        found = await execute(functions.client, "XREVRANGE", functions.key(key), end, "-", "COUNT", _STEP)
        for entry_id, raw in found:
            looked, last = looked + 1, entry_id.decode()
            fields = _fields(raw)
            if all(fields.get(name) == text for name, text in only.items()):
                items.append({"id": last, **_typed(fields, documents)})
            if len(items) == limit:
                return {"items": items, "cursor": last}
        if len(found) < _STEP:
            return {"items": items, "cursor": None}
    return {"items": items, "cursor": last}


def _fields(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in raw.items()}


def _typed(fields: Mapping[str, str], documents: Collection[str]) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for name, text in fields.items():
        if name in documents:
            typed[name] = orjson.loads(text) if text else None
        elif name.endswith("_ms") or name == "seq":
            typed[name] = int(text)
        elif text:
            typed[name] = text
    return typed
