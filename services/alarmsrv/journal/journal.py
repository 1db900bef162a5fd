"""The whole journal: what is still in Redis, and before it what is only on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from libs.errors import InternalError, InvalidError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.chain import Break, Chain, Entry, order_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

STEP: Final = 500
# Entries looked at for one page when a filter leaves most of them out.
LOOK: Final = 20_000
# The most entries that Redis keeps (redis_functions/alarmsrv/journal.lua).
MAX_KEPT: Final = 200_000
NUMBERS: Final = frozenset({"number", "priority", "version"})


class Wanted(NamedTuple):
    """Which entries: fields and their texts, and the span of their instants."""

    fields: Mapping[str, str] = {}
    start_ms: int | None = None
    end_ms: int | None = None

    def fits(self, entry: Entry) -> bool:
        """Say whether an entry is wanted."""
        at = int(entry.fields.get("at_ms") or 0)
        return (
            (self.start_ms is None or at >= self.start_ms)
            and (self.end_ms is None or at <= self.end_ms)
            and all(entry.fields.get(name) == text for name, text in self.fields.items())
        )


class Verified(NamedTuple):
    """What a walk over the chain found."""

    entries: int
    on_disk: int
    unchained: int
    first: int
    last: int
    head: str
    broken: Break | None


class Journal:
    """Reads the journal, newest or oldest first, and moves it to disk."""

    def __init__(self, functions: Functions, archive: Archive) -> None:
        """Keep both places."""
        self._functions = functions
        self.archive = archive
        self._key = functions.key(key("alarm_journal"))

    async def page(self, wanted: Wanted, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return {items, cursor}, newest first."""
        items: list[dict[str, Any]] = []
        looked, last = 0, cursor
        async for entry in self.newest_first(cursor):
            looked, last = looked + 1, entry.id
            if wanted.fits(entry):
                items.append(typed(entry))
            if len(items) == limit or looked == LOOK:
                return {"items": items, "cursor": last}
        return {"items": items, "cursor": None}

    async def newest_first(self, cursor: str | None = None) -> AsyncIterator[Entry]:
        """Walk back in time: Redis first, then the files."""
        if cursor is not None and not _is_id(cursor):
            raise InvalidError("the cursor is not one of this list")
        last = cursor
        while True:
            found = await self._range("XREVRANGE", f"({last}" if last else "+", "-")
            for entry in found:
                yield entry
                last = entry.id
            if len(found) < STEP:
                break
        # What Redis still has is younger than what only the files have.
        older = self.archive.newest_first(order_of(last) if last else None)
        while chunk := await asyncio.to_thread(_take, older):
            for entry in chunk:
                yield entry

    async def oldest_first(self) -> AsyncIterator[tuple[str, Entry]]:
        """Walk all entries, each with where it stands: the files first, then what only Redis has."""
        files = ((file.name, entry) for file, entry in self.archive.oldest_first())
        last = ""
        while chunk := await asyncio.to_thread(_take, files):
            for where, entry in chunk:
                yield where, entry
                last = entry.id
        async for entry in self._stream_after(last):
            yield "Redis", entry

    async def verify(self) -> Verified:
        """Walk the chain from its first entry to its head.

        An entry that is in a file and in Redis must be the same in both.
        """
        number, last_hash = await self._head()
        in_redis = {entry.number: entry.hash async for entry in self._stream_after("") if entry.number}
        begin = await asyncio.to_thread(self.archive.begins_after)
        chain = Chain(*begin)
        on_disk = 0
        try:
            async for where, entry in self.oldest_first():
                if entry.number > number == chain.number and (await self._head())[0] >= entry.number:
                    # Written since the walk began; the next walk takes it.
                    break
                if where != "Redis":
                    on_disk += 1
                    if in_redis.get(entry.number, entry.hash) != entry.hash:
                        chain.differ(entry, in_redis[entry.number], where)
                chain.take(entry, where)
        except InternalError as error:
            return Verified(
                chain.entries, on_disk, chain.unchained, begin[0] + 1, chain.number, last_hash,
                chain.broken or Break(chain.number + 1, str(error)),
            )  # fmt: skip
        chain.end(number, last_hash)
        return Verified(
            chain.entries, on_disk, chain.unchained, begin[0] + 1, chain.number, chain.hash, chain.broken
        )  # fmt: skip

    async def archive_up_to(self, entry_id: str, keep: int) -> int:
        """Write what the files lack, up to an id, and let Redis forget all but `keep` of it; return how many."""
        last = await asyncio.to_thread(self.archive.last)
        written = 0
        while True:
            start = f"({last.id}" if last else "-"
            found = await self._range("XRANGE", start, entry_id)
            if not found:
                break
            if last and found[0].number and found[0].number <= last.number:
                logger.warning(
                    "journal: Redis has entry %s again, the files have up to %s", found[0].number, last.number
                )
            await asyncio.to_thread(self.archive.append, found)
            last, written = found[-1], written + len(found)
        if last is not None:
            await self.settle(last, keep)
        return written

    async def settle(self, last: Entry, keep: int) -> None:
        """Tell Redis what is on disk."""
        document = {"id": last.id, "number": last.number, "hash": last.hash, "keep": keep}
        while (await self._functions.json("alarm_journal_archived", None, document))["more"]:
            pass

    async def newest_id(self) -> str | None:
        """Return the id of the stream's newest entry."""
        found = await execute(self._functions.client, "XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else None

    async def _head(self) -> tuple[int, str]:
        name = self._functions.key(key("alarm_journal_head"))
        number, last_hash = await execute(self._functions.client, "HMGET", name, "number", "hash")
        return int(number or 0), (last_hash or b"").decode()

    async def _stream_after(self, last: str) -> AsyncIterator[Entry]:
        while True:
            found = await self._range("XRANGE", f"({last}" if last else "-", "+")
            for entry in found:
                yield entry
                last = entry.id
            if len(found) < STEP:
                return

    async def _range(self, command: str, start: str, end: str) -> list[Entry]:
        found = await execute(self._functions.client, command, self._key, start, end, "COUNT", STEP)
        return [
            Entry(entry_id.decode(), {name.decode(): value.decode() for name, value in fields.items()})
            for entry_id, fields in found
        ]


class Archiver:
    """Moves the journal to disk: what was in Redis at the look before.

    A power cut may take Redis' last two seconds (`appendfsync everysec`), so
    what goes to the files is at least as old as the pause between two looks.
    """

    def __init__(self, journal: Journal, keep: int, interval_s: float) -> None:
        """Keep what to move; nothing runs yet."""
        self._journal = journal
        self._keep = keep
        self._interval_s = interval_s
        self._seen: str | None = None

    async def run(self) -> None:
        """Look for ever; a failure is logged and tried again."""
        first = True
        while True:
            try:
                if first:
                    await self.resume()
                first = False
                await self.look()
            except (VoltageError, OSError) as error:
                logger.warning("journal: %s", error)
            await asyncio.sleep(self._interval_s)

    async def resume(self) -> None:
        """At start: where Redis lost entries that are on disk, its chain goes on from the disk's last."""
        last = await asyncio.to_thread(self._journal.archive.last)
        if last is not None and last.number:
            await self._journal.settle(last, self._keep)

    async def look(self) -> int:
        """Write what was there at the look before; return how many entries."""
        newest = await self._journal.newest_id()
        written = await self._journal.archive_up_to(self._seen, self._keep) if self._seen else 0
        self._seen = newest
        return written


def typed(entry: Entry) -> dict[str, Any]:
    """Return an entry as the API gives it: what is empty is left out, numbers are numbers."""
    found: dict[str, Any] = {"id": entry.id}
    for name, text in entry.fields.items():
        if name.endswith("_ms") or (name in NUMBERS and text):
            found[name] = int(text)
        elif text:
            found[name] = text
    return found


def _is_id(text: str) -> bool:
    milliseconds, _, sequence = text.partition("-")
    return milliseconds.isdecimal() and (not sequence or sequence.isdecimal())


def _take(items: Iterator[T]) -> list[T]:
    return list(islice(items, STEP))
