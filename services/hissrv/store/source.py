"""What a query reads: the samples in cataloged files and those not yet compacted, of one state of the store."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from libs.errors import LimitError
from services.hissrv.store import slices, stats
from services.hissrv.store.catalog import File, Tier
from services.hissrv.store.contract import GOOD, Query
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.parquet import Files
from services.hissrv.store.segments import overlaps
from services.hissrv.store.slices import Samples
from services.hissrv.store.stats import Integers, Stats
from services.hissrv.store.window import catalog, connect

# Samples held in memory at once, about 100 bytes each.
CHUNK_ROWS: Final = 1_000_000
_SHORTEST_MS: Final = 1000
# Halving has to keep the rows to read below this much more than before: a third.
_SPARES: Final = 3
VALUES: Final = ["at_ms", "value", "quality", "image"]


class Snapshot(NamedTuple):
    """One consistent state of the store: the catalog, and the rows that are not in it, by series in sorted order.

    refs: those of the query the store knows, sorted; `open` numbers its samples by them.
    """

    files: list[File]
    tiers: list[Tier]
    refs: list[str]
    open: Samples
    reasons: list[str]


class Limits(NamedTuple):
    """What a query may cost: rows read from disk, and the instant (monotonic seconds) to be done by."""

    rows: int
    until_s: float


def snapshot(database: Path, query: Query) -> Snapshot:
    """Read the catalog and the open rows of a query in one transaction."""
    db = connect(database, read_only=True)
    try:
        db.execute("BEGIN")
        files, tiers = catalog(db)
        size = int(db.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0]) + 1
        reasons = [text for (text,) in db.execute("SELECT text FROM reasons ORDER BY id")]
        number = np.full(size, -1, np.int32)
        refs: list[str] = []
        for ref in sorted(query.series):
            if row := db.execute("SELECT id FROM series WHERE ref = ?", (ref,)).fetchone():
                number[row[0]] = len(refs)
                refs.append(ref)
        low = -1 if query.carries else query.start_ms
        rows = slices.select(db, number >= 0, "at_ms >= ? AND at_ms < ?", (low, query.end_ms))
        db.execute("COMMIT")
    finally:
        db.close()
    rows = rows._replace(series=number[rows.series])
    return Snapshot(files, tiers, refs, rows, reasons)


class Source:
    """Samples of a state of the store, read within limits."""

    def __init__(self, raw: Files, state: Snapshot, limits: Limits) -> None:
        """Keep what it reads from; nothing is read yet."""
        self.all = np.arange(len(state.refs))
        self._raw = raw
        self._state = state
        self._limits = limits
        self._read = 0

    def refs(self, series: Integers) -> list[str]:
        """Return the references of some series."""
        return [self._state.refs[at] for at in series.tolist()]

    def spend(self, rows: int) -> None:
        """Count what is read; a query that costs too much ends here."""
        self._read += rows
        if self._read > self._limits.rows:
            raise LimitError(
                f"the query reads more than {self._limits.rows} samples; take an interval of 1m, 15m, 1h or 1d "
                "(they are kept ready), a shorter range, or fewer series"
            )
        if time.monotonic() > self._limits.until_s:
            raise LimitError("the query took too long; take a longer interval, a shorter range, or fewer series")

    def chunks(
        self, low: int, high: int, only: Integers | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[int, int, Integers]]:
        """Yield parts of a stretch, in time and series, that fit into memory; of each series in the order of time.

        Files of a window hold a little of every series, those of a day one series after
        the other: what is halved is what spares more.
        """
        series = self.all if only is None else only
        cost = self.cost(low, high, series)
        if cost <= CHUNK_ROWS:
            self.spend(cost)
            yield low, high, series
            return
        middle = (low + high) // 2
        if high - low > 2 * DAY_MS:
            middle -= middle % DAY_MS
        halves = [(low, middle, series), (middle, high, series)]
        spent = sum(self.cost(*half) for half in halves) if high - low > _SHORTEST_MS else 2 * cost
        if len(series) > 1:
            at = len(series) // 2
            parts = [(low, high, series[:at]), (low, high, series[at:])]
            if sum(self.cost(*part) for part in parts) < spent:
                yield from self._each(parts, reverse=reverse)
                return
        if spent * _SPARES > cost * (_SPARES + 1):
            self.spend(cost)  # Neither spares anything: a stretch of one row group.
            yield low, high, series
        else:
            yield from self._each(halves[::-1] if reverse else halves, reverse=reverse)

    def _each(self, parts: list[tuple[int, int, Integers]], *, reverse: bool) -> Iterator[tuple[int, int, Integers]]:
        for low, high, series in parts:
            yield from self.chunks(low, high, series, reverse=reverse)

    def cost(self, low: int, high: int, series: Integers, names: list[str] | None = None) -> int:
        """Return how many rows of files have to be decoded; `names` as of `gather`."""
        refs = self.refs(series)
        names = self._overlapping(low, high) if names is None else names
        return sum(self._raw.cost(name, refs, low, high) for name in names)

    def _overlapping(self, low: int, high: int) -> list[str]:
        return [file.name for file in self._state.files if overlaps(file, low, high)]

    def gather(
        self, low: int, high: int, columns: list[str], only: Integers, names: list[str] | None = None
    ) -> tuple[Integers, dict[str, Any]]:
        """Return the samples in low <= instant < high of some series: one an instant, sorted by both.

        names: the files to read, beside the open window; without, all that may have some.
        """
        refs = self.refs(only)
        names = self._overlapping(low, high) if names is None else names
        found = [self._raw.read(name, refs, low, high, columns) for name in names]
        parts = [(only[read.series], [read.columns[name] for name in columns]) for read in found if len(read.series)]
        keep = (self._state.open.at_ms >= low) & (self._state.open.at_ms < high)
        if len(only) < len(self._state.refs):
            keep &= np.isin(self._state.open.series, only)
        if keep.any():
            inside = self._state.open.pick(keep)
            parts.append((inside.series.astype(np.int64), [self._open_column(inside, name) for name in columns]))
        if not parts:
            return np.zeros(0, np.int64), {name: np.zeros(0, np.int64) for name in columns}
        series = parts[0][0] if len(parts) == 1 else np.concatenate([one for one, _ in parts])
        of = {
            name: parts[0][1][at] if len(parts) == 1 else np.concatenate([one[at] for _, one in parts])
            for at, name in enumerate(columns)
        }
        at_ms = of["at_ms"]
        later = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (at_ms[1:] > at_ms[:-1]))
        if later.all():
            return series, of
        order = np.lexsort((of["image"], at_ms, series))
        order = order[slices.last_of_each(series[order], at_ms[order])]
        return series[order], {name: column[order] for name, column in of.items()}

    def _open_column(self, inside: Samples, name: str) -> Any:
        match name:
            case "at_ms":
                return inside.at_ms
            case "value":
                return inside.value
            case "quality":
                return slices.numbers_of(self._state.reasons)[inside.quality]
            case "reason":
                return np.array(self._state.reasons, object)[inside.quality]
            case _:
                return inside.image

    def stats(self, low: int, high: int, only: Integers, names: list[str] | None = None) -> Stats:
        """Return the samples as rows, one each; arguments as of `gather`."""
        series, of = self.gather(low, high, VALUES, only, names)
        if not len(series):
            return stats.empty()
        return stats.of_samples(series, of["at_ms"], _good(of))


def _good(of: dict[str, Any]) -> Any:
    """Return the values of samples, NaN for those that are not good."""
    return np.where(of["quality"] == GOOD, of["value"], math.nan)
