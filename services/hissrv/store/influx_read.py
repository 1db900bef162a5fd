"""InfluxQL for a query: the server's aggregates where they are exactly ours, else its samples for our own SQL."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np

from libs.influx.lines import Label, clean, tags_of
from services.hissrv.store import stats
from services.hissrv.store.answer import reason_of
from services.hissrv.store.contract import GOOD, Aggregate, Fill, Point, Query
from services.hissrv.store.stats import Stats

# InfluxDB keeps instants as int64 nanoseconds.
_LIMIT_MS: Final = 9_223_372_036_000
MAX_SAMPLES: Final = 2_000_000
IDENTITY: Final = ("service", "channel", "model", "type", "point")
_EXACT: Final = frozenset(
    {
        Aggregate.MIN, Aggregate.MAX, Aggregate.SUM, Aggregate.COUNT, Aggregate.FIRST, Aggregate.LAST,
    }
)  # fmt: skip


def exact(query: Query) -> bool:
    """Say whether the server's own aggregate gives our answer: nothing crosses an interval's edge."""
    plain = not query.zone and not query.months
    return query.aggregate in _EXACT and query.fill in {Fill.NONE, Fill.NULL, Fill.LINEAR} and plain


def name(text: str) -> str:
    """Quote an identifier."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def source(ref: str, label: Label) -> str:
    """Return FROM and the condition on the tags of a series."""
    tags = tags_of(ref, label)
    where = " AND ".join(f"{name(tag)} = {_literal(tags[tag])}" for tag in IDENTITY if tag in tags)
    return f"FROM {name(clean(label.measurement))} WHERE {where}"


def _between(query: Query) -> str:
    start = max(-_LIMIT_MS, min(query.start_ms, _LIMIT_MS))
    return f"time >= {start}ms AND time < {max(-_LIMIT_MS, min(query.end_ms, _LIMIT_MS))}ms"


def raw(query: Query, ref: str, label: Label) -> str:
    """Return the statement for the samples of a range; raw points need no more than the limit."""
    limit = query.limit if query.aggregate is None else MAX_SAMPLES + 1
    return (
        f'SELECT {name(label.field)}, "quality" {source(ref, label)} AND {_between(query)} '
        f"ORDER BY time {query.order.upper() if query.aggregate is None else 'ASC'} LIMIT {limit}"
    )


def before(query: Query, ref: str, label: Label, *, good: bool) -> str:
    """Return the statement for the newest sample, or the newest good one, before a range."""
    start = max(-_LIMIT_MS, min(query.start_ms, _LIMIT_MS))
    only = ' AND "quality" = 192' if good else ""
    return (
        f'SELECT {name(label.field)}, "quality" {source(ref, label)} AND time < {start}ms{only} '
        "ORDER BY time DESC LIMIT 1"
    )


def buckets(query: Query, ref: str, label: Label) -> tuple[str, str]:
    """Return the statements for the good values and the sample counts by interval."""
    group = f" GROUP BY time({query.interval_ms}ms) fill(none)" if query.interval_ms else ""
    value, where = name(label.field), f"{source(ref, label)} AND {_between(query)}"
    aggregate = f"{query.aggregate}({value})"
    return (
        f'SELECT {aggregate}, count({value}) AS good {where} AND "quality" = 192{group}',
        f'SELECT count("quality") AS samples {where}{group}',
    )


def newest(measurement: str, field: str) -> str:
    """Return the statement for the newest sample of every series of a measurement."""
    tags = ", ".join(name(tag) for tag in IDENTITY)
    return f'SELECT {name(field)}, "quality" FROM {name(measurement)} GROUP BY {tags} ORDER BY time DESC LIMIT 1'  # noqa: S608 - quoted


def merge(query: Query, good: list[dict[str, Any]], samples: list[dict[str, Any]]) -> Stats:
    """Return the intervals that have samples, from the answers to `buckets`; only what the aggregate needs is set."""
    values = {row[0]: row[1:] for row in rows(good)}
    at_ms, value, counts, goods = [], [], [], []
    for at, count in rows(samples):
        if not count:
            continue
        found, number = values.get(at) or (None, 0)
        # A value above zero says that there is one; where there is none the mean of nothing is no number.
        at_ms.append(max(at, query.start_ms) if query.interval_ms else query.start_ms)
        value.append(math.nan if not number or found is None else float(found))
        counts.append(int(count))
        goods.append(int(number or 0))
    made = stats.of_samples(np.zeros(len(at_ms), np.int64), np.array(at_ms, np.int64), np.array(value, np.float64))
    return made._replace(samples=np.array(counts, np.int64), good=np.array(goods, np.int64))


def rows(series: list[dict[str, Any]]) -> list[list[Any]]:
    """Return the rows of an answer about one series."""
    return [row for one in series for row in one.get("values") or ()]


def point(row: list[Any]) -> Point:
    """Return the point of a raw row (instant, value, quality)."""
    at_ms, value, quality = row
    number = GOOD if quality is None else int(quality)
    return Point(int(at_ms), None if value is None else float(value), number, reason_of(number))


_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


def reference(tags: dict[str, str]) -> str | None:
    """Return the reference of a series by its tags; None where it is not one of ours."""
    parts = [tags.get("service"), tags.get("channel") or tags.get("model"), tags.get("type"), tags.get("point")]
    if tags.get("model") and not tags.get("channel"):
        del parts[2]
    if not all(part and _WORD.fullmatch(part) for part in parts):
        return None
    return ":".join(str(part) for part in parts)
