"""Compaction: rows of a closed window become Parquet files, files of a day become one, days' tiers a month's.

Each is three steps, and a crash between any two leaves neither loss nor doubles:

    write    temporary files, fsynced         a crash leaves `.tmp` files, removed at open
    publish  renamed, the folders fsynced     a crash leaves files outside the catalog, removed at open
    switch   one SQLite transaction (`Window.switch`) catalogs the new files and drops
             the rows or files they replace   before it the old ones count, after it the new ones

Memory is bounded: series are taken in passes of at most PASS_SAMPLES samples (or one series).
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.hissrv.store import parquet, slices, stats
from services.hissrv.store.catalog import COARSE_MS, MINUTE_MS, File, Tier, day_text, month_of
from services.hissrv.store.contract import GOOD, Samples
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.parquet import Files, Writer
from services.hissrv.store.stats import Floats, Integers, Stats
from services.hissrv.store.window import LoadedNames, connect, next_number

# Samples sorted in memory at once, about 200 bytes each; and those that are folded to minutes at once.
PASS_SAMPLES: Final = 500_000
PIECE_SAMPLES: Final = 65_536
# Fine tiers that would not be this many times smaller than the samples are left out.
WORTH: Final = 3
_COLUMNS: Final = ["at_ms", "value", "quality", "reason", "image"]
_TIER: Final = ["step_ms", "start_ms", *Stats._fields[1:]]
_EVER: Final = (-(2**62), 2**62)


@dataclass
class Made:
    """New files and what they replace: the arguments of `Window.switch`."""

    add: list[File] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    tiers: list[tuple[str, int, int]] = field(default_factory=list)
    tiers_of: list[Tier] = field(default_factory=list)


class Compactor:
    """Turns rows and files into better files; the catalog is changed only through `Window.switch`."""

    def __init__(self, database: Path, raw: Files, tiers: Files) -> None:
        self._database = database
        self._raw = raw
        self._tiers = tiers
        self._writers: list[Writer] = []

    def run(self, write: Callable[[], Made]) -> Made:
        """Write and publish; what fails (a full disk) leaves no temporary file and no open one."""
        self._writers = []
        try:
            made = write()
            self.publish(made)
        except BaseException:
            for writer in self._writers:
                writer.abandon()
            raise
        return made

    def write_window(self, window: int) -> Made:
        """Write the rows of a closed window to temporary files, one a day and retention."""
        made = Made()
        db = connect(self._database, read_only=True)
        try:
            refs = [""] * (db.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0] + 1)
            for number, ref in db.execute("SELECT id, ref FROM series"):
                refs[number] = ref
            reasons = [text for (text,) in db.execute("SELECT text FROM reasons ORDER BY id")]
            rank = np.zeros(len(refs), np.int64)
            rank[np.array(sorted(range(len(refs)), key=refs.__getitem__))] = np.arange(len(refs))
            parts = db.execute(
                "SELECT DISTINCT retention, at_ms / ? FROM rows WHERE window = ? ORDER BY 2, 1",
                (DAY_MS, window),
            ).fetchall()
            for retention, day in parts:
                where = "window = ? AND retention = ? AND at_ms >= ? AND at_ms < ?"
                parameters = (window, retention, day * DAY_MS, (day + 1) * DAY_MS)
                raw, fine = self._pair("w", day, retention)
                for wanted in _passes(_counts(db, where, parameters, len(refs)), rank):
                    samples = slices.unique(slices.select(db, wanted, where, parameters), rank)
                    _add(raw, fine, samples, refs, reasons)
                _finish(made, raw, fine, day, retention)
            return made
        finally:
            db.close()

    def write_samples(self, samples: Samples, names: LoadedNames) -> Made:
        """Write loaded samples to temporary files, one a day."""
        refs = [""] * (int(names.series.max()) + 1)
        for number, ref in names.refs.items():
            refs[number] = ref
        rank = np.zeros(len(refs), np.int64)
        rank[np.array(sorted(range(len(refs)), key=refs.__getitem__))] = np.arange(len(refs))
        flat = slices.Samples(names.series, samples.at_ms, samples.image, samples.value, names.quality)
        made = Made()
        for day in np.unique(samples.at_ms // DAY_MS).tolist():
            raw, fine = self._pair("w", day, 0)
            found = slices.unique(flat.pick(samples.at_ms // DAY_MS == day), rank)
            _add(raw, fine, found, refs, names.reasons)
            _finish(made, raw, fine, day, 0)
        return made

    def write_day(self, files: list[File], day: int, *, finished: bool) -> Made:
        """Write what some files hold of a day to one temporary file; of a finished day, with all its tiers."""
        retention = files[0].retention
        low, high = (day * DAY_MS, (day + 1) * DAY_MS)
        kind = "d" if finished else "m" if files[0].kind == "w" else "n"
        raw, fine = self._pair(kind, day, retention)
        coarse = self._writer(self._tiers, f"c{day_text(day)}-r{retention}", parquet.TIERS, "start_ms")
        for refs in _batches(self._raw, files, low, high):
            read = _merged(self._raw, files, refs, low, high)
            raw.add(_table(read, refs))
            value = np.where(read.columns["quality"] == GOOD, read.columns["value"], np.nan)
            minutes = _minutes(fine, read.series, read.columns["at_ms"], value, refs)
            if finished:
                _write_coarse(coarse, minutes, refs)
        made = Made(remove=[file.name for file in files])
        _finish(made, raw, fine, day, retention, coarse)
        return made

    def write_month(self, days: list[Tier]) -> Made:
        """Write the coarse tiers of a month's days to one temporary file."""
        year, month = month_of(days[0].day)
        name = f"q{year}{month:02d}-r{days[0].retention}"
        writer = self._writer(self._tiers, name, parquet.TIERS, "start_ms")
        of: dict[str, list[int]] = {}
        for tier in days:
            of.setdefault(tier.coarse or "", []).append(tier.day)
        files = [
            File(coarse, numbers[0] * DAY_MS, (numbers[-1] + 1) * DAY_MS, 0, 0, 0) for coarse, numbers in of.items()
        ]
        for refs in _batches(self._tiers, files, *_EVER):
            parts: list[parquet.Read] = []
            for coarse, numbers in of.items():
                read = self._tiers.read(coarse, refs, *_EVER, _TIER)
                parts.append(_where(read, np.isin(read.columns["start_ms"] // DAY_MS, numbers)))
            joined = _join(parts)
            order = np.lexsort((joined.columns["start_ms"], joined.series, joined.columns["step_ms"]))
            read = _where(joined, order)
            if len(read.series):
                columns = [read.columns[name] for name in _TIER]
                writer.add(_typed([parquet.texts(read.series, refs), *columns], parquet.TIERS))
        new = _name(writer)
        return Made(tiers=[(new, writer.rows, writer.finish())], tiers_of=[one._replace(coarse=new) for one in days])

    def publish(self, made: Made) -> None:
        """Give the temporary files their names; durable when this returns."""
        for folder, names in (
            (self._raw.folder, [file.name for file in made.add]),
            (self._tiers.folder, [name for name, _, _ in made.tiers]),
        ):
            for name in names:
                (folder / f"{name}.tmp").rename(folder / name)
            if names:
                sync(folder)

    def _pair(self, kind: str, day: int, retention: int) -> tuple[Writer, Writer]:
        """Start a file of samples and that of its one-minute rows."""
        name = f"{day_text(day)}-r{retention}"
        return (
            self._writer(self._raw, f"{kind}{name}", parquet.SAMPLES),
            self._writer(self._tiers, f"f{name}", parquet.TIERS, "start_ms"),
        )

    def _writer(self, files: Files, name: str, schema: Any, at: str = "at_ms") -> Writer:
        writer = Writer(files.folder / f"{name}-{next_number(self._database):08d}.parquet.tmp", schema, at)
        self._writers.append(writer)
        return writer


def sync(folder: Path) -> None:
    """Make a folder's names durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _name(writer: Writer) -> str:
    return writer.path.name.removesuffix(".tmp")


def _finish(made: Made, raw: Writer, fine: Writer, day: int, retention: int, coarse: Writer | None = None) -> None:
    """Finish a file of samples and its tiers; one without rows leaves none."""
    if raw.rows:
        size = raw.finish()
        made.add.append(File(_name(raw), raw.min_at_ms, raw.max_at_ms, raw.rows, size, retention))
        minutes = fine if fine.rows * WORTH <= raw.rows else None
        longer = coarse if coarse and coarse.rows else None
        made.tiers += [(_name(one), one.rows, one.finish()) for one in (minutes, longer) if one]
        names = [_name(one) if one else None for one in (minutes, longer)]
        made.tiers_of.append(Tier(_name(raw), day, retention, *names))
    for writer in (raw, fine, coarse):
        if writer:
            writer.abandon()


def _add(raw: Writer, fine: Writer, samples: slices.Samples, refs: list[str], reasons: list[str]) -> None:
    """Write samples and their one-minute rows."""
    raw.add(slices.table(samples, refs, reasons))
    value = np.where(slices.numbers_of(reasons)[samples.quality] == GOOD, samples.value, np.nan)
    _minutes(fine, samples.series.astype(np.int64), samples.at_ms, value, refs)


def _counts(db: sqlite3.Connection, where: str, parameters: tuple[int, ...], size: int) -> NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    for part in slices.chunks(db, where, parameters):
        counts += np.bincount(part.series, minlength=size)
    return counts


def _passes(counts: NDArray[np.int64], rank: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of series, in sorted order, with about PASS_SAMPLES samples each (or one series)."""
    ordered = np.argsort(rank)
    group = np.cumsum(counts[ordered]) // PASS_SAMPLES
    for number in np.unique(group):
        wanted = np.zeros(len(counts), np.bool_)
        wanted[ordered[group == number]] = True
        if counts[wanted].any():
            yield wanted


def _batches(files: Files, of: list[File], low: int, high: int) -> Iterator[list[str]]:
    """Yield sorted series of some files, with about PASS_SAMPLES rows each (or one series)."""
    counts: dict[str, int] = {}
    for file in of:
        for ref, count in files.counts(file.name, low, high).items():
            counts[ref] = counts.get(ref, 0) + count
    batch: list[str] = []
    size = 0
    for ref in sorted(counts):
        if batch and size + counts[ref] > PASS_SAMPLES:
            yield batch
            batch, size = [], 0
        batch.append(ref)
        size += counts[ref]
    if batch:
        yield batch


def _merged(files: Files, of: list[File], refs: list[str], low: int, high: int) -> parquet.Read:
    joined = _join([files.read(file.name, refs, low, high, _COLUMNS) for file in of])
    order = np.lexsort((joined.columns["image"], joined.columns["at_ms"], joined.series))
    ordered = _where(joined, order)
    return _where(ordered, slices.last_of_each(ordered.series, ordered.columns["at_ms"]))


def _join(parts: list[parquet.Read]) -> parquet.Read:
    parts = [part for part in parts if len(part.series)] or parts[:1]
    return parquet.Read(
        np.concatenate([part.series for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )


def _where(read: parquet.Read, where: Any) -> parquet.Read:
    return parquet.Read(read.series[where], {name: column[where] for name, column in read.columns.items()})


def _typed(columns: list[Any], schema: Any) -> Any:
    arrays = [
        column if isinstance(column, pa.Array)
        else pa.array(column, one.type, mask=np.isnan(column) if one.type == pa.float64() else None)
        for column, one in zip(columns, schema, strict=True)
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)


def _table(read: parquet.Read, refs: list[str]) -> Any:
    if not len(read.series):
        return parquet.SAMPLES.empty_table()
    names, number = np.unique(read.columns["reason"].astype(str), return_inverse=True)
    columns = read.columns | {"reason": parquet.texts(number, names.tolist())}
    return _typed([parquet.texts(read.series, refs), *(columns[name] for name in _COLUMNS)], parquet.SAMPLES)


def _minutes(fine: Writer, series: Integers, at_ms: Integers, value: Floats, refs: list[str]) -> Stats:
    """Write and return one-minute rows of sorted samples; value is NaN where a sample is not good."""
    if not len(series):
        return stats.empty()
    starts = stats.groups(series, at_ms // MINUTE_MS)
    pieces = np.searchsorted(starts, np.arange(0, starts[-1] + 1, PIECE_SAMPLES))
    cuts = np.append(np.unique(starts[pieces]), len(series))
    parts = [
        stats.tier(stats.of_samples(series[low:high], at_ms[low:high], value[low:high]), MINUTE_MS)
        for low, high in itertools.pairwise(cuts.tolist())
    ]
    rows = stats.concatenate(parts)
    fine.add(parquet.tier_table(rows, MINUTE_MS, refs))
    return rows


def _write_coarse(coarse: Writer, rows: Stats, refs: list[str]) -> None:
    """Write the longer tiers of one-minute rows, sorted by step, series and start."""
    if not len(rows.series):
        return
    tables = []
    for step in COARSE_MS:
        rows = stats.tier(rows, step)
        tables.append((rows, step))
    joined = pa.concat_tables([parquet.tier_table(one, step, refs) for one, step in tables])
    series = np.concatenate([one.series for one, _ in tables])
    order = np.lexsort((joined["start_ms"].to_numpy(), series, joined["step_ms"].to_numpy()))
    coarse.add(joined.take(pa.array(order)))
