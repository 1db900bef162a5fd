"""The audit of a keyspace: every key is one that libs/redis/keys.py names, and of that type."""

from __future__ import annotations

import re
from typing import Final

from libs.redis.client import Client, execute
from libs.redis.keys import KEYS

# Names that a pattern's placeholder may stand for; a source is a reference or free text, an area free text.
_WIDE: Final = {"source", "area"}


def _expression(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", pattern)
    text = "".join(
        re.escape(piece) if index % 2 == 0 else ("[^{}]+" if piece in _WIDE else "[A-Za-z0-9_-]+")
        for index, piece in enumerate(pieces)
    )
    return re.compile(r"(\{[A-Za-z0-9_-]+\}:)?" + text)


_SPECS: Final = [(_expression(spec.pattern), spec.type) for spec in KEYS]


async def strangers(client: Client) -> list[str]:
    """Return the keys that no KeySpec names, or that are of another type."""
    found = []
    for name in await execute(client, "KEYS", "*"):
        kind = (await execute(client, "TYPE", name)).decode()
        text = name.decode()
        if not any(expression.fullmatch(text) and kind == type_ for expression, type_ in _SPECS):
            found.append(f"{text} ({kind})")
    return sorted(found)
