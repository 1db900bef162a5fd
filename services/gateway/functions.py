"""Typed facade over what the gateway reads of Redis: snapshots, the library's version, the audit stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from libs.clock import now_ms
from libs.redis import keys, library
from libs.redis.client import Client, execute, translated
from libs.redis.functions import Functions
from libs.redis.library import Version
from services.gateway.outbox import Document, Sample
from services.gateway.selection import ALL, NO_KIND, Selection

# How many open alarms and last commands a snapshot shows.
MAX_ALARMS: Final = 1000
# Redis has one thread, and this many take a millisecond of it.
ALARMS_A_CALL: Final = 40
LAST_COMMANDS: Final = 50
MAX_AUDIT: Final = 10_000
TEXT_KIND: Final = "X"
TEXT_HASH: Final = "text"


class Image(NamedTuple):
    """A part of the image, read in one transaction. `seq` is the image number it shows."""

    seq: int
    points: dict[str, Sample]
    seen: dict[str, dict[str, int]]
    channels: dict[str, Document]
    alarms: list[Document] | None
    commands: list[Document] | None


class Liveness(NamedTuple):
    """When a channel's blocks last answered, and its state."""

    blocks: dict[str, int]
    status: Document


class GatewayFunctions:
    """What the gateway asks of Redis."""

    def __init__(self, functions: Functions, namespace: str) -> None:
        """Keep the typed gate and the namespace."""
        self._functions = functions
        self._client: Client = functions.client
        self._namespace = namespace

    async def ping(self) -> None:
        """Raise when Redis is away."""
        await execute(self._client, "PING")

    async def library(self) -> Version:
        """Return the function library's version, or raise when it does not fit."""
        return await library.check(self._client, self._namespace)

    async def snapshot(self, selection: Selection, barrier: tuple[str, str]) -> Image:
        """Read a selection in one transaction, which also publishes the barrier.

        The barrier's message stands in the order of all messages exactly where the
        snapshot was taken: what was published before it is in the snapshot. Of many alarms
        the rest is read after it, so that others have their turn between: what changes
        meanwhile is published after the barrier, and says the same again.
        """
        plan = _Plan(self._functions)
        plan.add("PUBLISH", *barrier)
        plan.add("GET", self._functions.key(keys.key("image")))
        for owner in selection.owners:
            plan.read_owner(owner, selection.points[owner])
        if "alarms" in selection.streams:
            plan.call("get_active_alarms", {"limit": ALARMS_A_CALL})
        if "commands" in selection.streams:
            plan.call("command_list", {"limit": LAST_COMMANDS})
        replies = await _transaction(self._client, plan.commands)
        image = Image(int(replies[1] or 0), {}, {}, {}, None, None)
        at = 2
        for owner in selection.owners:
            at = _take_owner(image, owner, selection.points[owner], replies, at)
        if "alarms" in selection.streams:
            image = image._replace(alarms=await self._alarms(orjson.loads(replies[at])))
            at += 1
        if "commands" in selection.streams:
            image = image._replace(commands=orjson.loads(replies[at])["items"])
        return image

    async def _alarms(self, page: Document) -> list[Document]:
        """Return the alarms of a first page and of those behind it."""
        alarms: list[Document] = page["items"]
        if page["cursor"] is None:
            return alarms
        rest = {"limit": MAX_ALARMS - len(alarms), "cursor": page["cursor"]}
        page = await self._functions.read_page("get_active_alarms", rest, ALARMS_A_CALL)
        return [*alarms, *page["items"]]

    async def liveness(self, channels: list[str], pulse: tuple[str, str]) -> dict[str, Liveness]:
        """Read when each channel's blocks last answered and its state; publish a pulse on the way."""
        commands: list[tuple[str | int, ...]] = [("PUBLISH", *pulse)]
        for channel in channels:
            commands += _liveness_commands(self._functions, channel)
        replies = await _transaction(self._client, commands)
        return {
            channel: _liveness(replies[1 + 2 * index], replies[2 + 2 * index]) for index, channel in enumerate(channels)
        }

    async def audit(self, action: str, user: str, **details: str) -> None:
        """Append to the audit stream."""
        fields = ["at_ms", str(now_ms()), "action", action, "user", user]
        for name, text in details.items():
            fields += [name, text]
        key = self._functions.key(keys.key("audit"))
        await execute(self._client, "XADD", key, "MAXLEN", "~", MAX_AUDIT, "*", *fields)

    async def audit_page(self, limit: int, cursor: str | None) -> Document:
        """Return entries of the audit stream, newest first."""
        key = self._functions.key(keys.key("audit"))
        end = f"({cursor}" if cursor else "+"
        found = await execute(self._client, "XREVRANGE", key, end, "-", "COUNT", limit + 1)
        items = [{"id": entry.decode(), **_texts(fields)} for entry, fields in found]
        more = len(items) > limit
        return {"items": items[:limit], "cursor": items[limit - 1]["id"] if more else None}


