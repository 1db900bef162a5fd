"""From comsrv_ingest through the queue into the store: each sample once, nothing stops the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from libs.errors import UnavailableError
from libs.redis import client
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from services.hissrv.consumer import Consumer
from services.hissrv.functions import HistoryFunctions
from services.hissrv.settings import ConsumerSettings
from services.hissrv.store.contract import Query
from services.hissrv.store.embedded import EmbeddedStore
from tests.integration.hissrv.support import Channel, section
from tests.support.servers import RedisServer
from tests.support.wait import wait_until

REFS = ["comsrv:1001:T:1", "comsrv:1001:T:2", "comsrv:1001:S:1", "comsrv:1001:A:1"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """Give an open store."""
    opened = EmbeddedStore(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def blocking(redis_server: RedisServer) -> AsyncIterator[Client]:
    """Give a client for blocking reads."""
    connection = client.connect(redis_server.url, blocking=True)
    yield connection
    await connection.aclose()


def consumer(functions: Functions, blocking: Client, store: EmbeddedStore, **settings: Any) -> Consumer:
    """Return a consumer named one."""
    options = ConsumerSettings(linger_ms=0, **settings)
    return Consumer(HistoryFunctions(functions), blocking, store, options, "one")


@pytest.fixture
async def channel(functions: Functions) -> Channel:
    """Give a claimed channel."""
    made = Channel(functions)
    await made.claim()
    return made


async def raw(store: EmbeddedStore) -> dict[str, list[tuple[int, float | None, str]]]:
    """Return what the store has, series without points left out."""
    answer = await store.query(Query(REFS, 0, 2**52, 2**52))
    return {ref: [(p.at_ms, p.value, p.reason) for p in points] for ref, points in answer.items() if points}


async def ledger(functions: Functions) -> dict[str, int]:
    """Return the history counters of the ledger."""
    found = await execute(functions.client, "HGETALL", "voltage:ledger")
    names = ("queued", "written", "dead", "dropped")
    return {name.decode(): int(value) for name, value in found.items() if name.decode().startswith(names)}


def has(one: Consumer, name: str, value: object = None) -> Callable[[], Awaitable[bool]]:
    """Return a condition: a field of a consumer is set, or has a value."""

    async def holds() -> bool:
        found = getattr(one, name)
        return found is not None if value is None else bool(found == value)

    return holds


async def test_all_forms_of_samples(
    functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore
) -> None:
    """Values, qualities with and without a value, events at their own instant: the later of two; a bad one has none."""
    await channel.send(1000, section("T", {"1": 5, "2": -0.5}, {"2": "uncertain:test"}), section("A", {"1": 9}))
    await channel.send(2000, section("T", {}, {"1": "bad:sentinel"}), section("S", {"1": 1}))
    await channel.send(3000, {"type": "T", "ids": ["2"]}, name="comsrv_set_quality", quality="bad:timeout")
    await channel.send(4000, events=[["S", "1", 3500, "0.000000", ""], ["S", "1", 3500, "1.000000", "bad:x"]])
    assert await consumer(functions, blocking, store).step() == 4
    assert await raw(store) == {
        "comsrv:1001:T:1": [(1000, 5.0, ""), (2000, None, "bad:sentinel")],
        "comsrv:1001:T:2": [(1000, -0.5, "uncertain:test"), (3000, None, "bad:timeout")],
        "comsrv:1001:S:1": [(2000, 1.0, ""), (3500, None, "bad:x")],
    }
    assert await ledger(functions) == {"queued": 7, "written": 7}


async def test_mappings(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """A mapping decides what is recorded from the next batch on: pattern, fields, transform, interval, disabled."""
    one = consumer(functions, blocking, store)
    await functions.call(
        "configure_mapping", "a",
        {"source": "comsrv:1001:T:*", "fields": {"1": "power"}, "transform": {"scale": 2, "offset": 1},
         "sampling": "interval", "interval_ms": 1000},
    )  # fmt: skip
    for at_ms, value in ((1000, 1), (1500, 2), (2000, 3)):
        await channel.send(at_ms, section("T", {"1": value, "2": value}), section("S", {"1": 1}))
    await channel.send(2100, section("T", {}, {"1": "bad:timeout"}))
    await one.step()
    assert await raw(store) == {"comsrv:1001:T:1": [(1000, 3.0, ""), (2000, 7.0, ""), (2100, None, "bad:timeout")]}
    assert await ledger(functions) == {"queued": 10, "written": 3, "dropped:mapping": 7}
    await functions.call("configure_mapping", "a", {"source": "*", "enabled": False})
    await channel.send(3000, section("T", {"1": 4}))
    await one.step()
    await functions.call("mapping_delete", "a")
    await channel.send(4000, section("T", {"1": 5}))
    await one.step()
    assert (await raw(store))["comsrv:1001:T:1"][3:] == [(4000, 5.0, "")]


async def test_deadband(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """A value is recorded once it moved far enough from the one recorded last; the ledger counts by mapping."""
    one = consumer(functions, blocking, store)
    await functions.call("configure_mapping", "slow", {"source": "comsrv:1001:T:1", "deadband": 1})
    for at_ms, value in ((1000, 5), (2000, 5.6), (3000, 5.9), (4000, 6.1), (5000, 6.5), (6000, 4.9)):
        await channel.send(at_ms, section("T", {"1": value}))
    await channel.send(7000, section("T", {}, {"1": "bad:timeout"}))
    await channel.send(8000, section("T", {"1": 4.9}))
    await one.step()
    expected = [(1000, 5.0, ""), (4000, 6.1, ""), (6000, 4.9, ""), (7000, None, "bad:timeout"), (8000, 4.9, "")]
    assert await raw(store) == {"comsrv:1001:T:1": expected}
    assert await execute(functions.client, "HGET", "voltage:ledger", "recorded:slow") == b"5"
    assert one.recorded == {"slow": 5}
    assert await ledger(functions) == {"queued": 8, "written": 5, "dropped:mapping": 3}


async def test_redelivery(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """Stopped between the store's commit and the acknowledgement: the entries come again and double nothing."""
    for at_ms in (1000, 2000):
        await channel.send(at_ms, section("T", {"1": at_ms}))
    first = consumer(functions, blocking, store)
    work = await first._collect()
    await store.write(work.entries, forget_before=work.batch.oldest)
    await channel.send(3000, section("T", {"1": 3000}))
    second = consumer(functions, blocking, store)
    assert await second.step() == 3
    assert (second.samples, second.repeated) == (1, 2)
    assert [at_ms for at_ms, _, _ in (await raw(store))["comsrv:1001:T:1"]] == [1000, 2000, 3000]
    assert await ledger(functions) == {"queued": 3, "written": 3}


