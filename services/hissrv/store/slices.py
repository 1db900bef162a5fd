"""Slices of SQLite rows as flat arrays, one element a sample."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.hissrv.store.contract import quality_number
from services.hissrv.store.parquet import SAMPLES, texts

_CHUNK_ROWS = 2048


class Samples(NamedTuple):
    """Samples as columns: series number, instant, image number, value (NaN: none), quality number."""

    series: NDArray[np.int32]
    at_ms: NDArray[np.int64]
    image: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def pick(self, where: NDArray[np.bool_] | NDArray[np.intp]) -> Samples:
        """Return the samples of a mask or of positions."""
        return Samples(self.series[where], self.at_ms[where], self.image[where], self.value[where], self.quality[where])


def chunks(db: sqlite3.Connection, where: str, parameters: tuple[int, ...]) -> Iterator[Samples]:
    """Yield the samples of the rows that match, some thousand rows at a time."""
    cursor = db.execute(
        f"SELECT image, at_ms, series, value, quality FROM rows WHERE {where} ORDER BY arrival",  # noqa: S608 - our own text
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


def unique(samples: Samples, rank: NDArray[np.int64]) -> Samples:
    """Return samples sorted by the rank of their series, then instant: one an instant, of the highest image number."""
    order = np.lexsort((samples.image, samples.at_ms, rank[samples.series]))  # stable: the later one stays
    ordered = samples.pick(order)
    return ordered.pick(last_of_each(ordered.series, ordered.at_ms))


def last_of_each(series: NDArray[Any], at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return a mask of the last of each run of one series and instant."""
    keep = np.ones(len(series), np.bool_)
    keep[:-1] = (series[1:] != series[:-1]) | (at_ms[1:] != at_ms[:-1])
    return keep


def table(samples: Samples, refs: list[str], reasons: list[str]) -> Any:
    """Return samples as the Arrow table of a Parquet file.

    refs: reference by series number; reasons: quality text by quality number.
    """
    return pa.Table.from_arrays(
        [
            texts(samples.series, refs),
            pa.array(samples.at_ms),
            pa.array(samples.value, mask=np.isnan(samples.value)),
            pa.array(numbers_of(reasons)[samples.quality]),
            texts(samples.quality, reasons),
            pa.array(samples.image),
        ],
        schema=SAMPLES,
    )


def numbers_of(reasons: list[str]) -> NDArray[np.uint8]:
    """Return the quality number of each text."""
    return np.array([quality_number(text) for text in reasons], np.uint8)
