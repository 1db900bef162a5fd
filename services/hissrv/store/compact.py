"""Compaction: rows of a closed window become Parquet files, small files become daily ones.

Each is three steps, and a crash between any two leaves neither loss nor doubles:

    write    a temporary file, fsynced       a crash leaves a `.tmp`, removed at open
    publish  renamed, the folder fsynced     a crash leaves a file outside the catalog, removed at open
    switch   one SQLite transaction (`Window.switch`) catalogs the new files and drops
             the rows or files they replace  before it the old ones count, after it the new ones
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.hissrv.store import duck, slices
from services.hissrv.store.window import File, connect

DAY_MS: Final = 86_400_000
# Row groups are what a query skips by statistics; 64 k samples keep a point's day in one or two.
ROW_GROUP: Final = 65_536
# Samples sorted in memory at once, about 40 bytes each.
PASS_POINTS: Final = 4_000_000
# A day's small files are merged this long after its end, when its windows are closed.
SETTLE_MS: Final = 1_800_000


class _Writer:
    """A temporary Parquet file that is fsynced when it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.min_at_ms = 2**62
        self.max_at_ms = -1
        self._file = path.open("wb")
        self._parquet = pq.ParquetWriter(
            self._file,
            slices.SCHEMA,
            compression="zstd",
            use_dictionary=["series", "reason"],
            column_encoding={"at_ms": "DELTA_BINARY_PACKED", "arrival": "DELTA_BINARY_PACKED"},
        )

    def add(self, table: pa.Table) -> None:
        """Append sorted samples."""
        if not table.num_rows:
            return
        at_ms = table["at_ms"].to_numpy()
        self.rows += table.num_rows
        self.min_at_ms = min(self.min_at_ms, int(at_ms.min()))
        self.max_at_ms = max(self.max_at_ms, int(at_ms.max()))
        self._parquet.write_table(table, row_group_size=ROW_GROUP)

    def finish(self) -> None:
        """Write the footer and wait for the disk."""
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class Compactor:
    """Turns rows and files into better files; changes the catalog only through `Window.switch`."""

    def __init__(self, database: Path, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def write_window(self, window: int) -> list[File]:
        """Write the rows of a closed window to temporary files, one a retention."""
        db = connect(self._database, read_only=True)
        try:
            refs = [""] * (db.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0] + 1)
            for number, ref in db.execute("SELECT id, ref FROM series"):
                refs[number] = ref
            reasons = [text for (text,) in db.execute("SELECT text FROM reasons ORDER BY id")]
            rank = np.zeros(len(refs), np.int64)
            rank[np.array(sorted(range(len(refs)), key=refs.__getitem__))] = np.arange(len(refs))
            classes = db.execute("SELECT DISTINCT retention FROM rows WHERE window = ?", (window,)).fetchall()
            files = []
            for (retention,) in classes:
                where, parameters = "window = ? AND retention = ?", (window, retention)
                counts = np.zeros(len(refs), np.int64)
                for part in slices.chunks(db, where, parameters):
                    counts += np.bincount(part.series, minlength=len(refs))
                name = f"w{window:010d}-r{retention}.parquet"
                writer = _Writer(self._temporary(name))
                for wanted in _passes(counts, rank):
                    samples = slices.select(db, wanted, where, parameters)
                    order = np.lexsort((samples.arrival, samples.at_ms, rank[samples.series]))
                    writer.add(slices.table(samples.pick(order), refs, reasons))
                files.append(self._finish(writer, name, retention))
            return files
        finally:
            db.close()

    def write_merged(self, files: list[File]) -> File:
        """Write some files' samples to one temporary file, sorted."""
        name = f"m{files[0].name[1:11]}-{files[-1].name[1:11]}-r{files[0].retention}.parquet"
        writer = _Writer(self._temporary(name))
        connection = duck.connect(self._folder)
        try:
            relation = connection.sql(
                "SELECT series, at_ms, value, quality, reason, arrival FROM read_parquet($files) "
                "ORDER BY series, at_ms, arrival",
                params={"files": [str(self._folder / file.name) for file in files]},
            )
            reader = relation.to_arrow_reader(ROW_GROUP * 8)
            for batch in reader:
                writer.add(pa.Table.from_batches([batch]).cast(slices.SCHEMA))
        except duckdb.Error:
            writer.finish()
            writer.path.unlink()
            raise
        finally:
            connection.close()
        return self._finish(writer, name, files[0].retention)

    def publish(self, files: list[File]) -> None:
        """Give the temporary files their names; durable when this returns."""
        for file in files:
            self._temporary(file.name).rename(self._folder / file.name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _temporary(self, name: str) -> Path:
        return self._folder / f"{name}.tmp"

    @staticmethod
    def _finish(writer: _Writer, name: str, retention: int) -> File:
        writer.finish()
        return File(name, writer.min_at_ms, writer.max_at_ms, writer.rows, writer.path.stat().st_size, retention)


def _passes(counts: NDArray[np.int64], rank: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of series, in sorted order, with at most PASS_POINTS samples each (or one series)."""
    ordered = np.argsort(rank)
    group = np.cumsum(counts[ordered]) // PASS_POINTS
    for number in np.unique(group):
        wanted = np.zeros(len(counts), np.bool_)
        wanted[ordered[group == number]] = True
        if counts[wanted].any():
            yield wanted


def mergeable(files: list[File], now_ms: int) -> list[list[File]]:
    """Return groups of window files that may become one: same retention, same finished day of their last sample."""
    groups: dict[tuple[int, int], list[File]] = {}
    for file in files:
        day = file.max_at_ms // DAY_MS
        if file.name.startswith("w") and (day + 1) * DAY_MS + SETTLE_MS <= now_ms:
            groups.setdefault((file.retention, day), []).append(file)
    return [group for group in groups.values() if len(group) > 1]


def expired(files: list[File], now_ms: int, retention_days: int) -> list[File]:
    """Return the files whose newest sample is older than their retention; 0 days keeps for ever."""
    return [
        file for file in files if (days := file.retention or retention_days) and file.max_at_ms < now_ms - days * DAY_MS
    ]
