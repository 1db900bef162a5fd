"""The embedded store: SQLite for the last minutes, Parquet for the rest.

Threads: one writes SQLite, one compacts, two answer queries. The event loop
never waits for the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import orjson
import pyarrow as pa

from libs import clock
from libs.errors import LimitError, UnavailableError
from libs.influx.lines import Label
from libs.redis.queue import EntryId
from services.hissrv.store import catalog, read, source
from services.hissrv.store.catalog import File
from services.hissrv.store.compact import Compactor, Made
from services.hissrv.store.contract import (
    Entry,
    Latest,
    Point,
    Points,
    Query,
    Samples,
    StoreStatus,
    Written,
    quality_number,
)
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.parquet import Files
from services.hissrv.store.window import FORMAT, LoadedNames, Window

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_FAILURES = (sqlite3.Error, OSError, pa.ArrowException)
# How long one round of maintenance goes on merging days.
MERGE_S: Final = 30.0
# Queries that run or wait; one more is refused.
MAX_QUERIES: Final = 32


class EmbeddedStore:
    """A `Store` in a folder of its own; a lock refuses a second process.

    window_ms, window_points: when the open window is closed and compacted.
    retention_days: for samples without their own; 0 keeps for ever.
    max_disk_percent: a fuller disk takes no more history, before it stops control.
    query_timeout_s, query_samples: a query that takes longer, or reads more, is refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        window_ms: int = 600_000,
        window_points: int = 4_000_000,
        retention_days: int = 0,
        max_disk_percent: float = 95,
        query_timeout_s: float = 30,
        query_samples: int = 100_000_000,
    ) -> None:
        self._folder = folder.resolve()
        self._database = self._folder / "open.sqlite"
        self._raw = Files(self._folder / "parquet")
        self._tiers = Files(self._folder / "tiers")
        self._window_ms = window_ms
        self._window_points = window_points
        self._retention_days = retention_days
        self._max_disk_percent = max_disk_percent
        self._query_timeout_s = query_timeout_s
        self._query_samples = query_samples
        self._writer = ThreadPoolExecutor(1, "history-write")
        self._worker = ThreadPoolExecutor(1, "history-compact")
        self._readers = ThreadPoolExecutor(2, "history-query")
        self._window: Window | None = None
        self._lock = -1
        self._number = 0
        self._closing = False
        self._queries: set[int] = set()
        # Files that left the catalog, and the queries that may still read them.
        self._trash: list[tuple[Files, str, set[int]]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """See `Store.names`."""
        return ("embedded",)

    @property
    def window(self) -> Window:
        """The open window."""
        if self._window is None:
            raise UnavailableError(f"history store {self._folder} is not open")
        return self._window

    async def open(self) -> None:
        """Take the lock, open the database, remove what a crash left outside the catalog."""
        await self._run(self._writer, self._open)

    def _open(self) -> None:
        for files in (self._raw, self._tiers):
            files.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise UnavailableError(f"history store {self._folder} is in use by another process") from error
        try:
            self._window = Window(self._database, window_ms=self._window_ms, window_points=self._window_points)
            self._tidy(self._window)
            self._write_manifest()
        except BaseException:
            if self._window is not None:
                self._window.close()
                self._window = None
            os.close(lock)
            raise
        self._lock = lock

    def _tidy(self, window: Window) -> None:
        """Bring folders and catalog together after a crash; a tier that is lost is made again from its day."""
        known = {file.name for file in window.files()}
        present = _clear(self._raw, known)
        if lost := sorted(known - present):
            _LOG.error("history files are missing and leave the catalog: %s", ", ".join(lost))
            window.switch(add=[], remove=lost)
        present = _clear(self._tiers, set(window.tier_files()))
        broken = [one.raw for one in window.tiers() if not {one.coarse, one.fine} - {None} <= present]
        window.forget_tiers(broken)
        _clear(self._tiers, set(window.tier_files()))

    def _write_manifest(self) -> None:
        """Say in manifest.json which files count: a reader that takes its list sees each sample once."""
        files = [file._asdict() | {"name": f"parquet/{file.name}"} for file in self.window.files()]
        tiers = [tier._asdict() for tier in self.window.tiers()]
        path = self._folder / "manifest.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(
            orjson.dumps({"format": FORMAT, "files": files, "tiers": tiers}, option=orjson.OPT_INDENT_2)
        )
        temporary.rename(path)

    def label(self, of: Callable[[str], Label]) -> None:
        """Measurement, tags and field names are InfluxDB's; here a series is its reference."""

    async def write(self, entries: list[Entry], *, forget_before: EntryId | None = None) -> Written:
        """See `Store.write`."""
        return await self._run(self._writer, lambda: self._write(entries, forget_before))

    def _write(self, entries: list[Entry], forget_before: EntryId | None) -> Written:
        self._room()
        return self.window.write(entries, forget_before, clock.now_ms())

    def _room(self) -> None:
        if (percent := self._disk_percent()) > self._max_disk_percent:
            raise UnavailableError(f"disk {percent:.0f} % full, history stops at {self._max_disk_percent:.0f} %")

    def _disk_percent(self) -> float:
        usage = shutil.disk_usage(self._folder)
        return 100 * (1 - usage.free / usage.total)

    async def load(self, samples: Samples) -> None:
        """See `Store.load`: straight to files of a day, beside the open window."""
        if not samples.series:
            return

        def number() -> LoadedNames:
            self._room()
            return self.window.names_of(samples)

        names = await self._run(self._writer, number)
        compactor = Compactor(self._database, self._raw, self._tiers)
        made = await self._made(compactor, partial(compactor.write_samples, samples, names))
        await self._run(self._writer, lambda: self.window.newest_of(samples, names))
        await self._switch(made, keep_newest=True)

    async def query(self, query: Query) -> dict[str, Points]:
        """See `Store.query`."""
        self.window  # noqa: B018 - an error when closed
        if len(self._queries) >= MAX_QUERIES:
            raise LimitError(f"{MAX_QUERIES} queries run or wait; try again")
        self._number += 1
        number = self._number
        self._queries.add(number)
        limits = source.Limits(self._query_samples, time.monotonic() + self._query_timeout_s)
        try:
            return await self._run(self._readers, lambda: self._answer(query, limits))
        finally:
            self._queries.discard(number)

    def _answer(self, query: Query, limits: source.Limits) -> dict[str, Points]:
        if self._closing:
            raise UnavailableError(f"history store {self._folder} is not open")
        return read.Reader(self._raw, self._tiers, query, source.snapshot(self._database, query), limits).points()

    async def latest(self, series: list[str] | None, *, limit: int, after: str = "") -> list[Latest]:
        """See `Store.latest`."""
        return await self._run(self._writer, lambda: self._latest(series, limit, after))

    def _latest(self, series: list[str] | None, limit: int, after: str) -> list[Latest]:
        window = self.window
        names = sorted(ref for ref in (window.series if series is None else set(series)) if ref > after)
        found = []
        for ref in names:
            number = window.series.get(ref)
            if number is None or window.newest.at_ms[number] < 0:
                continue
            value, reason = window.newest.value[number], window.reasons[window.newest.quality[number]]
            found.append(
                Latest(
                    ref,
                    Point(
                        int(window.newest.at_ms[number]),
                        None if np.isnan(value) else float(value),
                        quality_number(reason),
                        reason,
                    ),
                )
            )
            if len(found) == limit:
                break
        return found

    async def maintain(self, now_ms: int) -> None:
        """Close and compact windows, end retention, merge days with their tiers, and months of tiers."""
        await self._run(self._writer, lambda: self.window.close_due(now_ms))
        compactor = Compactor(self._database, self._raw, self._tiers)
        for number in await self._run(self._writer, self.window.closed_windows):
            await self._switch(await self._made(compactor, partial(compactor.write_window, number)), number)
        files = await self._run(self._writer, self.window.files)
        if old := catalog.expired(files, now_ms, self._retention_days):
            await self._switch(Made(remove=[file.name for file in old]))
        # After a restore every day's tiers are made again: windows are not to wait for that.
        until_s = time.monotonic() + MERGE_S
        while (group := await self._due(now_ms)) and time.monotonic() < until_s:
            await self._merge(compactor, group, now_ms)
        for days in catalog.months_to_merge(await self._run(self._writer, self.window.tiers), now_ms):
            await self._switch(await self._made(compactor, partial(compactor.write_month, days)))
        await self._run(self._worker, self._sweep)

    async def _due(self, now_ms: int) -> list[File]:
        """Return the next files to merge; what one merge made is seen by the next look."""
        files = await self._run(self._writer, self.window.files)
        tiers = await self._run(self._writer, self.window.tiers)
        return next(iter(catalog.days_to_merge(files, tiers, now_ms)), [])

    async def _merge(self, compactor: Compactor, group: list[File], now_ms: int) -> None:
        """Merge files of one day; a file of the first format that crosses midnight becomes one a day."""
        together = Made(remove=[file.name for file in group])
        days = range(group[0].day, group[-1].last_day + 1)
        finished = len(days) == 1 and (days[0] + 1) * DAY_MS + catalog.SETTLE_MS <= now_ms
        for day in days:
            made = await self._made(compactor, partial(compactor.write_day, group, day, finished=finished))
            together.add += made.add
            together.tiers += made.tiers
            together.tiers_of += made.tiers_of
        await self._switch(together)

    async def _made(self, compactor: Compactor, work: Callable[[], Made]) -> Made:
        return await self._run(self._worker, partial(compactor.run, work))

    async def _switch(self, made: Made, window: int | None = None, *, keep_newest: bool = False) -> None:
        def run() -> list[str]:
            unused = self.window.switch(
                add=made.add,
                remove=made.remove,
                window=window,
                tiers=made.tiers,
                tiers_of=made.tiers_of,
                keep_newest=keep_newest,
            )
            self._write_manifest()
            return unused

        unused = await self._run(self._writer, run)
        running = set(self._queries)
        self._trash += [(self._raw, name, running) for name in made.remove]
        self._trash += [(self._tiers, name, running) for name in unused]

    def _sweep(self) -> None:
        """Delete the files that no running query may still open."""
        keep = []
        for files, name, readers in self._trash:
            if readers & self._queries:
                keep.append((files, name, readers))
                continue
            (files.folder / name).unlink(missing_ok=True)
            files.forget(name)
        self._trash = keep

    async def status(self) -> StoreStatus:
        """See `Store.status`."""
        return await self._run(self._writer, self._status)

    def _status(self) -> StoreStatus:
        files = self.window.files()
        newest = int(self.window.newest.at_ms.max(initial=-1))
        return StoreStatus(
            kind="embedded",
            series=len(self.window.series),
            open_points=self.window.open_points(),
            files=len(files),
            bytes=sum(file.bytes for file in files) + self._database.stat().st_size,
            oldest_at_ms=min((file.min_at_ms for file in files), default=None),
            newest_at_ms=newest if newest >= 0 else None,
            disk_percent=round(self._disk_percent(), 1),
        )

    async def close(self) -> None:
        """End running queries, wait for the rest, and release everything."""
        self._closing = True
        for pool in (self._worker, self._readers, self._writer):
            await asyncio.to_thread(pool.shutdown)
        if self._window is not None:
            self._window.close()
            self._window = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        """Run blocking work in one of our threads; a dependency's error becomes `UnavailableError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except _FAILURES as error:
            raise UnavailableError(f"history store {self._folder}: {error}") from error


def _clear(files: Files, known: set[str]) -> set[str]:
    """Remove what the catalog does not know; returns what is there."""
    present = {path.name for path in files.folder.iterdir() if path.is_file()}
    for name in present - known:
        (files.folder / name).unlink()
    return present & known
