"""The queue's consumer: entries to the store, acknowledged after the store's commit.

Exactly once: an entry leaves the queue after the commit, and the store knows the
ids it has, so an entry that comes again (a crash in between, a lost reply)
changes nothing. While the store is away the batch stays in hand and is tried
again; the queue grows up to its cap and polling goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import Final

from libs import clock
from libs.errors import InvalidError, NotFoundError, VoltageError
from libs.redis.client import Client
from services.hissrv.documents import decode
from services.hissrv.functions import Batch, HistoryFunctions
from services.hissrv.recording import Recorder
from services.hissrv.settings import ConsumerSettings
from services.hissrv.store.contract import Entry, Refused, Store

_LOG = logging.getLogger(__name__)
WAIT_MS: Final = 1000
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
MAINTAIN_S: Final = 5.0
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class _Work:
    """A batch in hand, decoded: what to write, what to give up, what the mappings left out."""

    batch: Batch
    entries: list[Entry]
    refused: dict[str, str]
    filtered: int


class Consumer:
    """Takes batches one at a time. `problem` is None while all goes well."""

    def __init__(
        self, functions: HistoryFunctions, blocking: Client, store: Store, settings: ConsumerSettings, name: str
    ) -> None:
        self._functions = functions
        self._blocking = blocking
        self._store = store
        self._settings = settings
        self._name = name
        self._work: _Work | None = None
        self._token: str | None = None
        self._recorder = Recorder([])
        self._last = "$"
        self.problem: str | None = None
        self.samples = 0
        self.repeated = 0
        self.last_write_ms: int | None = None

    async def run(self) -> None:
        """Consume until cancelled; what goes wrong is shown, tried again, and never ends the loop."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                taken = await self.step()
                if not taken:
                    await self._functions.wait(self._blocking, self._last, WAIT_MS)
            except VoltageError as error:
                if self.problem is None:
                    _LOG.warning("history waits: %s", error)
                self.problem = str(error)
                await asyncio.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self.problem is not None:
                _LOG.info("history goes on")
            self.problem, pause_s = None, FIRST_PAUSE_S
            if taken < self._settings.batch_entries:
                await asyncio.sleep(self._settings.linger_ms / 1000)

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
        try:
            if work.refused:
                await self._functions.fail(work.batch.id, work.refused)
            if len(work.refused) < len(work.batch.entries):
                await self._functions.acknowledge(work.batch.id, work.filtered, bad)
        except (NotFoundError, InvalidError) as error:
            # Redis lost the batch (a restart, a lost reply): what is still queued comes again, known to the store.
            _LOG.warning("batch %s: %s; its entries come again", work.batch.id, error)
        self._work = None
        return len(work.batch.entries)

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
        for entry in batch.entries:
            try:
                decoded = decode(entry, self._recorder)
            except InvalidError as error:
                _LOG.error("queue entry %s of channel %s: %s", entry.id, entry.channel, error)
                refused[str(entry.id)] = str(error)
            else:
                entries.append(decoded.entry)
                filtered += decoded.filtered
        if batch.entries:
            self._last = str(max(entry.id for entry in batch.entries))
        return _Work(batch, entries, refused, filtered)


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
