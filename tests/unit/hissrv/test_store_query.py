"""The embedded store's answers against plain lists, whatever is compacted, merged or still open."""

from __future__ import annotations

import asyncio
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.redis.queue import EntryId
from services.hissrv.store.contract import (
    Aggregate,
    Entry,
    Fill,
    Order,
    Part,
    Point,
    Query,
    quality_number,
)
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore

SERIES = ["comsrv:1001:T:1", "comsrv:1001:T:2", "comsrv:7:S:1"]
END_MS = 400


class Sample(NamedTuple):
    """A sample as the oracle keeps it, in the order of arrival."""

    at_ms: int
    value: float
    quality: str

    @property
    def good(self) -> bool:
        return self.quality == "" and not math.isnan(self.value)


quality_texts = st.sampled_from(["", "", "", "bad:timeout", "uncertain:substituted"])
samples = st.tuples(st.sampled_from(SERIES), st.integers(-1000, 1000).map(float), quality_texts)
parts = st.tuples(st.integers(0, END_MS), st.lists(samples, min_size=1, max_size=3, unique_by=lambda sample: sample[0]))
histories = st.lists(st.tuples(parts, st.sampled_from(["open", "open", "close", "compact"])), max_size=14)


Form = tuple[Aggregate | None, Fill, tuple[Order, int]]
FORMS: list[Form] = list(itertools.product([None, *Aggregate], Fill, [(Order.ASC, 1000), (Order.DESC, 3)]))


def oracle(history: list[Sample], query: Query) -> list[Point]:
    """Answer a query from the definitions in contract.py, millisecond by millisecond where time is integrated."""
    newest = {sample.at_ms: sample for sample in history}  # of two at one instant the later one stays
    ordered = [newest[at_ms] for at_ms in sorted(newest)]
    inside = [sample for sample in ordered if query.start_ms <= sample.at_ms < query.end_ms]
    if query.aggregate is None:
        points = [
            Point(s.at_ms, None if math.isnan(s.value) else s.value, quality_number(s.quality), s.quality)
            for s in inside
        ]
        before = [sample for sample in ordered if sample.at_ms < query.start_ms]
        if (
            query.fill is Fill.PREVIOUS
            and before
            and before[-1].good
            and (not points or points[0].at_ms != query.start_ms)
        ):
            points.insert(0, Point(query.start_ms, before[-1].value, 192))
    else:
        step = query.interval_ms
        first = query.start_ms - query.start_ms % step if step else query.start_ms
        points = [
            point
            for begin in range(first, query.end_ms, step or END_MS * 10)
            for point in bucket(ordered, query, max(begin, query.start_ms), begin, begin + (step or END_MS * 10))
        ]
        points = filled(points, query, list(range(first, query.end_ms, step or END_MS * 10)))
    return (points[::-1] if query.order is Order.DESC else points)[: query.limit]


def filled(points: list[Point], query: Query, labels: list[int]) -> list[Point]:
    """Put nulls or lines where intervals have no value."""
    by_label = {point.at_ms: point for point in points}
    if query.fill is Fill.NULL:
        return [by_label.get(at, Point(at, None, 0, share=0.0)) for at in labels if at in by_label or at < query.now_ms]
    if query.fill is Fill.LINEAR:
        known = [point for point in points if point.value is not None]
        for at in labels:
            before = [point for point in known if point.at_ms < at]
            after = [point for point in known if point.at_ms > at]
            lacking = at not in by_label or by_label[at].value is None
            if lacking and before and after:
                (at0, low, *_), (at1, high, *_) = before[-1], after[0]
                value = (low or 0) + ((high or 0) - (low or 0)) * (at - at0) / (at1 - at0)
                by_label[at] = Point(at, value, 64, share=0.0)
        return [by_label[at] for at in sorted(by_label)]
    return points


def held_bucket(
    ordered: list[Sample], query: Query, begin: int, label: int, end: int, good: list[float] | None
) -> list[Point]:
    """Return the point of an aggregate that weighs by time: what held at each millisecond of the interval."""
    held = [
        next((s.value if s.good else math.nan for s in reversed(ordered) if s.at_ms <= ms), math.nan)
        for ms in range(begin, end)
    ]
    covered = [value for value in held if not math.isnan(value)]
    mean = query.aggregate is Aggregate.MEAN
    if not covered and good and mean:
        return [Point(label, float(np.mean(good)), 64, share=0.0)]
    if not covered:
        return [] if good is None else [Point(label, None, 0, share=0.0)]
    share = len(covered) / len(held)
    value = float(np.mean(covered)) if mean else sum(covered) / 1000
    return [Point(label, value, 192 if share == 1 else 64, share=share)]


