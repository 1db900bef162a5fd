"""A VictoriaMetrics as store: it answers 204 to anything, so what counts is what can be read back."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs import clock
from libs.influx.client import Server
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Aggregate, Entry, Fill, Query
from services.hissrv.store.victoria import VictoriaStore
from tests.support.victoria import VictoriaServer
from tests.support.wait import wait_until
from tests.unit.hissrv.test_store_query import Sample, oracle, part

BASE_MS = clock.now_ms() // 700_000 * 700_000 - 3_600_000
REFS = ["comsrv:1001:T:1", "comsrv:1001:S:2"]
VISIBLE_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[VictoriaServer]:
    """Give Debian's VictoriaMetrics, empty."""
    with tempfile.TemporaryDirectory(prefix="voltage-victoria-") as folder:
        running = VictoriaServer(Path(folder))
        yield running
        running.stop()


@pytest.fixture
async def store(server: VictoriaServer) -> AsyncIterator[VictoriaStore]:
    """Give an open store."""
    made = VictoriaStore(Server(server.url, "victoria"))
    await made.open()
    yield made
    await made.close()


async def test_what_was_written_comes_back(store: VictoriaStore) -> None:
    """Values and qualities are there about a second later, once though written twice; aggregates are ours."""
    rng = random.Random(11)
    plain: dict[str, list[Sample]] = {ref: [] for ref in REFS}
    entries = []
    for number, at in enumerate(sorted(rng.sample(range(400), 60))):
        ref, text = rng.choice(REFS), rng.choice(["", "", "bad:timeout", "uncertain:test"])
        value = float("nan") if text == "bad:timeout" else rng.randint(-1000, 1000) / 4
        plain[ref].append(Sample(BASE_MS + at, value, text))
        entries.append(Entry(EntryId(1, number), [part(BASE_MS + at, [(ref, value, text)])]))
    for _ in range(2):
        await store.write(entries)
    everything = Query([*REFS, "comsrv:1001:T:9"], BASE_MS, BASE_MS + 400, BASE_MS + 4000)

    async def there() -> Any:
        found = await store.query(everything)
        return sum(map(len, found.values())) == len(entries)

    await wait_until(there, "the samples can be read", VISIBLE_S)
    for aggregate in (None, *Aggregate):
        fill = rng.choice([Fill.NONE, Fill.PREVIOUS])
        query = everything._replace(series=REFS, start_ms=BASE_MS + 77, aggregate=aggregate, interval_ms=50, fill=fill)
        answer = await store.query(query)
        for ref in REFS:
            expected = oracle(plain[ref], query)
            assert [(p.at_ms, p.quality) for p in answer[ref]] == [(p.at_ms, p.quality) for p in expected], query
            assert [p.value for p in answer[ref]] == pytest.approx([p.value for p in expected]), query
    newest = {one.series: one.point for one in await store.latest(None, limit=10)}
    assert {ref: (point.at_ms, point.value) for ref, point in newest.items()} == {
        ref: (known[-1].at_ms, None if known[-1].value != known[-1].value else known[-1].value)
        for ref, known in plain.items()
    }
    assert (await store.status()).kind == "victoriametrics"
