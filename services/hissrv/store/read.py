"""Queries: cataloged Parquet files and the rows not yet compacted, seen as one table."""

from __future__ import annotations

import itertools
import math
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from services.hissrv.store import slices
from services.hissrv.store.buckets import Bucket, Carry, columns, finish
from services.hissrv.store.contract import Aggregate, Fill, Order, Point, Query
from services.hissrv.store.window import File, connect

# Files searched at once for what a series was before the range, newest first.
_CARRY_FILES = 16


class Snapshot(NamedTuple):
    """One consistent state of the store: a catalog and the rows that are not in it."""

    files: list[File]
    inside: pa.Table
    before: pa.Table


class _Held(NamedTuple):
    """The newest sample of a series before a range, and the newest good one."""

    order: tuple[int, int] = (-1, -1)
    value: float = math.nan
    good_order: tuple[int, int] = (-1, -1)
    good_value: float = math.nan


def snapshot(database: Path, query: Query) -> Snapshot:
    """Read the catalog and the open rows of a query in one transaction."""
    db = connect(database, read_only=True)
    try:
        db.execute("BEGIN")
        files = [File(*row) for row in db.execute("SELECT * FROM files ORDER BY max_at_ms DESC")]
        size = int(db.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0]) + 1
        reasons = [text for (text,) in db.execute("SELECT text FROM reasons ORDER BY id")]
        wanted, refs = np.zeros(size, np.bool_), [""] * size
        for ref in query.series:
            row = db.execute("SELECT id FROM series WHERE ref = ?", (ref,)).fetchone()
            if row:
                wanted[row[0]], refs[row[0]] = True, ref
        inside = _rows(db, wanted, "at_ms >= ? AND at_ms < ?", (query.start_ms, query.end_ms), refs, reasons)
        where, bound = ("at_ms < ?", query.start_ms) if _needs_carry(query) else ("at_ms < ?", -1)
        before = _rows(db, wanted, where, (bound,), refs, reasons)
        db.execute("COMMIT")
    finally:
        db.close()
    return Snapshot(files, inside, before)


def _rows(
    db: sqlite3.Connection, wanted: Any, where: str, parameters: tuple[int, ...], refs: list[str], reasons: list[str]
) -> pa.Table:
    return slices.table(slices.select(db, wanted, where, parameters), refs, reasons)


def _needs_carry(query: Query) -> bool:
    return query.fill is Fill.PREVIOUS or (
        query.aggregate is not None and (query.aggregate.timed or query.aggregate is Aggregate.DELTA)
    )


