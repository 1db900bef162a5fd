"""Files of samples that people exchange: CSV and Parquet, written and read in parts.

Columns: series, at_ms, value, quality, reason; a file to be read needs series,
value and at_ms or time (RFC 3339), may have image, and may leave out the others.
Parquet files of the embedded store can be read as they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from libs.errors import InvalidError, Problem
from libs.instants import MAX_MS
from libs.points import parse_reference
from services.hissrv.store.contract import BAD, GOOD, UNCERTAIN

FORMATS: Final = ("csv", "parquet")
SCHEMA: Final = pa.schema(
    [
        pa.field("series", pa.string()),
        pa.field("at_ms", pa.int64()),
        pa.field("value", pa.float64()),
        pa.field("quality", pa.int64()),
        pa.field("reason", pa.string()),
    ]
)
_KNOWN: Final = {*SCHEMA.names, "image", "time", "arrival"}
_BLOCK_BYTES: Final = 4_000_000
_BATCH_ROWS: Final = 65_536
SHOWN: Final = 20
_REASON_OF: Final = {GOOD: "", UNCERTAIN: "uncertain:imported", BAD: "bad:imported"}
_LONGEST_REASON: Final = 64


class Columns(NamedTuple):
    """Samples as columns. value is NaN where there is none; reason "" is good."""

    series: list[str]
    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    reason: list[str]
    image: NDArray[np.int64]


class Writer:
    """A file that is written in parts; it has its name once it is whole."""

    def __init__(self, path: Path) -> None:
        """Start the file; the format is the name's ending."""
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self.rows = 0
        self._to: Any = (
            pc.CSVWriter(self._temporary, SCHEMA, write_options=pc.WriteOptions(quoting_style="needed"))
            if path.suffix == ".csv"
            else pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
        )

    def add(self, series: str, at_ms: Any, value: Any, quality: Any, reason: list[str]) -> None:
        """Append samples of a series."""
        columns = [
            pa.array([series] * len(at_ms), pa.string()),
            pa.array(at_ms, pa.int64()),
            pa.array(value, pa.float64(), mask=np.isnan(value)),
            pa.array(quality.astype(np.int64)),
            pa.array(reason, pa.string()),
        ]
        self._to.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
        self.rows += len(at_ms)

    def finish(self) -> int:
        """Close it and give it its name; returns its size."""
        self._to.close()
        self._temporary.rename(self._path)
        return self._path.stat().st_size

    def abandon(self) -> None:
        """Close and remove it."""
        self._to.close()
        self._temporary.unlink(missing_ok=True)


def read(path: Path) -> Iterator[tuple[Columns, int]]:
    """Yield the samples of a file in parts, each with how many bytes of the file it stands for.

    Raises:
        InvalidError: the file can't be read, or rows are wrong: the first 20 are named by line.
    """
    problems: list[Problem] = []
    line = 2 if path.suffix == ".csv" else 1
    try:
        for batch, size in _csv(path) if path.suffix == ".csv" else _parquet(path):
            columns = _columns(path, batch, line, problems)
            line += batch.num_rows
            if columns is not None and not problems:
                yield columns, size
            if len(problems) >= SHOWN:
                break
    except (pa.ArrowException, OSError) as error:
        raise InvalidError(f"{path.name} can't be read: {error}") from None
    if problems:
        raise InvalidError(f"{path.name}: {'; '.join(map(str, problems[:SHOWN]))}", problems[:SHOWN])


def _csv(path: Path) -> Iterator[tuple[Any, int]]:
    types = {"series": pa.string(), "at_ms": pa.int64(), "value": pa.float64(), "quality": pa.int64()}
    types |= {"reason": pa.string(), "image": pa.int64(), "time": pa.timestamp("ms", "UTC")}
    options = pc.ConvertOptions(column_types=types, strings_can_be_null=False)
    with pc.open_csv(path, pc.ReadOptions(block_size=_BLOCK_BYTES), convert_options=options) as reader:
        for batch in reader:
            yield batch, _BLOCK_BYTES


def _parquet(path: Path) -> Iterator[tuple[Any, int]]:
    with pq.ParquetFile(path) as file:
        total = max(1, file.metadata.num_rows)
        for batch in file.iter_batches(_BATCH_ROWS):
            yield batch, path.stat().st_size * batch.num_rows // total


def _columns(path: Path, batch: Any, line: int, problems: list[Problem]) -> Columns | None:
    names = batch.schema.names
    if unknown := sorted(set(names) - _KNOWN):
        raise InvalidError(f"{path.name}: unknown columns {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}")
    if "series" not in names or "value" not in names or not {"at_ms", "time"} & set(names):
        raise InvalidError(f"{path.name} needs the columns series, value, and at_ms or time; it has {', '.join(names)}")
    try:
        series = batch["series"].cast(pa.string()).to_pylist()
        instants = (
            batch["at_ms"] if "at_ms" in names else batch["time"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
        )
        at_ms = instants.cast(pa.int64()).to_numpy(zero_copy_only=False)
        value = batch["value"].cast(pa.float64()).to_numpy(zero_copy_only=False)
        quality = batch["quality"].cast(pa.int64()).to_numpy(zero_copy_only=False) if "quality" in names else None
    except pa.ArrowException as error:
        raise InvalidError(f"{path.name} from line {line}: {error}") from None
    known = {ref: _wrong_reference(ref) for ref in set(series)}
    for at, ref in enumerate(series):
        if known[ref]:
            problems.append(Problem(f"line {line + at}", known[ref]))
    bad = ~((at_ms >= 0) & (at_ms <= MAX_MS))
    problems += [Problem(f"line {line + at}", "no instant") for at in np.flatnonzero(bad)[:SHOWN].tolist()]
    infinite = np.flatnonzero(np.isinf(value))[:SHOWN].tolist()
    problems += [Problem(f"line {line + at}", "the value is infinite") for at in infinite]
    if problems:
        return None
    reason = _reasons(batch, names, quality, value)
    image = batch["image"].to_numpy(zero_copy_only=False) if "image" in names else np.zeros(len(series), np.int64)
    return Columns(series, at_ms.astype(np.int64), value, reason, image.astype(np.int64))


def _wrong_reference(ref: str | None) -> str:
    try:
        parse_reference(ref or "")
    except InvalidError as error:
        return str(error)
    return ""


def _reasons(batch: Any, names: list[str], quality: Any, value: NDArray[np.float64]) -> list[str]:
    """Return a text a sample; where only the number is given, one that says so."""
    if "reason" in names:
        found = [str(text or "")[:_LONGEST_REASON] for text in batch["reason"].cast(pa.string()).to_pylist()]
    else:
        found = [""] * len(value)
    if quality is None:
        return [
            text or ("bad:imported" if missing else "") for text, missing in zip(found, np.isnan(value), strict=True)
        ]
    numbers = np.where(np.isnan(quality), GOOD, quality).astype(np.int64).tolist()
    return [
        text
        or _REASON_OF.get(
            number, "bad:imported" if number < UNCERTAIN else "uncertain:imported" if number < GOOD else ""
        )
        for text, number in zip(found, numbers, strict=True)
    ]
