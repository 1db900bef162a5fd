"""The queue's consumer: entries to the store, acknowledged after the store's commit.

Exactly once: an entry leaves the queue after the commit, and the store knows the
ids it has, so an entry that comes again (a crash in between, a lost reply)
changes nothing. While the store is away the batch stays in hand and is tried
again; the queue grows up to its cap and polling goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from libs import clock
from libs.errors import InvalidError, VoltageError
from libs.redis.client import Client
from libs.redis.queue import QueueReader, acknowledged
from services.hissrv.documents import decode
from services.hissrv.functions import Batch, HistoryFunctions
from services.hissrv.recording import Recorder
from services.hissrv.settings import ConsumerSettings
from services.hissrv.store.contract import Entry, Refused, Store

_LOG = logging.getLogger(__name__)
MAINTAIN_S: Final = 5.0
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class _Work:
    """A batch in hand, decoded: what to write, what to give up, what the mappings left out."""

    batch: Batch
    entries: list[Entry]
    refused: dict[str, str]
    filtered: int
    recorded: Counter[str]


class Consumer(QueueReader):
    """Takes batches to the store."""

    def __init__(
        self, functions: HistoryFunctions, blocking: Client, store: Store, settings: ConsumerSettings, name: str
    ) -> None:
        super().__init__(
            "history",
            blocking,
            functions.queue,
            batch_entries=settings.batch_entries,
            linger_ms=settings.linger_ms,
        )
        self._functions = functions
        self._store = store
        self._settings = settings
        self._name = name
        self._work: _Work | None = None
        self._token: str | None = None
        self._recorder = Recorder([])
        self.recorded: dict[str, int] = {}
        self.samples = 0
        self.repeated = 0
        self.last_write_ms: int | None = None

    async def step(self) -> int:
        """Take one batch through to its acknowledgement; returns its entries."""
        if self._work is None:
            self._work = await self._collect()
        work = self._work
        if not work.batch.id:
            self._work = None
            return 0
        bad: list[Refused] = []
        if work.entries:
            written = await self._store.write(work.entries, forget_before=work.batch.oldest)
            self.samples += written.samples
            self.repeated += written.repeated
            bad = written.refused
            for one in bad[:SHOWN]:
                _LOG.error("the store refuses %s: %s", one.line, one.reason)
            self.last_write_ms = clock.now_ms()
        await acknowledged(work.batch.id, self._acknowledge(work, bad))
        self._work = None
        return len(work.batch.entries)

    async def _acknowledge(self, work: _Work, bad: list[Refused]) -> None:
        if work.refused:
            await self._functions.fail(work.batch.id, work.refused)
        if len(work.refused) < len(work.batch.entries):
            await self._functions.acknowledge(work.batch.id, work.filtered, bad, work.recorded, self._store.names)
        for mapping, count in work.recorded.items():
            self.recorded[mapping] = self.recorded.get(mapping, 0) + count

    async def _collect(self) -> _Work:
        batch = await self._functions.collect(
            self._name, limit=self._settings.batch_entries, idle_ms=self._settings.idle_ms
        )
        if batch.token != self._token:
            self._recorder = Recorder(await self._functions.recorded())
            self._store.label(self._recorder.label)
            self._token = batch.token
        entries: list[Entry] = []
        refused: dict[str, str] = {}
        filtered = 0
        recorded: Counter[str] = Counter()
        for entry in batch.entries:
            try:
                decoded = decode(entry, self._recorder)
            except InvalidError as error:
                _LOG.error("queue entry %s of channel %s: %s", entry.id, entry.channel, error)
                refused[str(entry.id)] = str(error)
            else:
                entries.append(decoded.entry)
                filtered += decoded.filtered
                recorded += decoded.recorded
        self.taken(batch.entries)
        return _Work(batch, entries, refused, filtered, recorded)


class Maintenance:
    """Lets the store do what is due, every few seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.problem: str | None = None

    async def run(self) -> None:
        """Maintain until cancelled."""
        while True:
            await asyncio.sleep(MAINTAIN_S)
            try:
                await self._store.maintain(clock.now_ms())
            except VoltageError as error:
                if self.problem is None:
                    _LOG.exception("history maintenance")
                self.problem = str(error)
            else:
                self.problem = None
