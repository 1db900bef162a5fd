"""Slices of SQLite rows as flat arrays, one element a sample."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.hissrv.store.contract import quality_number

_CHUNK_ROWS = 2048


class Samples(NamedTuple):
    """Samples as columns: series number, instant, arrival of the row, value (NaN: none), quality number."""

    series: NDArray[np.int32]
    at_ms: NDArray[np.int64]
    arrival: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def pick(self, where: NDArray[np.bool_] | NDArray[np.intp]) -> Samples:
        """Return the samples of a mask or of positions."""
        return Samples(
            self.series[where], self.at_ms[where], self.arrival[where], self.value[where], self.quality[where]
        )


def chunks(db: sqlite3.Connection, where: str, parameters: tuple[int, ...]) -> Iterator[Samples]:
    """Yield the samples of the rows that match, some thousand rows at a time."""
    cursor = db.execute(
        f"SELECT arrival, at_ms, series, value, quality FROM rows WHERE {where} ORDER BY arrival",  # noqa: S608 - our own text
        parameters,
    )
    while rows := cursor.fetchmany(_CHUNK_ROWS):
        lengths = [len(row[2]) // 4 for row in rows]
        yield Samples(
            np.frombuffer(b"".join([row[2] for row in rows]), np.int32),
            np.repeat(np.array([row[1] for row in rows], np.int64), lengths),
            np.repeat(np.array([row[0] for row in rows], np.int64), lengths),
            np.frombuffer(b"".join([row[3] for row in rows])),
            np.frombuffer(
                b"".join([bytes(n) if row[4] is None else row[4] for row, n in zip(rows, lengths, strict=True)]),
                np.uint8,
            ),
        )


def select(db: sqlite3.Connection, wanted: NDArray[np.bool_], where: str, parameters: tuple[int, ...]) -> Samples:
    """Return the samples of the wanted series (a mask by series number) in the rows that match."""
    parts = [part.pick(wanted[part.series]) for part in chunks(db, where, parameters)]
    if not parts:
        none = np.zeros(0)
        return Samples(none.astype(np.int32), none.astype(np.int64), none.astype(np.int64), none, none.astype(np.uint8))
    return Samples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


SCHEMA = pa.schema(
    [
        pa.field("series", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("quality", pa.uint8(), nullable=False),
        pa.field("reason", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("arrival", pa.int64(), nullable=False),
    ]
)


def table(samples: Samples, refs: list[str], reasons: list[str]) -> pa.Table:
    """Return samples as the Arrow table of a Parquet file.

    refs: reference by series number; reasons: quality text by quality number.
    """
    numbers, index = np.unique(samples.series, return_inverse=True)
    used = pa.array([refs[number] for number in numbers], pa.string())
    quality = np.array([quality_number(text) for text in reasons], np.uint8)[samples.quality]
    return pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), used),
            pa.array(samples.at_ms),
            pa.array(samples.value, mask=np.isnan(samples.value)),
            pa.array(quality),
            pa.DictionaryArray.from_arrays(pa.array(samples.quality.astype(np.int32)), pa.array(reasons, pa.string())),
            pa.array(samples.arrival),
        ],
        schema=SCHEMA,
    )
