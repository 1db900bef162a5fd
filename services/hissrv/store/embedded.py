"""The embedded store: SQLite for the last minutes, Parquet for the rest, DuckDB to ask.

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from libs import clock
from libs.errors import LimitError, UnavailableError
from libs.influx.lines import Label
from libs.redis.queue import EntryId
from services.hissrv.store import compact, duck, read
from services.hissrv.store.contract import (
    Entry,
    Latest,
    Point,
    Query,
    StoreStatus,
    Written,
    quality_number,
)
from services.hissrv.store.window import File, Window

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_FAILURES = (sqlite3.Error, duckdb.Error, OSError, pa.ArrowException)


class EmbeddedStore:
    """A `Store` in a folder of its own; a lock refuses a second process.

    window_ms, window_points: when the open window is closed and compacted.
    retention_days: for samples without their own; 0 keeps for ever.
    memory_mb, threads: what DuckDB may use.
    max_disk_percent: a fuller disk takes no more history, before it stops control.
    """

    def __init__(
        self,
        folder: Path,
        *,
        window_ms: int = 600_000,
        window_points: int = 20_000_000,
        retention_days: int = 0,
        memory_mb: int = 256,
        threads: int = 2,
        max_disk_percent: float = 95,
        query_timeout_s: float = 30,
    ) -> None:
        self._folder = folder.resolve()
        self._database = self._folder / "open.sqlite"
        self._parquet = self._folder / "parquet"
        self._window_ms = window_ms
        self._window_points = window_points
        self._retention_days = retention_days
        self._memory_mb = memory_mb
        self._threads = threads
        self._max_disk_percent = max_disk_percent
        self._query_timeout_s = query_timeout_s
        self._writer = ThreadPoolExecutor(1, "history-write")
        self._worker = ThreadPoolExecutor(1, "history-compact")
        self._readers = ThreadPoolExecutor(2, "history-query")
        self._window: Window | None = None
        self._duck: Any = None
        self._lock = -1
        self._queries: set[Any] = set()
        self._trash: list[str] = []

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
        self._parquet.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise UnavailableError(f"history store {self._folder} is in use by another process") from error
        try:
            self._window = Window(self._database, window_ms=self._window_ms, window_points=self._window_points)
            self._tidy(self._window)
            self._duck = duck.connect(self._parquet, memory_mb=self._memory_mb, threads=self._threads)
        except BaseException:
            if self._window is not None:
                self._window.close()
                self._window = None
            os.close(lock)
            raise
        self._lock = lock

    def _tidy(self, window: Window) -> None:
        known = {file.name for file in window.files()}
        present = {path.name for path in self._parquet.iterdir() if path.is_file()}
        for name in present - known:
            (self._parquet / name).unlink()
        if lost := sorted(known - present):
            _LOG.error("history files are missing and leave the catalog: %s", ", ".join(lost))
            window.switch(add=[], remove=lost)
        shutil.rmtree(self._parquet / "spill", ignore_errors=True)

    def label(self, of: Callable[[str], Label]) -> None:
        """Measurement, tags and field names are InfluxDB's; here a series is its reference."""

    async def write(self, entries: list[Entry], *, forget_before: EntryId | None = None) -> Written:
        """See `Store.write`."""
        return await self._run(self._writer, lambda: self._write(entries, forget_before))

    def _write(self, entries: list[Entry], forget_before: EntryId | None) -> Written:
        if (percent := self._disk_percent()) > self._max_disk_percent:
            raise UnavailableError(f"disk {percent:.0f} % full, history stops at {self._max_disk_percent:.0f} %")
        return self.window.write(entries, forget_before, clock.now_ms())

    def _disk_percent(self) -> float:
        usage = shutil.disk_usage(self._folder)
        return 100 * (1 - usage.free / usage.total)

    async def query(self, query: Query) -> dict[str, list[Point]]:
        """See `Store.query`."""
        self.window  # noqa: B018 - an error when closed
        cursor = self._duck.cursor()
        timer = asyncio.get_running_loop().call_later(self._query_timeout_s, cursor.interrupt)
        self._queries.add(cursor)
        try:
            return await self._run(self._readers, lambda: self._answer(cursor, query))
        finally:
            self._queries.discard(cursor)
            timer.cancel()

    def _answer(self, cursor: Any, query: Query) -> dict[str, list[Point]]:
        try:
            return read.Answer(cursor, self._parquet, query, read.snapshot(self._database, query)).points()
        except duckdb.InterruptException as error:
            raise LimitError(f"the query took longer than {self._query_timeout_s:g} s") from error
        finally:
            cursor.close()

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
        """Close and compact windows, merge a finished day's files, drop what retention ended."""
        await self._run(self._writer, lambda: self.window.close_due(now_ms))
        compactor = compact.Compactor(self._database, self._parquet)
        for number in await self._run(self._writer, self.window.closed_windows):
            files = await self._run(self._worker, partial(_written, compactor, number))
            await self._switch(files, [], number)
        catalog = await self._run(self._writer, self.window.files)
        if old := compact.expired(catalog, now_ms, self._retention_days):
            await self._switch([], [file.name for file in old], None)
        for group in compact.mergeable([file for file in catalog if file not in old], now_ms):
            file = await self._run(self._worker, partial(_merged, compactor, group))
            await self._switch([file], [one.name for one in group], None)
        if not self._queries:  # A running query may not have opened its files yet.
            trash, self._trash = self._trash, []
            await self._run(self._worker, partial(self._unlink, trash))

    def _unlink(self, names: list[str]) -> None:
        for name in names:
            (self._parquet / name).unlink(missing_ok=True)

    async def _switch(self, add: list[File], remove: list[str], window: int | None) -> None:
        await self._run(self._writer, lambda: self.window.switch(add=add, remove=remove, window=window))
        self._trash.extend(remove)

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
        for cursor in self._queries:
            cursor.interrupt()
        for pool in (self._worker, self._readers, self._writer):
            await asyncio.to_thread(pool.shutdown)
        if self._duck is not None:
            self._duck.close()
            self._duck = None
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


def _written(compactor: compact.Compactor, window: int) -> list[File]:
    files = compactor.write_window(window)
    compactor.publish(files)
    return files


def _merged(compactor: compact.Compactor, group: list[File]) -> File:
    file = compactor.write_merged(group)
    compactor.publish([file])
    return file