def bucket(ordered: list[Sample], query: Query, begin: int, label: int, end: int) -> list[Point]:
    """Return the point of one interval, or none."""
    end = min(end, query.end_ms)
    rows = [sample for sample in ordered if begin <= sample.at_ms < end]
    before = [sample for sample in ordered if sample.at_ms < begin]
    good = [sample.value for sample in rows if sample.good]
    if query.aggregate in {Aggregate.MEAN, Aggregate.INTEGRAL}:
        return held_bucket(ordered, query, begin, label, min(end, query.now_ms), good if rows else None)
    if not rows:
        last_good = bool(before) and before[-1].good
        if query.fill is not Fill.PREVIOUS or label >= query.now_ms:
            return []
        if query.aggregate in {Aggregate.SUM, Aggregate.COUNT, Aggregate.DELTA}:
            return [Point(label, 0.0, 192 if last_good else 0, share=float(last_good))]
        return [Point(label, before[-1].value, 192)] if last_good else []
    share = len(good) / len(rows)
    quality = 192 if share == 1 else 64 if share else 0
    reduce: dict[Aggregate, Callable[[list[float]], float]] = {
        Aggregate.MIN: min,
        Aggregate.MAX: max,
        Aggregate.SUM: sum,
        Aggregate.COUNT: len,
        Aggregate.FIRST: lambda values: values[0],
        Aggregate.LAST: lambda values: values[-1],
        Aggregate.DELTA: lambda values: values[-1] - ([s.value for s in before if s.good] or values[:1])[-1],
    }
    empty = 0.0 if query.aggregate is Aggregate.COUNT else None
    return [
        Point(label, float(reduce[query.aggregate or Aggregate.MIN](good)) if good else empty, quality, share=share)
    ]


def part(at_ms: int, rows: list[tuple[str, float, str]]) -> Part:
    """Make a part of (series, value, quality) rows."""
    return Part(at_ms, [row[0] for row in rows], np.array([row[1] for row in rows]), [row[2] for row in rows])


@settings(max_examples=40, deadline=None)
@given(
    history=histories,
    start=st.integers(0, END_MS),
    span=st.integers(1, END_MS),
    step=st.sampled_from([0, 7, 100]),
    now_ms=st.sampled_from([END_MS * 10, 250]),
    forms=st.lists(st.sampled_from(FORMS), min_size=5, max_size=5),
)
def test_answers_agree_with_plain_lists(
    history: list[tuple[tuple[int, list[tuple[str, float, str]]], str]],
    start: int,
    span: int,
    step: int,
    now_ms: int,
    forms: list[Form],
) -> None:
    """Every aggregate, fill, order and limit, over open, closed and compacted windows."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = EmbeddedStore(Path(folder))
            await store.open()
            plain: dict[str, list[Sample]] = {ref: [] for ref in SERIES}
            for number, ((at_ms, rows), then) in enumerate(history):
                await store.write([Entry(EntryId(1, number), [part(at_ms, rows)])])
                for ref, value, quality in rows:
                    plain[ref].append(Sample(at_ms, value, quality))
                if then != "open":
                    store.window.close_due(0, force=True)
                if then == "compact":
                    await store.maintain(0)
            for aggregate, fill, (order, limit) in forms:
                query = Query(
                    SERIES, start, start + span, now_ms, step, aggregate=aggregate, fill=fill, order=order, limit=limit
                )
                answer = await store.query(query)
                for ref in SERIES:
                    expected = oracle(plain[ref], query)
                    points = list(answer[ref])
                    assert [(p.at_ms, p.quality, p.reason) for p in points] == [
                        (p.at_ms, p.quality, p.reason) for p in expected
                    ], query
                    assert [p.share for p in points] == pytest.approx([p.share for p in expected]), query
                    assert [p.value for p in points] == pytest.approx([p.value for p in expected]), query
            newest = {one.series: one.point for one in await store.latest(None, limit=10)}
            for ref, known in plain.items():
                if known:
                    last = sorted(known, key=lambda sample: sample.at_ms)[-1]  # noqa: FURB192 - the last of equals
                    assert newest[ref] == Point(last.at_ms, last.value, quality_number(last.quality), last.quality)
            await store.close()

    asyncio.run(run())


async def test_merged_days_and_retention(tmp_path: Path) -> None:
    """A finished day's files become one with the same samples; files past their retention go."""
    store = EmbeddedStore(tmp_path, retention_days=3)
    await store.open()
    for number in range(6):
        at_ms = number // 3 * DAY_MS + number
        short = Part(at_ms, ["comsrv:9:T:1"], np.array([1.0]), retention_days=2)
        await store.write([Entry(EntryId(1, number), [part(at_ms, [(SERIES[0], float(number), "")]), short])])
        store.window.close_due(0, force=True)
        await store.maintain(at_ms)
    assert (await store.status()).files == 12
    now_ms = int(2.5 * DAY_MS)
    await store.maintain(now_ms)
    status = await store.status()
    assert status.files == 3, "one file a day for the store's retention, the last day's for the short one"
    query = Query([SERIES[0], "comsrv:9:T:1"], 0, now_ms, now_ms)
    answer = await store.query(query)
    assert [point.value for point in answer[SERIES[0]]] == [0, 1, 2, 3, 4, 5]
    assert len(answer["comsrv:9:T:1"]) == 3
    await store.maintain(now_ms + DAY_MS)
    assert (await store.status()).files == 1
    assert len(list((tmp_path / "parquet").iterdir())) == 1
    await store.close()
