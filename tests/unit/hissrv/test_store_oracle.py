"""Days of irregular samples against plain numpy: open and closed windows, finished days, tiers, late samples."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.errors import InvalidError, LimitError
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Aggregate, Entry, Fill, Part, Query
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.stats import Counter

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
# The clocks of Berlin go forward on the third of these days.
BEGIN_MS = int(dt.datetime(2026, 3, 27, tzinfo=dt.UTC).timestamp() * 1000)
DAYS = 4
END_MS = BEGIN_MS + DAYS * DAY_MS
NOW_MS = END_MS + 5 * HOUR_MS
REFS = ["comsrv:1:T:1", "comsrv:1:T:2", "comsrv:1:T:3", "comsrv:1:S:1"]
MODULUS = 1000.0
COUNTERS = [None, Counter(MODULUS), Counter(exchange="skip"), Counter(MODULUS, "zero", 40.0)]
# Queries asked at each stage, of all that are possible.
ASKED = 16
TIMED = {Aggregate.MEAN, Aggregate.INTEGRAL}


class Samples(NamedTuple):
    """All samples of a series: instants, values (NaN: not good)."""

    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]


class History:
    """Random samples, and the same as plain lists."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.known: dict[str, dict[int, tuple[float, str]]] = {ref: {} for ref in REFS}
        self.number = 0

    def part(self, ref: str, at_ms: int, value: float) -> Entry:
        """Return an entry of one sample, and keep it."""
        rng = self.rng
        text = rng.choices(["", "bad:timeout", "uncertain:test"], [20, 1, 1])[0]
        value = math.nan if text == "bad:timeout" and rng.random() < 0.5 else value
        self.known[ref][at_ms] = (value, text)
        self.number += 1
        return Entry(EntryId(1, self.number), [Part(at_ms, [ref], np.array([value]), [text])], image=self.number)

    def live(self) -> list[Entry]:
        """Return what devices send: noise, a slow signal, a counter that rolls over and is exchanged, with gaps."""
        rng, made = self.rng, []
        for ref, pause_s in zip(REFS, (30, 90, 60, 4000), strict=True):
            at_ms, value = BEGIN_MS + rng.randrange(HOUR_MS), 0.0
            while at_ms < END_MS:
                if ref == "comsrv:1:T:3":
                    value = 0.0 if rng.random() < 0.001 else (value + rng.uniform(0, 30)) % MODULUS
                else:
                    value = round(rng.gauss(50, 400), 2)
                made.append((at_ms, ref, value))
                at_ms += int(rng.expovariate(1 / pause_s) * 1000) + (7 * HOUR_MS if rng.random() < 0.0005 else 1)
        return [self.part(ref, at_ms, value) for at_ms, ref, value in sorted(made)]

    def late(self, count: int) -> list[Entry]:
        """Return samples of any instant, some of which replace one that is there."""
        rng, made = self.rng, []
        for _ in range(count):
            ref = rng.choice(REFS)
            there = rng.random() < 0.3
            at_ms = rng.choice(list(self.known[ref])) if there else rng.randrange(BEGIN_MS, END_MS)
            made.append(self.part(ref, at_ms, round(rng.gauss(0, 100), 2)))
        return made

    def samples(self, ref: str) -> Samples:
        """Return a series as arrays."""
        at_ms = sorted(self.known[ref])
        value = [v if not text else math.nan for v, text in (self.known[ref][at] for at in at_ms)]
        return Samples(np.array(at_ms, np.int64), np.array(value))


