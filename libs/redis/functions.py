"""The typed gate to Redis Functions: documents in, documents out, our errors."""

from __future__ import annotations

from typing import Any, Final

import orjson

from libs.errors import UnavailableError
from libs.redis import keys
from libs.redis.client import Client, execute

Argument = str | bytes | int | dict[str, Any] | list[Any]

READ_ATTEMPTS: Final = 3


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

    def key(self, text: str) -> str:
        """Return a key's full name: the namespace's prefix and the text."""
        return self.prefix + text

    def _keys(self, key: str | int | None) -> list[str]:
        if key is None:
            return [self.prefix] if self.prefix else []
        return [f"{self.prefix}{key}"]

    async def call(self, name: str, key: str | int | None, *args: Argument) -> bytes:
        """Call a function that may write. Never sent twice: a lost reply is UnavailableError."""
        full = self._keys(key)
        reply: bytes = await execute(self.client, "FCALL", name, len(full), *full, *[encode(item) for item in args])
        return reply

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
