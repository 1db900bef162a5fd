"""What every store promises, asked of each: the embedded one, and InfluxDB by its three dialects.

An InfluxDB of your own takes part when VOLTAGE_TEST_INFLUXDB_URL names it (with
_API, _TOKEN, _ORG, _BUCKET, _DATABASE); the suite only adds series of its own.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs import clock
from libs.errors import UnavailableError
from libs.influx.client import Server
from libs.influx.lines import DEFAULT, Label
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Aggregate, Entry, Fill, Latest, Order, Part, Point, Query, Store
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from tests.support.influx import TOKEN, InfluxServer, bridge
from tests.unit.hissrv.test_store_query import FORMS, Sample, oracle, part

OWN = "VOLTAGE_TEST_INFLUXDB_"
KINDS = ["embedded", "influx-v1", "influx-v2", "influx-v3", *(["influx-own"] if os.environ.get(f"{OWN}URL") else [])]
INFLUX = [kind for kind in KINDS if kind != "embedded"]
# Recent, so that a bucket's retention keeps it.
BASE_MS = clock.now_ms() // 700_000 * 700_000 - 3_600_000
LATER_MS = BASE_MS + 3_000_000
IDS = itertools.count(1)


def own_server() -> Server:
    """Return the server the environment names."""
    given: dict[str, Any] = {
        name.lower(): os.environ[f"{OWN}{name}"]
        for name in ("URL", "API", "TOKEN", "ORG", "BUCKET", "DATABASE")
        if os.environ.get(f"{OWN}{name}")
    }
    return Server(**given)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Give an open store of each kind."""
    async with AsyncExitStack() as stack:
        made: Store
        if request.param == "embedded":
            made = EmbeddedStore(tmp_path)
        elif request.param == "influx-own":
            made = InfluxStore(own_server())
        else:
            server: InfluxServer = request.getfixturevalue("influx_server")
            made = InfluxStore(Server(server.url, "v1"))
            await made.open()  # v1 makes the database that the bridge then offers as a bucket
            if request.param in {"influx-v2", "influx-v3"}:
                await made.close()
                url = await stack.enter_async_context(bridge(server))
                made = InfluxStore(Server(url, "v2" if request.param == "influx-v2" else "v3", TOKEN))
        await made.open()
        stack.push_async_callback(made.close)
        yield made


@pytest.fixture
def channel() -> str:
    """Give a channel no other test uses."""
    return f"comsrv:{random.randrange(10**6, 10**9)}"


def entry(*parts: Part) -> Entry:
    """Return the next entry."""
    return Entry(EntryId(BASE_MS, next(IDS)), list(parts))


def everything(*refs: str, **more: Any) -> Query:
    """Return a query for all of some series."""
    return Query(list(refs), BASE_MS - 10**9, LATER_MS, LATER_MS, **more)


def bare(points: list[Point]) -> list[tuple[int, float | None, int]]:
    """Return points without the texts of their quality, which InfluxDB does not keep."""
    return [(point.at_ms, point.value, point.quality) for point in points]


async def test_raw(store: Store, channel: str) -> None:
    """Values, quality with and without a value, both orders, limits, a series nobody wrote; again is the same."""
    one, two, none = f"{channel}:T:1", f"{channel}:S:2", f"{channel}:T:3"
    entries = [
        entry(part(BASE_MS, [(one, 1.25, ""), (two, 1.0, "")])),
        entry(part(BASE_MS + 5, [(one, float("nan"), "bad:timeout")])),
        entry(part(BASE_MS + 9, [(one, -3.5, "uncertain:test"), (two, 0.0, "")])),
    ]
    for _ in range(2):
        await store.write(entries)
    found = await store.query(everything(one, two, none))
    expected = [(BASE_MS, 1.25, 192), (BASE_MS + 5, None, 0), (BASE_MS + 9, -3.5, 64)]
    assert {ref: bare(points) for ref, points in found.items()} == {
        one: expected, two: [(BASE_MS, 1.0, 192), (BASE_MS + 9, 0.0, 192)], none: [],
    }  # fmt: skip
    assert all(bool(point.reason) == (point.quality != 192) for point in found[one])
    newest = await store.query(everything(one, limit=2, order=Order.DESC))
    assert bare(newest[one]) == expected[:0:-1]
    part_of = await store.query(Query([one], BASE_MS + 5, BASE_MS + 9, LATER_MS))
    assert bare(part_of[one]) == expected[1:2], "the start is in, the end is not"


async def test_queries_agree(store: Store, channel: str) -> None:
    """Every aggregate, fill, order and limit gives what plain lists give, whatever the interval and the range."""
    rng = random.Random(7)
    refs = [f"{channel}:T:{number}" for number in (1, 2)]
    plain: dict[str, list[Sample]] = {ref: [] for ref in refs}
    entries = []
    for ref in refs:
        for at in rng.sample(range(400), 25):
            text = rng.choice(["", "", "", "bad:timeout", "uncertain:substituted"])
            sample = Sample(BASE_MS + at, float(rng.randint(-1000, 1000)), text)
            plain[ref].append(sample)
            entries.append(entry(part(sample.at_ms, [(ref, sample.value, text)])))
    await store.write(entries)
    ranges = [(0, 400, 0, 4000), (120, 150, 7, 4000), (33, 300, 100, 250)]
    for (start, span, step, now), (aggregate, fill, (order, limit)) in itertools.product(ranges, FORMS):
        begin = BASE_MS + start
        query = Query(refs, begin, begin + span, BASE_MS + now, step, aggregate, fill, limit, order)
        answer = await store.query(query)
        for ref in refs:
            expected = oracle(plain[ref], query)
            assert [p._replace(value=None, reason="") for p in answer[ref]] == [
                p._replace(value=None, reason="") for p in expected
            ], query
            assert [p.value for p in answer[ref]] == pytest.approx([p.value for p in expected]), query