async def test_bad_documents(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """Documents that can't be read become dead letters with a reason; the good ones around them are kept."""
    await channel.send(1000, section("T", {"1": 1}))
    good = {"at_ms": 1, "sections": []}
    bad: list[bytes] = [
        b"",
        b"{",
        b"\xc1\xff",
        msgpack.packb([1]),
        b"[" * 2000,
        msgpack.packb({"at_ms": -1, "sections": [section("T", {"1": 1})]}),
        msgpack.packb({"sections": [section("T", {"1": 1})]}),
        msgpack.packb({"at_ms": 1, "sections": [{"type": "T", "ids": ["1"], "values": []}]}),
        msgpack.packb({"at_ms": 1, "sections": [{"type": "T", "ids": ["1"], "values": ["inf"]}]}),
        msgpack.packb({"at_ms": 1, "sections": [{"ids": []}]}),
        msgpack.packb({"at_ms": 1, "sections": 5}),
        msgpack.packb({"at_ms": 1, "events": [["T"]]}),
        msgpack.packb({"at_ms": 1, "sections": [{"type": "T", "ids": [], "quality": ["x"]}]}),
    ]
    for document in [*bad, msgpack.packb(good)]:
        await execute(
            functions.client, "XADD", "hissrv:queue", "*", "i", 1, "c", "1001", "n", 1, "b", 97, "d", document
        )
    await channel.send(2000, section("T", {"1": 2}))
    one = consumer(functions, blocking, store)
    assert await one.step() == len(bad) + 3
    assert (await raw(store))["comsrv:1001:T:1"] == [(1000, 1.0, ""), (2000, 2.0, "")]
    letters = await HistoryFunctions(functions).dead_letters(100, "")
    assert len(letters) == len(bad)
    assert all(letter.fields["reason"].startswith("unreadable document: ") for letter in letters)
    assert await one.step() == 0


async def test_store_away(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """While the store refuses, the batch stays in hand and the reason is shown; then it goes on."""
    store._max_disk_percent = 0
    one = consumer(functions, blocking, store)
    await channel.send(1000, section("T", {"1": 1}))
    with pytest.raises(UnavailableError, match="disk"):
        await one.step()
    task = asyncio.create_task(one.run())
    await wait_until(has(one, "problem"), "the problem shows")
    await channel.send(2000, section("T", {"1": 2}))
    store._max_disk_percent = 100
    await wait_until(has(one, "samples", 2), "both are written")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert one.problem is None
    assert len(await execute(functions.client, "KEYS", "hissrv:batch:*")) == 2, "one batch kept in hand, one more"
    assert (await raw(store))["comsrv:1001:T:1"] == [(1000, 1.0, ""), (2000, 2.0, "")]


async def test_lost_batch(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """A batch Redis forgot is collected again; the store knows its entries."""
    await channel.send(1000, section("T", {"1": 1}))
    one = consumer(functions, blocking, store)
    one._work = await one._collect()
    await execute(functions.client, "DEL", *await execute(functions.client, "KEYS", "hissrv:batch:*"))
    assert await one.step() == 1
    assert await one.step() == 1
    assert (one.samples, one.repeated) == (1, 1)
    assert await ledger(functions) == {"queued": 1, "written": 1}


async def test_wakes_up(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """A waiting consumer takes a new entry well before its time-out."""
    one = consumer(functions, blocking, store)
    task = asyncio.create_task(one.run())
    for number in range(1, 4):
        await channel.send(1000 * number, section("T", {"1": number}))
        await wait_until(has(one, "samples", number), "it is written", 0.9)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_two_workers(functions: Functions, channel: Channel, blocking: Client, store: EmbeddedStore) -> None:
    """Two consumers share the queue: each sample is stored once, and what one leaves behind the other takes over."""
    one, two = (
        Consumer(
            HistoryFunctions(functions),
            blocking,
            store,
            ConsumerSettings(linger_ms=0, batch_entries=3, idle_ms=1000),
            name,
        )
        for name in ("one", "two")
    )
    for number in range(1, 21):
        await channel.send(1000 * number, section("T", {"1": number}))
    left = await one._collect()
    assert len(left.entries) == 3, "taken, and never finished: the worker dies here"
    while await two.step():
        pass
    assert two.samples == 17

    async def all_there() -> bool:
        await two.step()
        return two.samples == 20

    await wait_until(all_there, "the survivor takes over what was left", 10)
    assert [value for _, value, _ in (await raw(store))["comsrv:1001:T:1"]] == list(range(1, 21))
    assert await ledger(functions) == {"queued": 20, "written": 20}
