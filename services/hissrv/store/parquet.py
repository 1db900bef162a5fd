"""Our Parquet files: their columns, how they are written, and how a few series are read from them.

Samples are sorted by series, then instant; rows of the tiers by step, series, then
start. So a series is in a few row groups, which are found by their statistics: a
query decodes those and nothing else. Metadata of files is kept, as files never change.
"""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.hissrv.store.stats import FLOATS, Integers, Stats

# What a query skips by statistics; 64 k samples keep a point's day in one or two, 4 k rows of a tier its month.
ROW_GROUP: Final = 65_536
TIER_GROUP: Final = 4096
_KEEP: Final = 2048
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
SAMPLES: Final = pa.schema(
    [
        pa.field("series", _TEXT, nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("quality", pa.uint8(), nullable=False),
        pa.field("reason", _TEXT, nullable=False),
        pa.field("image", pa.int64(), nullable=False),
    ]
)
_COUNTS: Final = frozenset({"samples", "good", "falls"})
TIERS: Final = pa.schema(
    [
        pa.field("series", _TEXT, nullable=False),
        pa.field("step_ms", pa.int32(), nullable=False),
        pa.field("start_ms", pa.int64(), nullable=False),
        *(
            pa.field(name, pa.float64() if name in FLOATS else pa.int32() if name in _COUNTS else pa.int64())
            for name in Stats._fields[1:]
        ),
    ]
)
_DELTA: Final = ("at_ms", "image", "step_ms", "start_ms", "first_at", "last_at")


class Writer:
    """A temporary Parquet file that is fsynced when it is done."""

    def __init__(self, path: Path, schema: Any, at: str = "at_ms") -> None:
        self.path = path
        self.rows = 0
        self.min_at_ms = 2**62
        self.max_at_ms = -1
        self._at = at
        self._group = TIER_GROUP if schema is TIERS else ROW_GROUP
        self._file = path.open("wb")
        texts = [field.name for field in schema if field.type == _TEXT]
        repeated = [field.name for field in schema if field.type == pa.float64()]
        self._parquet = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            use_dictionary=texts + repeated,
            column_encoding={name: "DELTA_BINARY_PACKED" for name in schema.names if name in _DELTA},
        )

    def add(self, table: Any) -> None:
        """Append sorted rows."""
        if not table.num_rows:
            return
        at_ms = table[self._at].to_numpy()
        self.rows += table.num_rows
        self.min_at_ms = min(self.min_at_ms, int(at_ms.min()))
        self.max_at_ms = max(self.max_at_ms, int(at_ms.max()))
        self._parquet.write_table(table, row_group_size=self._group)

    def finish(self) -> int:
        """Write the footer, wait for the disk; returns the file's size."""
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Close and remove it, whatever state it is in."""
        if not self._file.closed:
            with contextlib.suppress(OSError, pa.ArrowException):  # The disk may be full.
                self._parquet.close()
            with contextlib.suppress(OSError):
                self._file.close()
            self.path.unlink(missing_ok=True)


class Read(NamedTuple):
    """Rows of some series: their number among those asked for, and the columns by name."""

    series: Integers
    columns: dict[str, Any]


class _Index(NamedTuple):
    """A file's metadata, and its row groups: first and last series, instant and step (of a tier), and rows."""

    metadata: Any
    low: list[str]
    high: list[str]
    min_at: Integers
    max_at: Integers
    min_step: Integers
    max_step: Integers
    rows: Integers