class _Plan:
    """The commands of a snapshot, in the order their replies are taken."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.commands: list[tuple[str | int, ...]] = []

    def add(self, *words: str | int) -> None:
        self.commands.append(words)

    def call(self, name: str, document: Document) -> None:
        prefix = self._functions.prefix
        self.add("FCALL_RO", name, *([1, prefix] if prefix else [0]), orjson.dumps(document).decode())

    def read_owner(self, owner: str, kinds: Mapping[str, set[str]]) -> None:
        """Read values, instants and qualities of each kind, then what says whether the channel lives."""
        for kind, ids in kinds.items():
            base = self._functions.key(_hash_of(owner, kind))
            for suffix in ("", ":ts", ":q"):
                if ALL in ids:
                    self.add("HGETALL", base + suffix)
                else:
                    self.add("HMGET", base + suffix, *sorted(ids))
        service, _, channel = owner.partition(":")
        if service == "comsrv":
            self.commands += _liveness_commands(self._functions, channel)


def _hash_of(owner: str, kind: str) -> str:
    service, _, name = owner.partition(":")
    if service == "modsrv":
        return keys.key("model_values", id=name)
    return keys.key("values", ch=name, type=TEXT_HASH if kind == TEXT_KIND else kind)


def _liveness_commands(functions: Functions, channel: str) -> list[tuple[str | int, ...]]:
    return [
        ("HGETALL", functions.key(keys.key("seen", ch=channel))),
        ("HMGET", functions.key(keys.key("status", ch=channel)), "state", "since_ms"),
    ]


async def _transaction(client: Client, commands: list[tuple[str | int, ...]]) -> list[Any]:
    """Send commands as one MULTI/EXEC and return the replies; any error among them is raised."""
    with translated():
        async with client.pipeline(transaction=True) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            return await pipeline.execute()


def _take_owner(image: Image, owner: str, kinds: Mapping[str, set[str]], replies: list[Any], at: int) -> int:
    """Put one owner's replies into the image; returns the index of the next reply."""
    for kind, ids in kinds.items():
        values, instants, qualities = (_mapping(reply, ids) for reply in replies[at : at + 3])
        at += 3
        head = owner + ":" if kind == NO_KIND else f"{owner}:{kind}:"
        for point in values.keys() | qualities.keys():
            value = values.get(point)
            instant = instants.get(point)
            image.points[head + point.decode()] = (
                _value(value, kind),
                qualities.get(point, b"good").decode(),
                int(instant) if instant is not None else None,
            )
    service, _, channel = owner.partition(":")
    if service == "comsrv":
        found = _liveness(replies[at], replies[at + 1])
        at += 2
        image.seen[channel] = found.blocks
        image.channels[channel] = found.status
    return at


def _value(text: bytes | None, kind: str) -> float | str | None:
    if text is None:
        return None
    return text.decode() if kind == TEXT_KIND else float(text)


def _mapping(reply: Any, ids: set[str]) -> dict[bytes, bytes]:
    if isinstance(reply, dict):
        return reply
    return {point.encode(): text for point, text in zip(sorted(ids), reply, strict=True) if text is not None}


def _liveness(seen: dict[bytes, bytes], status: list[bytes | None]) -> Liveness:
    state, since = status
    described: Document = {"state": state.decode() if state else "unknown"}
    if since:
        described["since_ms"] = int(since)
    return Liveness({block.decode(): int(at) for block, at in seen.items()}, described)


def _texts(fields: Any) -> dict[str, str]:
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
    return {name.decode(): value.decode(errors="replace") for name, value in pairs}
