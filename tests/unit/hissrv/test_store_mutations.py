"""The oracle of test_store_oracle.py can fail: each small mistake that is put into the store is found by it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.hissrv.store import parquet, read, segments, slices, source, stats
from services.hissrv.store.answer import Carry
from services.hissrv.store.contract import Aggregate
from services.hissrv.store.embedded import EmbeddedStore
from tests.unit.hissrv.test_store_oracle import BEGIN_MS, DAY_MS, History, compare, filled

SEED = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[EmbeddedStore, History]]:
    """Give a store with a finished day, days that run, and late samples in files and in the open window."""
    history, patch = History(SEED), pytest.MonkeyPatch()
    patch.setattr("services.hissrv.store.compact.WORTH", 1)
    store = await filled(tmp_path_factory.mktemp("store"), history, random.Random(SEED))
    for _ in range(2):
        store.window.close_due(0, force=True)
        await store.maintain(BEGIN_MS + DAY_MS + DAY_MS // 2)
        await store.write(history.late(60))
    yield store, history
    await store.close()
    patch.undo()


def around(function: Any, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function whose result is changed."""
    return lambda *given, **named: change(function(*given, **named))


# What is wrong, what is put in whose place, and the aggregate that shows it.
MISTAKES: dict[str, tuple[Any, str, Any, Aggregate]] = {
    "a tier's sums are off by a hundred-millionth": (
        read, "tier_rows", around(parquet.tier_rows, lambda rows: rows._replace(total=rows.total * (1 + 1e-8))),
        Aggregate.SUM,
    ),
    "a tier forgets how long values held": (
        read, "tier_rows", around(parquet.tier_rows, lambda rows: rows._replace(inner=rows.inner * 0)),
        Aggregate.MEAN,
    ),
    "a tier says its counters never fell": (
        read, "tier_rows", around(parquet.tier_rows, lambda rows: rows._replace(falls=rows.falls * 0)),
        Aggregate.DELTA,
    ),
    "what held before the range is forgotten": (
        read.Reader, "_carry", lambda self: [Carry()] * len(self._state.refs), Aggregate.INTEGRAL,
    ),
    "a sample that is not good counts": (source, "_good", lambda of: of["value"], Aggregate.MIN),
    "late samples in the open window do not unseal their day": (
        read, "Days", lambda files, tiers, at_ms: segments.Days(files, tiers, at_ms[:0]), Aggregate.COUNT,
    ),
    "a sample that was replaced counts too": (
        slices, "last_of_each", lambda series, at_ms: np.ones(len(series), np.bool_) | (at_ms < 0), Aggregate.COUNT,
    ),
    "a counter that rolls over loses what it counted": (
        stats, "steps", lambda before, after, counter: np.where(counter is None or after >= before, after - before, 0),
        Aggregate.DELTA,
    ),
    "a value holds beyond now": (
        stats, "fold", lambda rows, starts, *, now_ms=None, counter=None, fold=stats.fold: fold(
            rows, starts, now_ms=None, counter=counter
        ), Aggregate.MEAN,
    ),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
async def test_the_store_is_right(made: tuple[EmbeddedStore, History]) -> None:
    """Without a mistake every question has the answer of plain numpy."""
    await compare(*made, random.Random(SEED), "no mistake")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_found(
    made: tuple[EmbeddedStore, History], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """With one mistake at least one answer is another."""
    module, name, wrong, aggregate = MISTAKES[mistake]
    await compare(*made, random.Random(SEED), "no mistake", aggregate)
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        await compare(*made, random.Random(SEED), mistake, aggregate)
