"""What InfluxDB refuses: a dead letter a sample, the ledger balanced, and a way back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs import clock
from libs.http.tokens import Role
from libs.influx.client import Server
from libs.redis import client
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.ledger import Counted
from services.comsrv.ledger import document as ledger_document
from services.hissrv.app import create_app
from services.hissrv.consumer import Consumer
from services.hissrv.functions import HistoryFunctions
from services.hissrv.retry import retry
from services.hissrv.settings import ConsumerSettings, HissrvSettings
from services.hissrv.store.contract import Query
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from services.hissrv.store.pair import PairStore
from tests.integration.hissrv.support import Channel, section
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer
from tests.support.service import running
from tests.support.wait import wait_until

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


async def test_of_two_stores(
    functions: Functions, redis_server: RedisServer, store: InfluxStore, tmp_path: Path
) -> None:
    """What the server refuses the embedded store has: each accounts for every sample by itself."""
    await functions.call("configure_mapping", "a", {"source": "comsrv:1001:T:1", "measurement": "meter"})
    await functions.call("configure_mapping", "b", {"source": "*"})
    channel = Channel(functions)
    await channel.claim()
    await store._influx.write(['meter value="text" 1000'])
    await channel.send(1000, section("T", {"1": 1, "2": 2}))
    pair = PairStore(EmbeddedStore(tmp_path), store)
    await pair.open()
    blocking = client.connect(redis_server.url, blocking=True)
    history = HistoryFunctions(functions)
    assert await Consumer(history, blocking, pair, ConsumerSettings(linger_ms=0), "one").step() == 1
    await blocking.aclose()

    async def by_store() -> dict[str, tuple[int, int, int]]:
        rows = ledger_document(await ComsrvFunctions(functions).ledger(), Counted({}, 0, {}, {}), 0, {})["stores"]
        return {row["store"]: (row["written"], row["dead_lettered"], row["difference"]) for row in rows}

    assert await by_store() == {"embedded": (2, 0, 0), "server": (1, 1, 0)}
    assert await ledger(functions) == {"queued": 2, "written": 1, "dead_lettered": 1}
    letters = await history.dead_letters(10, "")
    assert [letter.fields["stores"] for letter in letters] == ["server"]
    await store._influx._ask("POST", "/query", params={"db": "refused", "q": "DROP MEASUREMENT meter"})
    done, _ = await retry(history, pair, [letter.id for letter in letters])
    assert len(done) == 1
    assert await by_store() == {"embedded": (2, 0, 0), "server": (2, 0, 0)}
    await pair.close()


async def test_service(
    functions: Functions, redis_server: RedisServer, influx_server: InfluxServer, tmp_path: Path
) -> None:
    """Configured with a URL the service writes there, is ready only while it can, and retries by request."""
    influx = {"url": influx_server.url, "api": "v1", "database": f"service_{clock.now_ms()}"}
    settings = HissrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path, "config_dir": tmp_path, "influxdb": influx}
    )
    channel = Channel(functions)
    await channel.claim()
    now_ms = clock.now_ms()
    async with running(create_app, settings) as service:
        await channel.send(now_ms, section("T", {"1": 5}))

        async def written() -> bool:
            status = (await service.get("/api/history/status")).body
            return bool(status["consumer"]["samples"] == 1 and status["store"]["kind"] == "influxdb v1")

        await wait_until(written, "the sample is written")
        body = {"series": [REFS[0]], "start": now_ms - 1000, "end": now_ms + 1000}
        answer = await service.ask("POST", "/api/history/query", body)
        assert answer.body["series"][0]["points"] == [[now_ms, 5.0, 192]]
        path = "/api/history/dead-letters/retry"
        assert (await service.ask("POST", path, {}, Role.OPERATOR)).status == 403
        assert (await service.ask("POST", path, {"ids": ["x"]})).status == 422
        answer = await service.ask("POST", path, {"ids": ["1-1"]})
        assert (answer.status, list(answer.body["failed"])) == (200, ["1-1"])
        influx_server.stop()
        try:
            assert (await service.get("/health")).status == 503
        finally:
            influx_server.start()
        await wait_until(service.ready, "it is ready again")