class Answer:
    """Answers one query on one DuckDB cursor."""

    def __init__(self, cursor: Any, folder: Path, query: Query, state: Snapshot) -> None:
        self._cursor = cursor
        self._folder = folder
        self._query = query
        self._state = state

    def points(self) -> dict[str, list[Point]]:
        """Return the points by series."""
        carry = self._carry() if _needs_carry(self._query) else {}
        files = [
            file
            for file in self._state.files
            if file.min_at_ms < self._query.end_ms and file.max_at_ms >= self._query.start_ms
        ]
        if self._query.aggregate is None:
            return {ref: self._raw(ref, files, carry.get(ref, _Held())) for ref in self._query.series}
        return self._buckets(files, carry)

    def _source(self, files: list[File], rows: pa.Table) -> tuple[str, dict[str, Any]]:
        """Return the SQL and parameters of the samples in some files and rows."""
        self._cursor.register("open_rows", rows)
        names = "series, at_ms, value, quality, reason, arrival"
        sources = [f"SELECT {names} FROM open_rows"] if rows.num_rows or not files else []  # noqa: S608 - constants
        parameters: dict[str, Any] = {}
        if files:
            sources.append(f"SELECT {names} FROM read_parquet($files)")  # noqa: S608 - constants
            parameters["files"] = [str(self._folder / file.name) for file in files]
        return "(" + " UNION ALL ".join(sources) + ")", parameters

    def _raw(self, ref: str, files: list[File], held: _Held) -> list[Point]:
        query = self._query
        source, parameters = self._source(files, self._state.inside)
        direction = "DESC" if query.order is Order.DESC else "ASC"
        rows = self._cursor.execute(
            f"SELECT at_ms, value, quality, reason FROM {source} "  # noqa: S608 - constants
            "WHERE series = $ref AND at_ms >= $start AND at_ms < $end "
            f"ORDER BY at_ms {direction}, arrival {direction} LIMIT $limit",
            {**parameters, "ref": ref, "start": query.start_ms, "end": query.end_ms, "limit": query.limit},
        ).fetchall()
        points = [Point(at_ms, value, quality, reason or "") for at_ms, value, quality, reason in rows]
        if query.fill is Fill.PREVIOUS and not math.isnan(held.value):
            point = Point(query.start_ms, held.value, 192)
            if query.order is Order.ASC and not (points and points[0].at_ms == query.start_ms):
                points = [point, *points][: query.limit]
            elif (
                query.order is Order.DESC
                and len(points) < query.limit
                and not (points and points[-1].at_ms == query.start_ms)
            ):
                points.append(point)
        return points

    def _buckets(self, files: list[File], carry: dict[str, _Held]) -> dict[str, list[Point]]:
        query = self._query
        source, parameters = self._source(files, self._state.inside)
        bucket = "at_ms - at_ms % $step" if query.interval_ms else "$start"
        samples = (
            f"SELECT series, at_ms, arrival, CASE WHEN quality = 192 THEN value END AS v, {bucket} AS bucket "  # noqa: S608 - constants
            f"FROM {source} WHERE series IN (SELECT unnest($refs)) AND at_ms >= $start AND at_ms < $end"
        )
        step = {"step": query.interval_ms} if query.interval_ms else {}
        if query.aggregate is not None and query.aggregate.timed:
            edge = "least(bucket + $step, $edge)" if query.interval_ms else "$edge"
            samples = (
                "SELECT *, greatest(0, least($edge, coalesce(lead(at_ms) OVER ("  # noqa: S608 - constants
                f"PARTITION BY series, bucket ORDER BY at_ms, arrival), {edge})) - at_ms) AS span_ms FROM ({samples})"
            )
            parameters["edge"] = min(query.end_ms, query.now_ms)
        rows = self._cursor.execute(
            f"SELECT series, bucket, {columns(query)} FROM ({samples}) GROUP BY series, bucket ORDER BY series, bucket",  # noqa: S608 - constants
            {**parameters, **step, "refs": query.series, "start": query.start_ms, "end": query.end_ms},
        ).fetchall()
        found: dict[str, list[Bucket]] = {ref: [] for ref in query.series}
        for ref, group in itertools.groupby(rows, key=lambda row: row[0]):
            found[ref] = [_bucket(row) for row in group]
        return {
            ref: finish(query, found[ref], Carry(held.value, held.good_value))
            for ref in query.series
            for held in [carry.get(ref, _Held())]
        }

    def _carry(self) -> dict[str, _Held]:
        """Return what each series was just before the range: rows first, then files, newest first."""
        query = self._query
        found = {ref: _Held() for ref in query.series}
        self._look_before(found, [], self._state.before)
        files = [file for file in self._state.files if file.min_at_ms < query.start_ms]
        while files:
            reach = min(query.start_ms, files[0].max_at_ms)
            # Only delta asks for the last good value behind a bad one.
            missing = [
                ref
                for ref, held in found.items()
                if (held.good_order if query.aggregate is Aggregate.DELTA else held.order)[0] <= reach
            ]
            if not missing:
                break
            self._look_before(found, files[:_CARRY_FILES], self._state.before.slice(0, 0))
            files = files[_CARRY_FILES:]
        return found

    def _look_before(self, found: dict[str, _Held], files: list[File], rows: pa.Table) -> None:
        source, parameters = self._source(files, rows)
        answer = self._cursor.execute(
            "SELECT series, max((at_ms, arrival)), arg_max(coalesce(v, 'nan'::DOUBLE), (at_ms, arrival)), "  # noqa: S608 - constants
            "max((at_ms, arrival)) FILTER (v IS NOT NULL), arg_max(v, (at_ms, arrival)) FROM ("
            f"SELECT series, at_ms, arrival, CASE WHEN quality = 192 THEN value END AS v FROM {source} "
            "WHERE series IN (SELECT unnest($refs)) AND at_ms < $start) GROUP BY series",
            {**parameters, "refs": list(found), "start": self._query.start_ms},
        ).fetchall()
        for ref, order, value, good_order, good_value in answer:
            held = found[ref]
            if tuple(order) > held.order:
                held = held._replace(order=tuple(order), value=value)
            if good_order is not None and tuple(good_order) > held.good_order:
                held = held._replace(good_order=tuple(good_order), good_value=good_value)
            found[ref] = held


def _bucket(row: tuple[Any, ...]) -> Bucket:
    _, start_ms, samples, good, value, first, last, held, first_at_ms, inner, covered_ms = row
    return Bucket(
        start_ms,
        samples,
        good,
        _number(value),
        _number(first),
        _number(last),
        _number(held),
        first_at_ms or 0,
        _number(inner),
        int(covered_ms or 0),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
