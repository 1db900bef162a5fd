"""Blocks that wait for Redis leave in one call, and share nothing but that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.comsrv import ledger
from services.comsrv.channel import Channel
from services.comsrv.runner import Runner
from tests.integration.comsrv.site import NUMBER, Site, all_counted, meter
from tests.support.wait import wait_until

COUNT = 8


def one_by_one(port: int) -> Channel:
    """Return a channel whose every point is a block."""
    points = [
        {"id": number, "name": f"p{number}", "data_type": "float64", "mapping": {**NUMBER, "register_address": number}}
        for number in range(1, COUNT + 1)
    ]
    return meter(port, points={"T": points}, polling={"interval_ms": 50, "mode": "single"})


def set_all(site: Site, first: int) -> None:
    """Let register n hold `first` + n."""
    site.device.set_registers(1, *range(first + 1, first + COUNT + 1))


async def counted(site: Site, runner: Runner) -> dict[str, Any]:
    """Stop, and return the ledger of what was polled: a point a request."""
    assert runner.poller is not None
    polls = runner.poller.statistics
    await runner.stop()
    found = ledger.balance(*(await site.functions.ledger())[:2])
    assert found["balanced"], found
    assert all_counted(polls, found["samples"]["polled"], 1)
    return dict(found["samples"])


async def test_what_waits_leaves_in_one_call(site: Site):
    set_all(site, 0)
    calls: list[int] = []
    ingest = site.functions.ingest

    async def counting(channel: int, documents: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> bool:
        calls.append(len(documents))
        return await ingest(channel, documents, texts)

    site.functions.ingest = counting  # type: ignore[method-assign] # the real one, counted
    runner = await site.run(one_by_one(site.device.port))
    for round_ in range(1, 20):
        set_all(site, 100 * round_)
        for point in range(1, COUNT + 1):
            await site.becomes(f"T:{point}", f"{100 * round_ + point}.000000")
    assert max(calls) > 1
    found = await counted(site, runner)
    assert found["stored"] >= sum(calls)
    assert found["rejected"] == {}


async def test_a_block_that_redis_refuses_costs_the_others_nothing(site: Site):
    set_all(site, 0)
    ingest = site.functions.ingest

    async def spoiling(channel: int, documents: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> bool:
        spoiled = [each | ({"at_ms": -1} if each["block"].startswith("1-holding-3-") else {}) for each in documents]
        return await ingest(channel, spoiled, texts)

    site.functions.ingest = spoiling  # type: ignore[method-assign] # the real one, with a document that is wrong
    runner = await site.run(one_by_one(site.device.port))
    for point in set(range(1, COUNT + 1)) - {3}:
        await site.becomes(f"T:{point}", f"{point}.000000")

    async def refused() -> bool:
        return bool((await site.functions.ledger())[0].get("rejected:refused"))

    await wait_until(refused, "the refused samples are in the ledger")
    assert await site.value("T:3") is None
    await counted(site, runner)
