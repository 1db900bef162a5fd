"""Channels' definitions as Redis has them.

One of 1,000 points is 200 kB: each is read by itself, so that Redis has time for others between.
`channel_list` reads a page of them in one call, which is for people.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from libs.errors import NotFoundError
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key


async def ids(functions: Functions) -> list[str]:
    """Return the ids of all channels, in the order of `channel_list`: that of their text."""
    found = await execute(functions.client, "SMEMBERS", functions.key(key("channels")))
    return sorted(channel.decode() for channel in found)


async def documents(functions: Functions, channels: Iterable[str]) -> AsyncIterator[dict[str, Any]]:
    """Give the definitions of channels; one that was deleted meanwhile is left out."""
    for channel in channels:
        try:
            yield await functions.read_json("channel_get", channel)
        except NotFoundError:
            continue