class Files:
    """Reads files of one folder; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: OrderedDict[str, _Index] = OrderedDict()
        self._lock = threading.Lock()

    def _index(self, name: str) -> _Index:
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
        metadata = pq.read_metadata(self.folder / name)
        names = metadata.schema.names
        at = names.index("at_ms" if "at_ms" in names else "start_ms")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        texts = [group.column(0).statistics for group in groups]
        instants = [group.column(at).statistics for group in groups]
        step = names.index("step_ms") if "step_ms" in names else None
        steps = [None if step is None else group.column(step).statistics for group in groups]
        index = _Index(
            metadata,
            [one.min for one in texts],
            [one.max for one in texts],
            np.array([one.min for one in instants], np.int64),
            np.array([one.max for one in instants], np.int64),
            np.array([one.min if one else 0 for one in steps], np.int64),
            np.array([one.max if one else 0 for one in steps], np.int64),
            np.array([group.num_rows for group in groups], np.int64),
        )
        with self._lock:
            self._known[name] = index
            while len(self._known) > _KEEP:
                self._known.popitem(last=False)
        return index

    def forget(self, name: str) -> None:
        """Drop what is known of a file that goes."""
        with self._lock:
            self._known.pop(name, None)

    def _groups(self, index: _Index, refs: list[str], low: int, high: int, step: int) -> list[int]:
        found = []
        inside = (index.min_at < high) & (index.max_at >= low)
        if step:
            inside &= (index.min_step <= step) & (index.max_step >= step)
        for number in np.flatnonzero(inside).tolist():
            at = bisect_left(refs, index.low[number])
            if at < len(refs) and refs[at] <= index.high[number]:
                found.append(number)
        return found

    def cost(self, name: str, refs: list[str], low: int, high: int, step: int = 0) -> int:
        """Return how many rows have to be decoded for some series (sorted) in low <= instant < high."""
        index = self._index(name)
        return int(index.rows[self._groups(index, refs, low, high, step)].sum())

    def counts(self, name: str, low: int, high: int) -> dict[str, int]:
        """Return how many rows each series has at most in low <= instant < high."""
        index = self._index(name)
        found: dict[str, int] = {}
        groups = np.flatnonzero((index.min_at < high) & (index.max_at >= low)).tolist()
        with pq.ParquetFile(self.folder / name, metadata=index.metadata, pre_buffer=False) as file:
            for group in groups:
                texts = _dictionary(file.read_row_group(group, ["series"], use_threads=False)["series"])
                numbers = np.bincount(texts.indices.to_numpy(), minlength=len(texts.dictionary))
                for ref, count in zip(texts.dictionary.to_pylist(), numbers.tolist(), strict=True):
                    found[ref] = found.get(ref, 0) + count
        return found

    def read(self, name: str, refs: list[str], low: int, high: int, columns: list[str], step: int = 0) -> Read:
        """Return the rows of some series (sorted) in low <= instant < high, one row group at a time.

        step: of a tier, only row groups that have it; rows of other steps may be among them.
        """
        index = self._index(name)
        groups = self._groups(index, refs, low, high, step)
        found: list[tuple[Integers, list[Any]]] = []
        if groups:
            present = index.metadata.schema.names
            at = "at_ms" if "at_ms" in present else "start_ms"
            # Files of the first format had the number of the write instead of the image number.
            stored = ["arrival" if one == "image" and "image" not in present else one for one in columns]
            wanted = ["series", at, *(one for one in stored if one != at)]
            with pq.ParquetFile(self.folder / name, metadata=index.metadata, pre_buffer=False) as file:
                found = [_one(file.read_row_group(group, wanted, use_threads=False), refs, at, low, high, stored)
                         for group in groups]  # fmt: skip
        if not found:
            return Read(np.zeros(0, np.int64), {name: np.zeros(0) for name in columns})
        return Read(
            np.concatenate([series for series, _ in found]),
            {name: _joined([one[number] for _, one in found]) for number, name in enumerate(columns)},
        )


def _one(table: Any, refs: list[str], at: str, low: int, high: int, columns: list[str]) -> tuple[Integers, list[Any]]:
    """Return series numbers and columns of the wanted rows of a row group."""
    texts = _dictionary(table["series"])
    number_of = {ref: number for number, ref in enumerate(refs)}
    numbers = np.array([number_of.get(text, -1) for text in texts.dictionary.to_pylist()], np.int64)
    series = numbers[texts.indices.to_numpy()]
    at_ms = table[at].to_numpy()
    keep: Any = (series >= 0) & (at_ms >= low) & (at_ms < high)
    first, count = int(keep.argmax()), int(keep.sum())
    if count and keep[first : first + count].all():
        keep = slice(first, first + count)  # One run: no copy.
    return series[keep], [_column(table[name], keep) for name in columns]


def _dictionary(column: Any) -> Any:
    """Return a dictionary column as one array."""
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _column(column: Any, keep: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        texts = _dictionary(column)
        return np.array(texts.dictionary.to_pylist(), object)[texts.indices.to_numpy()[keep]]
    return column.to_numpy()[keep]


def _joined(parts: list[Any]) -> NDArray[Any]:
    joined: NDArray[Any] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return joined


def texts(numbers: NDArray[Any], of: list[str]) -> Any:
    """Return a dictionary column from positions in a list of texts."""
    used, index = np.unique(numbers, return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(index.astype(np.int32)), pa.array([of[one] for one in used], pa.string())
    )


def tier_table(rows: Stats, step_ms: int, refs: list[str]) -> Any:
    """Return folded rows as the table of a tier's file."""
    columns = [
        pa.array(
            column.astype(np.int32) if name in _COUNTS else column, mask=np.isnan(column) if name in FLOATS else None
        )
        for name, column in zip(rows._fields[1:], rows[1:], strict=True)
    ]
    return pa.Table.from_arrays(
        [
            texts(rows.series, refs),
            pa.array(np.full(len(rows.series), step_ms, np.int32)),
            pa.array(rows.first_at - rows.first_at % step_ms),
            *columns,
        ],
        schema=TIERS,
    )


def tier_rows(read: Read) -> Stats:
    """Return a tier's rows as they were folded; columns that were not read are zeros."""
    columns: Any = (
        read.columns[name] if name in FLOATS and name in read.columns
        else read.columns[name].astype(np.int64) if name in read.columns
        else np.zeros(len(read.series), np.float64 if name in FLOATS else np.int64)
        for name in Stats._fields[1:]
    )  # fmt: skip
    return Stats(read.series, *columns)