async def test_latest(store: Store, channel: str) -> None:
    """The newest sample of the series named; of all series a page at a time."""
    refs = [f"{channel}:T:{number}" for number in range(1, 6)]
    for at, value in ((BASE_MS + 7, 2.0), (BASE_MS + 3, 1.0)):
        await store.write([entry(Part(at, refs, np.full(5, value)))])
    expected = [Latest(ref, Point(BASE_MS + 7, 2.0, 192)) for ref in refs]
    assert await store.latest([*refs, f"{channel}:T:9"], limit=10) == expected
    assert await store.latest(refs, limit=2, after=refs[1]) == expected[2:4]
    pages, after = [], f"{channel}:T:"
    while len(pages) < 5 and (page := await store.latest(None, limit=2, after=after)):
        pages += page
        after = page[-1].series
    assert pages[:5] == expected


@pytest.mark.parametrize("store", INFLUX, indirect=True)
async def test_a_store_that_is_closed_says_so(store: Store, channel: str) -> None:
    """Nothing but UnavailableError, so that hissrv keeps what it has."""
    assert (await store.status()).kind
    await store.close()
    for action in (
        store.status(), store.write([entry(part(BASE_MS, [(f"{channel}:T:1", 1.0, "")]))]),
        store.query(everything(f"{channel}:T:1")), store.query(everything(f"{channel}:T:1", aggregate=Aggregate.MEAN)),
    ):  # fmt: skip
        with pytest.raises(UnavailableError):
            await action


@pytest.mark.parametrize("store", INFLUX, indirect=True)
async def test_one_bad_line_costs_one_line(store: Store, channel: str) -> None:
    """Of 5,000 lines one has an instant the server can't hold: that one is refused with its words, 4,999 are there."""
    refs = [f"{channel}:T:{number}" for number in range(1, 501)]
    parts = [Part(BASE_MS + number, refs, np.arange(500.0)) for number in range(10)]
    bad = entry(Part(2**53, [refs[7]], np.array([1.0])))
    parts[4] = parts[4]._replace(series=refs[:499], values=parts[4].values[:499])
    written = await store.write([*(entry(one) for one in parts[:5]), bad, *(entry(one) for one in parts[5:])])
    assert written.samples == 4999
    (refused,) = written.refused
    assert (refused.entry, refused.series, refused.at_ms) == (bad.id, refs[7], 2**53)
    assert "time" in refused.reason
    counts = await store.query(everything(*refs[:100], aggregate=Aggregate.COUNT))
    assert sum(points[0].value or 0 for points in counts.values()) == 1000
    counts = await store.query(everything(*refs[400:], aggregate=Aggregate.COUNT))
    assert sum(points[0].value or 0 for points in counts.values()) == 999


@pytest.mark.parametrize("store", INFLUX, indirect=True)
async def test_mapped(store: Store, channel: str) -> None:
    """Measurement, tags and field of a mapping are written and read; a reference that is none costs itself only."""
    one, two = f"{channel}:T:1", f"{channel}:T:2"
    label = Label("site data", (("site", 'it\'s "n",o=r th'), ("unit", "{owner}/{point}")), "grid power")
    store.label(lambda ref: label if ref == one else DEFAULT)
    written = await store.write([entry(Part(BASE_MS, [one, "odd:ref", two], np.array([1.5, 2.0, 3.0])))])
    assert (written.samples, [bad.series for bad in written.refused]) == (2, ["odd:ref"])
    found = await store.query(everything(one, two))
    assert [bare(found[ref]) for ref in (one, two)] == [[(BASE_MS, 1.5, 192)], [(BASE_MS, 3.0, 192)]]
    means = await store.query(everything(one, aggregate=Aggregate.MEAN, fill=Fill.NONE))
    assert means[one][0].value == 1.5
    assert [one.series for one in await store.latest(None, limit=2, after=f"{channel}:T:")] == [one, two]


@pytest.mark.parametrize("store", ["influx-v1", "influx-v2", "influx-v3"], indirect=True)
async def test_server_away(store: Store, channel: str, influx_server: InfluxServer) -> None:
    """While the server is down everything says so; when it is back, what was written before is there."""
    ref = f"{channel}:T:1"
    await store.write([entry(part(BASE_MS, [(ref, 1.0, "")]))])
    influx_server.stop()
    try:
        for action in (
            store.status(),
            store.write([entry(part(BASE_MS, [(ref, 1.0, "")]))]),
            store.query(everything(ref)),
        ):
            with pytest.raises(UnavailableError):
                await action
    finally:
        influx_server.start()
    await store.write([entry(part(BASE_MS + 1, [(ref, 2.0, "")]))])
    assert bare((await store.query(everything(ref)))[ref]) == [(BASE_MS, 1.0, 192), (BASE_MS + 1, 2.0, 192)]
