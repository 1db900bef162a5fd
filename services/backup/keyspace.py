"""The keys of a namespace: all of them at one instant, and back again.

One way for every server, ours or another's: a transaction of DUMP. The server
works it off in one go, so no reader's promise is broken: no value without its
alarm. It holds the server up while the keys are dumped, and costs their size in
memory until the answers are read. An RDB file would need its file system, and
would hold what others keep there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from libs.errors import InvalidError, StateError, UnavailableError
from libs.redis import keys
from libs.redis.client import Client, translated

OWNERS: Final = frozenset(spec.pattern.partition(":")[0] for spec in keys.KEYS)
ATTEMPTS: Final = 20
BATCH_BYTES: Final = 1_000_000
# A selection before an operation ends with the hand that made it; a restored site begins a replay log of its own.
NEVER_RESTORED: Final = re.compile(rf"(?:{keys.key('selected', ch=r'[0-9]+')}|{keys.key('replay')}(?::.*)?)\Z")


class Key(NamedTuple):
    """A key: its name without the namespace, when it ends (-1: never), its content as DUMP gives it."""

    name: bytes
    expires_at_ms: int
    content: bytes


class Snapshot(NamedTuple):
    """All keys at one instant, and the number of the last accepted call."""

    at_ms: int
    image: int
    keys: list[Key]


async def take(client: Client, namespace: str) -> Snapshot:
    """Return the keys of a namespace as they are at one instant.

    The transaction lists the keys as well: where one came or went since they
    were listed for it, it is done again.

    Raises:
        StateError: there are none.
        UnavailableError: Redis is away, or keys come and go without end.
    """
    names: list[bytes] = []
    for _ in range(ATTEMPTS):
        found, present = await _transaction(client, namespace, names)
        if present == set(names):
            if not names:
                raise StateError("Redis holds nothing of this site; start it with: voltage up")
            return found
        names = sorted(present)
    raise UnavailableError(f"{ATTEMPTS} times a key came or went while the keys were copied; try again")


async def image_of(client: Client, namespace: str) -> int:
    """Return the number of the last accepted call."""
    with translated():
        return int(await client.get(keys.prefix(namespace) + keys.key("image")) or 0)


async def _transaction(client: Client, namespace: str, names: list[bytes]) -> tuple[Snapshot, set[bytes]]:
    prefix = keys.prefix(namespace)
    full = [prefix.encode() + name for name in names]
    with translated():
        many = 2 * int(await client.dbsize()) + 1000
        pipeline: Any = client.pipeline(transaction=True)
        pipeline.get(prefix + keys.key("image"))
        pipeline.hget(prefix + keys.key("clock"), "last")
        pipeline.time()
        # More than there are: one call lists all of them.
        pipeline.scan(0, match=f"{prefix}*", count=many)
        for name in full:
            pipeline.execute_command("PEXPIRETIME", name)
            pipeline.execute_command("DUMP", name)
        image, last, (seconds, micros), (cursor, listed), *contents = await pipeline.execute()
    if cursor:
        raise UnavailableError("Redis did not list its keys in one call; try again")
    at_ms = int(last or seconds * 1000 + micros // 1000)
    dumped = [
        Key(name, expires, content)
        for name, expires, content in zip(names, contents[::2], contents[1::2], strict=True)
        if content is not None
    ]
    present = {name.removeprefix(prefix.encode()) for name in listed}
    return Snapshot(at_ms, int(image or 0), dumped), {name for name in present if _ours(name)}


def _ours(name: bytes) -> bool:
    # Without a namespace other people's keys, and those of sites with one, are beside ours.
    return name.partition(b":")[0].decode(errors="replace") in OWNERS


async def present_keys(client: Client, namespace: str) -> int:
    """Return how many keys of a namespace there are."""
    return len((await _transaction(client, namespace, []))[1])


def write_keys(path: Path, found: Iterable[Key]) -> None:
    """Write keys to a file."""
    with path.open("wb") as file:
        packer = msgpack.Packer()
        for one in found:
            file.write(packer.pack(tuple(one)))


def read_keys(path: Path) -> Iterable[Key]:
    """Read the keys of a file, one at a time."""
    with path.open("rb") as file:
        for name, expires_at_ms, content in msgpack.Unpacker(file, max_buffer_size=0):
            yield Key(name, expires_at_ms, content)


async def put(client: Client, namespace: str, found: Iterable[Key], advance: Callable[[int], None]) -> None:
    """Write keys into a namespace that has none.

    Raises:
        InvalidError: this server can't read what another one wrote.
    """
    prefix = keys.prefix(namespace).encode()
    waiting: list[Key] = []
    size = 0
    for one in found:
        if NEVER_RESTORED.match(one.name.decode(errors="replace")):
            continue
        waiting.append(one)
        size += len(one.content)
        if size > BATCH_BYTES:
            await _put(client, prefix, waiting)
            advance(size)
            waiting, size = [], 0
    await _put(client, prefix, waiting)
    advance(size)


async def _put(client: Client, prefix: bytes, batch: list[Key]) -> None:
    with translated():
        pipeline: Any = client.pipeline(transaction=False)
        for one in batch:
            expires: list[str | int] = [one.expires_at_ms, one.content, "ABSTTL"]  # type: ignore[list-item]
            if one.expires_at_ms < 0:
                expires = [0, one.content]  # type: ignore[list-item]
            pipeline.execute_command("RESTORE", prefix + one.name, *expires)
        replies = await pipeline.execute(raise_on_error=False)
    for one, reply in zip(batch, replies, strict=True):
        if isinstance(reply, Exception):
            hint = ""
            if "DUMP payload version" in str(reply):
                hint = "; the backup was made by a newer server: take that one with VOLTAGE_REDIS_SERVER"
            raise InvalidError(f"Redis refuses the key {one.name.decode(errors='replace')}: {reply}{hint}")


async def remove(client: Client, namespace: str) -> None:
    """Take all keys of a namespace away: those of a restore that failed."""
    prefix = keys.prefix(namespace).encode()
    with translated():
        for name in (await _transaction(client, namespace, []))[1]:
            await client.unlink(prefix + name)
