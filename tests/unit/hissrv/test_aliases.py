"""A point that was two points: the answer is that of one series with the samples of both."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from libs.redis.queue import EntryId
from services.hissrv.aliases import Piece, ask
from services.hissrv.store.contract import Aggregate, Entry, Fill, Order, Part, Query
from services.hissrv.store.embedded import EmbeddedStore

OLD, NEW, BOTH = "comsrv:1:T:1", "comsrv:2:T:1", "comsrv:3:T:1"
CHANGE_MS = 437
PIECES = [Piece(-(2**62), CHANGE_MS, OLD), Piece(CHANGE_MS, 2**62, NEW)]


async def test_two_pieces_answer_as_one(tmp_path: Path) -> None:
    """Every aggregate but delta, every fill and order, whatever interval the change is in."""
    rng = random.Random(3)
    store = EmbeddedStore(tmp_path)
    await store.open()
    samples = [(at, OLD) for at in rng.sample(range(CHANGE_MS), 30)]
    samples += [(at, NEW) for at in [CHANGE_MS, *rng.sample(range(CHANGE_MS + 1, 1000), 30)]]
    for number, (at, ref) in enumerate(samples):
        quality = rng.choice(["", "", "", "bad:timeout"])
        value = np.array([rng.randint(-100, 100)] * 2, np.float64)
        await store.write([Entry(EntryId(1, number), [Part(at, [ref, BOTH], value, [quality] * 2)])])
    forms = itertools.product([None, *Aggregate], [0, 100, 437], Fill, [(Order.ASC, 50), (Order.DESC, 4)])
    for aggregate, step, fill, (order, limit) in forms:
        if aggregate is Aggregate.DELTA or (aggregate is None and (step or fill in {Fill.NULL, Fill.LINEAR})):
            continue
        for start, end in ((0, 1000), (50, 437), (437, 700), (430, 441)):
            query = Query([], start, end, 2000, step, aggregate, fill, limit, order)
            (joined,) = await ask(store, query, [PIECES])
            single = (await store.query(query._replace(series=[BOTH])))[BOTH]
            assert joined.at_ms.tolist() == single.at_ms.tolist(), query
            np.testing.assert_allclose(joined.value, single.value, 1e-9, 1e-9, err_msg=str(query))
            if aggregate in {None, Aggregate.MEAN, Aggregate.INTEGRAL}:
                assert joined.share.tolist() == pytest.approx(single.share.tolist()), query
                assert joined.quality.tolist() == single.quality.tolist(), query
                assert joined.reason == single.reason
    await store.close()
