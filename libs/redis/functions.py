"""The typed gate to Redis Functions: documents in, documents out, our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from libs.errors import UnavailableError
from libs.redis import keys
from libs.redis.batch import Batches
from libs.redis.client import Client, execute, translate, translated

Argument = str | bytes | int | dict[str, Any] | list[Any]

READ_ATTEMPTS: Final = 3
# So many calls make a page at most; it may be short then, and its cursor says that there is more.
CALLS_A_PAGE: Final = 200
FSYNC_TIMEOUT_MS: Final = 4000


def encode(argument: Argument) -> str | bytes:
    """Encode one argument: documents become JSON, the rest stays as it is."""
    if isinstance(argument, dict | list):
        return orjson.dumps(argument)
    return argument if isinstance(argument, str | bytes) else str(argument)


class Functions:
    """Calls functions of the library `voltage` in one namespace."""

    def __init__(self, client: Client, namespace: str = "") -> None:
        """Keep the client and the prefix of every key."""
        self.client = client
        self.prefix = keys.prefix(namespace)
        self._batches = Batches(client)

    def key(self, text: str) -> str:
        """Return a key's full name: the namespace's prefix and the text."""
        return self.prefix + text

    def _keys(self, key: str | int | None) -> list[str]:
        if key is None:
            return [self.prefix] if self.prefix else []
        return [f"{self.prefix}{key}"]

    def words(self, name: str, key: str | int | None, *args: Argument) -> list[str | bytes | int]:
        """Return the command that calls a function, as it goes over the wire."""
        full = self._keys(key)
        return ["FCALL", name, len(full), *full, *[encode(item) for item in args]]

    async def call(self, name: str, key: str | int | None, *args: Argument) -> bytes:
        """Call a function that may write. Never sent twice: a lost reply is UnavailableError."""
        reply: bytes = await execute(self.client, *self.words(name, key, *args))
        return reply

    async def batched(self, name: str, key: str | int | None, *args: Argument) -> bytes:
        """Call a function that may write, together with what others call at the same time."""
        reply: bytes = await self._batches.execute(*self.words(name, key, *args))
        return reply

    async def durable(self, name: str, key: str | int | None, *args: Argument) -> bytes:
        """Call a function and wait until the append-only file is on disk.

        For commands and what operators do: nothing answered is gone after a power cut.
        A server without WAITAOF (before 7.2) or without an append-only file answers at once.
        """
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.execute_command(*self.words(name, key, *args))
            pipeline.execute_command("WAITAOF", 1, 0, FSYNC_TIMEOUT_MS)
            reply, synced = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise translate(reply)
        if isinstance(synced, list) and synced[0] == 0:
            raise UnavailableError(f"{name} was carried out, but is not on disk after {FSYNC_TIMEOUT_MS} ms")
        return bytes(reply)

    async def read(self, name: str, key: str | int | None, *args: Argument) -> bytes:
        """Call a function that only reads; a lost connection is tried again."""
        full = self._keys(key)
        encoded = [encode(argument) for argument in args]
        for attempt in range(READ_ATTEMPTS):
            try:
                reply: bytes = await execute(self.client, "FCALL_RO", name, len(full), *full, *encoded)
            except UnavailableError:
                if attempt == READ_ATTEMPTS - 1:
                    raise
            else:
                return reply
        raise AssertionError  # the loop returns or raises

    async def json(self, name: str, key: str | int | None, *args: Argument) -> Any:
        """Call a function that may write and decode its JSON reply."""
        return orjson.loads(await self.call(name, key, *args))

    async def read_json(self, name: str, key: str | int | None, *args: Argument) -> Any:
        """Call a function that only reads and decode its JSON reply."""
        return orjson.loads(await self.read(name, key, *args))

    async def read_page(self, name: str, filters: Mapping[str, Any], a_call: int) -> dict[str, Any]:
        """Read a page {items, cursor}: `a_call` items in a call, so that others have their turn between.

        Redis has one thread, and a call may take a millisecond of it. `filters` has `limit`.
        """
        items: list[Any] = []
        part = {name: value for name, value in filters.items() if value is not None}
        for _ in range(CALLS_A_PAGE):
            part["limit"] = min(filters["limit"] - len(items), a_call)
            page = await self.read_json(name, None, part)
            items += page["items"]
            part["cursor"] = page["cursor"]
            if page["cursor"] is None or len(items) >= filters["limit"]:
                break
        return {"items": items, "cursor": part["cursor"]}

    async def read_all(self, name: str, a_call: int) -> list[dict[str, Any]]:
        """Read every item of a list, `a_call` in a call."""
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self.read_json(name, None, {"limit": a_call} | ({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["cursor"]
        return items