def edges(query: Query) -> list[int]:
    """Return the edges of the intervals, found by walking minutes on a wall clock."""
    start, end, step = query.start_ms, query.end_ms, query.interval_ms
    if not step and not query.months:
        return [start, end]
    if not query.zone and not query.months:
        first = start - start % step
        return [*range(first, end, step), -(-end // step) * step]
    zone = ZoneInfo(query.zone) if query.zone else dt.UTC
    found = []
    for at in range(start - start % HOUR_MS - 800 * HOUR_MS, end + 800 * HOUR_MS, HOUR_MS):
        local = dt.datetime.fromtimestamp(at / 1000, zone)
        if query.months:
            hit = local.hour == 0 and local.day == 1
        elif step % DAY_MS == 0:
            hit = local.hour == 0 and (step == DAY_MS or local.weekday() == 0)
        else:
            hours = (dt.datetime.fromtimestamp(at / 1000 - back * 3600, zone).hour for back in range(26))
            midnight = at - next(back for back, hour in enumerate(hours) if hour == 0) * HOUR_MS
            hit = (at - midnight) % step == 0
        if hit:
            found.append(at)
    low = max(at for at in found if at <= start)
    high = min(at for at in found if at >= end)
    return [at for at in found if low <= at <= high]


def delta(samples: Samples, low: int, high: int, counter: Counter | None) -> float:
    """Return a counter's steps within an interval, one by one."""
    good = [(at, v) for at, v in zip(samples.at_ms.tolist(), samples.value.tolist(), strict=True) if not math.isnan(v)]
    total, before = 0.0, None
    for at, value in good:
        if at >= high:
            break
        if at >= low and before is not None:
            step = value - before
            if counter is not None:
                wrapped = step + counter.modulus
                if step < 0 and counter.modulus and wrapped < counter.modulus / 2 and wrapped <= counter.max_step:
                    step = wrapped
                elif step < 0 or step > counter.max_step:
                    step = value if counter.exchange == "zero" else 0.0
            total += step
        before = value
    return total


def expected(samples: Samples, query: Query) -> dict[int, tuple[float, float]]:
    """Return value and share of each interval that has one, from the definitions in contract.py."""
    at_ms, value = samples
    until = np.append(at_ms[1:], 2**60)
    found = {}
    for label, edge in itertools.pairwise(edges(query)):
        low, high = max(label, query.start_ms), min(edge, query.end_ms)
        inside = (at_ms >= low) & (at_ms < high)
        good = value[inside & ~np.isnan(value)]
        if query.aggregate in TIMED:
            finish = max(low, min(high, query.now_ms))
            overlap = np.maximum(0, np.minimum(until, finish) - np.maximum(at_ms, low))
            covered = float(overlap[~np.isnan(value)].sum())
            total = float(np.nansum(value * overlap))
            if covered:
                share = covered / (finish - low)
                found[label] = (total / covered if query.aggregate is Aggregate.MEAN else total / 1000, share)
            elif inside.any():
                instant = query.aggregate is Aggregate.MEAN and len(good)  # Nothing held yet: they weigh the same.
                found[label] = (float(good.mean()) if instant else math.nan, 0.0)
        elif inside.any():
            reduce: dict[Any, Any] = {
                Aggregate.MIN: np.min, Aggregate.MAX: np.max, Aggregate.SUM: np.sum, Aggregate.COUNT: len,
                Aggregate.FIRST: lambda v: v[0], Aggregate.LAST: lambda v: v[-1],
                Aggregate.DELTA: lambda _, low=low, high=high: delta(samples, low, high, query.counter),
            }  # fmt: skip
            empty = 0.0 if query.aggregate is Aggregate.COUNT else math.nan
            found[label] = (float(reduce[query.aggregate](good)) if len(good) else empty, len(good) / inside.sum())
    return found


def queries(rng: random.Random) -> list[Query]:
    """Return one query of every aggregate and interval, over random ranges, aligned or not."""
    made = []
    intervals = [(0, "", 0), (60_000, "", 0), (420_000, "", 0), (900_000, "", 0), (HOUR_MS, "", 0), (DAY_MS, "", 0)]
    intervals += [(DAY_MS, "Europe/Berlin", 0), (6 * HOUR_MS, "Europe/Berlin", 0), (HOUR_MS, "Asia/Dubai", 0)]
    intervals += [(7 * DAY_MS, "America/New_York", 0), (0, "Europe/Berlin", 1)]
    for aggregate, (step, zone, months) in itertools.product(Aggregate, intervals):
        low = BEGIN_MS + rng.randrange(DAYS * DAY_MS // 2)
        high = low + rng.randrange(HOUR_MS, 6 * HOUR_MS if step and step < 900_000 else 4 * DAY_MS)
        if rng.random() < 0.3:
            low, high = low - low % DAY_MS, high - high % DAY_MS + DAY_MS
        counter = rng.choice(COUNTERS) if aggregate is Aggregate.DELTA else None
        now_ms = rng.choice([NOW_MS, NOW_MS, (low + high) // 2])
        made.append(
            Query(REFS, low, high, now_ms, step, aggregate, limit=100_000, zone=zone, months=months, counter=counter)
        )
    return made


async def compare(
    store: EmbeddedStore, history: History, rng: random.Random, state: str, only: Aggregate | None = None
) -> None:
    """Ask some of everything, or all of an aggregate, with tiers and without; compare with plain numpy to 1e-9."""
    plain = {ref: history.samples(ref) for ref in REFS}
    every = queries(rng)
    for query in rng.sample(every, ASKED) if only is None else [one for one in every if one.aggregate is only]:
        answers: dict[str, dict[int, tuple[float, float]]] = {}
        for tiers in (True, False):
            answer = await store.query(query._replace(tiers=tiers))
            for ref in REFS:
                wanted = answers[ref] = answers.get(ref) or expected(plain[ref], query)
                points = list(answer[ref])
                where = f"{state}, tiers {tiers}, {ref}, {query}"
                assert [point.at_ms for point in points] == list(wanted), where
                values = [math.nan if point.value is None else point.value for point in points]
                desired = np.array([v for v, _ in wanted.values()])
                size = float(np.abs(desired[~np.isnan(desired)]).max(initial=1.0))
                np.testing.assert_allclose(values, desired, 1e-9, 1e-9 * size, err_msg=where)
                np.testing.assert_allclose(
                    [point.share for point in points],
                    [share for _, share in wanted.values()],
                    1e-9,
                    1e-12,
                    err_msg=where,
                )


async def filled(folder: Path, history: History, rng: random.Random) -> EmbeddedStore:
    """Return a store of days that run: many windows, most of them in files with their one-minute rows."""
    store = EmbeddedStore(folder)
    await store.open()
    live = history.live()
    for first in range(0, len(live), 1000):
        await store.write(live[first : first + 1000])
        store.window.close_due(0, force=True)
        if rng.random() < 0.7:
            await store.maintain(BEGIN_MS)
    return store


@pytest.mark.parametrize(("seed", "chunk", "worth"), [(1, 1_000_000, 1), (2, 3000, 3)])
async def test_every_aggregate_equals_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, chunk: int, worth: int
) -> None:
    """Whatever lies open, closed, merged or in tiers, after late samples at each of these stages; whole or in parts."""
    monkeypatch.setattr("services.hissrv.store.source.CHUNK_ROWS", chunk)
    monkeypatch.setattr("services.hissrv.store.compact.WORTH", worth)
    monkeypatch.setattr("services.hissrv.store.catalog.MANY", 2)
    monkeypatch.setattr("services.hissrv.store.parquet.ROW_GROUP", 1000)
    history, rng = History(seed), random.Random(seed)
    store = await filled(tmp_path, history, rng)
    assert {file.kind for file in store.window.files()} >= {"m", "n"}
    await compare(store, history, rng, "windows")
    await store.write(history.late(100))
    await compare(store, history, rng, "late samples of days that run, open")
    store.window.close_due(0, force=True)
    await store.maintain(BEGIN_MS)
    await compare(store, history, rng, "late samples of days that run")
    await store.maintain(NOW_MS)
    assert len([file for file in store.window.files() if file.kind == "d"]) == DAYS
    await compare(store, history, rng, "days with tiers")
    await store.write(history.late(300))
    await compare(store, history, rng, "late samples open")
    store.window.close_due(0, force=True)
    await store.maintain(BEGIN_MS)
    await compare(store, history, rng, "late samples closed")
    await store.maintain(NOW_MS)
    assert len(store.window.files()) == DAYS
    await compare(store, history, rng, "late samples merged")
    await store.maintain(NOW_MS + 40 * DAY_MS)
    await compare(store, history, rng, "a month of tiers")
    await store.write(history.late(50))
    store.window.close_due(0, force=True)
    await store.maintain(NOW_MS)
    await compare(store, history, rng, "a day later than its month")
    await store.close()


async def test_tiers_spare_reading(tmp_path: Path) -> None:
    """An hourly mean reads the tiers, of days that run too; from samples it is over the limit, and it is said why."""
    store = EmbeddedStore(tmp_path, query_samples=10_000)
    await store.open()
    ticks = np.arange(BEGIN_MS, BEGIN_MS + DAY_MS, 5000)
    for number, part in enumerate(np.split(ticks, 24)):
        parts = [Part(at, REFS, np.full(len(REFS), float(at % 7))) for at in part.tolist()]
        await store.write([Entry(EntryId(1, number), parts)])
        store.window.close_due(0, force=True)
        await store.maintain(int(part[-1]))
    today = Query(REFS[:1], BEGIN_MS, BEGIN_MS + DAY_MS, BEGIN_MS + DAY_MS, HOUR_MS, Aggregate.MEAN, Fill.NONE)
    assert len((await store.query(today))[REFS[0]]) == 24
    with pytest.raises(LimitError, match="1m, 15m, 1h or 1d"):
        await store.query(today._replace(tiers=False))
    await store.maintain(NOW_MS)
    assert len((await store.query(today))[REFS[0]]) == 24
    with pytest.raises(LimitError, match="1m, 15m, 1h or 1d"):
        await store.query(today._replace(tiers=False))
    await store.close()


async def test_a_series_in_two_retentions(tmp_path: Path) -> None:
    """A mapping that changes on its way leaves a day in two files; their statistics are not taken for two series."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    for number, retention in enumerate((0, 30, 0)):
        parts = [Part(BEGIN_MS + number * HOUR_MS, REFS[:1], np.array([float(number)]), None, retention)]
        await store.write([Entry(EntryId(2, number), parts)])
    store.window.close_due(0, force=True)
    await store.maintain(NOW_MS)
    assert len(store.window.tiers()) == 2
    query = Query(REFS[:1], BEGIN_MS, BEGIN_MS + DAY_MS, BEGIN_MS + 3 * HOUR_MS, DAY_MS, Aggregate.MEAN)
    assert [(p.value, p.share) for p in (await store.query(query))[REFS[0]]] == [(1.0, 1.0)]
    await store.close()


@pytest.mark.parametrize(("months", "zone", "step"), [(1, "", 0), (0, "Europe/Berlin", DAY_MS)])
async def test_the_end_of_time(tmp_path: Path, months: int, zone: str, step: int) -> None:
    """A range up to the last year there is gets an answer or a refusal that says why."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    end = 253_402_300_799_999
    query = Query(REFS[:1], end - 3 * DAY_MS, end, NOW_MS, step, Aggregate.MEAN, zone=zone, months=months)
    with pytest.raises(InvalidError, match="9999"):
        await store.query(query)
    await store.close()
