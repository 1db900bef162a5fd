"""Typed facade over the Redis Functions that hissrv uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from libs.errors import NotFoundError
from libs.redis import channels, keys
from libs.redis.client import execute
from libs.redis.definitions import Definitions, Names
from libs.redis.functions import Functions
from libs.redis.queue import EntryId, QueueEntry, pairs
from services.hissrv.recording import Mapping, parse_mappings
from services.hissrv.store.contract import Refused

# Samples of one batch that are kept as dead letters; all are counted.
MAX_LETTERS: Final = 200
# One function reads the list, and with a key one mapping.
MAPPING: Final = Names("mapping", "configure_mapping", "mapping_list", "mapping_list", "mapping_delete")


class Batch(NamedTuple):
    """A batch of the queue: its id ("" when there is nothing), the queue's oldest entry, the mappings' token."""

    id: str
    oldest: EntryId | None
    token: str
    entries: list[QueueEntry]


class DeadLetter(NamedTuple):
    """An entry that was given up."""

    id: str
    fields: dict[str, str]
    document: bytes


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


class HistoryFunctions:
    """The functions of hissrv's domain, and the two streams it reads."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.queue = functions.key(keys.key("history_queue"))
        self.mappings = Definitions(functions, MAPPING)

    async def collect(self, consumer: str, *, limit: int, idle_ms: int) -> Batch:
        """Take the next batch: this consumer's unfinished entries, what others left, new ones."""
        reply: Any = await self._functions.call(
            "batch_collect", None, {"consumer": consumer, "limit": limit, "idle_ms": idle_ms}
        )
        batch, oldest, token, entries = reply
        return Batch(
            _text(batch),
            EntryId.parse(_text(oldest)) if oldest else None,
            _text(token),
            [QueueEntry.parse(entry_id, fields) for entry_id, fields in entries],
        )

    async def acknowledge(
        self,
        batch: str,
        filtered: int,
        refused: Sequence[Refused] = (),
        recorded: dict[str, int] | None = None,
        stores: Sequence[str] = (),
    ) -> None:
        """Say that a batch is in the stores, but for the samples one of them refused: those are dead-lettered."""
        by_store = {name: sum(1 for one in refused if name in (one.stores or stores)) for name in stores}
        document: dict[str, Any] = {"filtered": filtered, "stores": by_store}
        if recorded:
            document["recorded"] = {name or "*": count for name, count in recorded.items()}
        if refused:
            letters = [_letter(one) for one in refused[:MAX_LETTERS]]
            document |= {"refused": len(refused), "letters": letters}
        await self._functions.call("batch_acknowledge", batch, document)

    async def retried(self, letter: DeadLetter, filtered: int = 0) -> None:
        """Say that a dead letter is in the store: it goes, and its samples count as written.

        Raises:
            NotFoundError: somebody else did, or it is too old.
        """
        await self._functions.call("dead_letter_resolve", None, {"id": letter.id, "filtered": filtered})

    async def dead_letter(self, letter: str) -> DeadLetter:
        """Return one dead letter.

        Raises:
            NotFoundError: there is none with that id.
        """
        key = self._functions.key(keys.key("dead_letters"))
        for found, raw in await execute(self._functions.client, "XRANGE", key, letter, letter):
            return _dead_letter(found, raw)
        raise NotFoundError(f"dead letter {letter}")

    async def fail(self, batch: str, reasons: dict[str, str]) -> dict[str, Any]:
        """Dead-letter entries of a batch; returns the batch."""
        document: dict[str, Any] = await self._functions.json("batch_fail", batch, {"entries": reasons})
        return document

    async def status(self) -> dict[str, Any]:
        """Return the queue's state."""
        document: dict[str, Any] = await self._functions.read_json("get_batch_status", None)
        return document

    async def recorded(self) -> list[Mapping]:
        """Return all mappings, parsed."""
        return parse_mappings(await self.mappings.all())

    async def references(self) -> list[str]:
        """Return the references of all points of all channels."""
        found: list[str] = []
        async for channel in channels.documents(self._functions, await channels.ids(self._functions)):
            points = (channel.get("points") or {}).items()
            found += [f"comsrv:{channel['id']}:{kind}:{one['id']}" for kind, known in points for one in known]
        return found

    async def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        """Return dead letters, newest first, older than an id."""
        key = self._functions.key(keys.key("dead_letters"))
        end = f"({before}" if before else "+"
        found = await execute(self._functions.client, "XREVRANGE", key, end, "-", "COUNT", limit)
        return [_dead_letter(letter, raw) for letter, raw in found]


def _dead_letter(letter: bytes, raw: Any) -> DeadLetter:
    fields = dict(pairs(raw))
    document = fields.pop(b"document", b"")
    return DeadLetter(_text(letter), {_text(name): _text(value) for name, value in fields.items()}, document)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _letter(refused: Refused) -> dict[str, str]:
    """Return the dead letter of one sample; its document holds all that a retry needs."""
    sample = {
        "series": refused.series,
        "at_ms": refused.at_ms,
        "value": None if math.isnan(refused.value) else refused.value,
        "quality": refused.quality,
        "line": refused.line,
    }
    return {
        **({"stores": " ".join(refused.stores)} if refused.stores else {}),
        "entry": str(refused.entry),
        "channel": _cut(refused.series.split(":")[1], 64),
        "reason": _cut(refused.reason, 512),
        "document": _cut(orjson.dumps(sample).decode(), 16_384),
    }
