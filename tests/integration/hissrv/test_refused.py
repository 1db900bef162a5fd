"""What InfluxDB refuses: a dead letter a sample, the ledger balanced, and a way back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.influx.client import Server
from libs.redis import client
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.hissrv.consumer import Consumer
from services.hissrv.functions import HistoryFunctions
from services.hissrv.retry import retry
from services.hissrv.settings import ConsumerSettings
from services.hissrv.store.contract import Query
from services.hissrv.store.influx import InfluxStore
from tests.integration.hissrv.support import Channel, section
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer

REFS = ["comsrv:1001:T:1", "comsrv:1001:T:2"]


@pytest.fixture
async def store(influx_server: InfluxServer) -> AsyncIterator[InfluxStore]:
    """Give a store in an empty database of its own."""
    made = InfluxStore(Server(influx_server.url, "v1", database="refused"))
    await made.open()
    await made._influx._ask("POST", "/query", params={"q": "DROP DATABASE refused; CREATE DATABASE refused"})
    yield made
    await made.close()


async def ledger(functions: Functions) -> dict[str, int]:
    """Return the history counters that are not zero."""
    found = await execute(functions.client, "HGETALL", "voltage:ledger")
    names = (b"queued", b"written", b"dead_lettered")
    return {name.decode(): int(value) for name, value in found.items() if name in names and int(value)}


async def test_refused_and_retried(functions: Functions, redis_server: RedisServer, store: InfluxStore) -> None:
    """A type conflict costs the samples of that measurement; once it is put right they are written."""
    mapping = {"source": "comsrv:1001:T:1", "measurement": "meter"}
    await functions.call("configure_mapping", "a", mapping)
    await functions.call("configure_mapping", "b", {"source": "*"})
    channel = Channel(functions)
    await channel.claim()
    await store._influx.write(['meter value="text" 1000'])
    for at_ms in (1000, 2000):
        await channel.send(at_ms, section("T", {"1": at_ms, "2": at_ms}))
    blocking = client.connect(redis_server.url, blocking=True)
    history = HistoryFunctions(functions)
    one = Consumer(history, blocking, store, ConsumerSettings(linger_ms=0), "one")
    assert await one.step() == 2
    await blocking.aclose()
    assert await ledger(functions) == {"queued": 4, "written": 2, "dead_lettered": 2}
    letters = await history.dead_letters(10, "")
    assert [letter.fields["samples"] for letter in letters] == ["1", "1"]
    assert all("field type conflict" in letter.fields["reason"] for letter in letters)

    ids = [letter.id for letter in letters]
    done, failed = await retry(history, store, [*ids, "5-5"])
    assert (done, sorted(failed)) == ([], sorted([*ids, "5-5"]))
    params = {"db": "refused", "q": "DROP MEASUREMENT meter"}
    await store._influx._ask("POST", "/query", params=params)
    done, failed = await retry(history, store, ids)
    assert (sorted(done), failed) == (sorted(ids), {})
    assert await ledger(functions) == {"queued": 4, "written": 4}
    assert await history.dead_letters(10, "") == []
    found = await store.query(Query(REFS, 0, 10_000, 10_000))
    for ref in REFS:
        assert [(point.at_ms, point.value) for point in found[ref]] == [(1000, 1000.0), (2000, 2000.0)]
