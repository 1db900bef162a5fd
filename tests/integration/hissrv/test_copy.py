"""Two stores at once in the running service: copied from one to the other by request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from libs import clock
from libs.influx.client import Server
from libs.redis.functions import Functions
from libs.redis.queue import EntryId
from services.hissrv.app import create_app
from services.hissrv.settings import HissrvSettings
from services.hissrv.store.contract import Entry, Part, Query
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from tests.integration.hissrv.support import Channel, section
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer
from tests.support.service import running
from tests.support.wait import wait_until

REFS = ["comsrv:1001:T:1", "comsrv:1001:T:2"]


async def test_both_ways(
    functions: Functions, redis_server: RedisServer, influx_server: InfluxServer, tmp_path: Path
) -> None:
    """What each had before goes to the other, while both take what comes; the same copy again changes nothing."""
    now_ms = clock.now_ms()
    server = Server(influx_server.url, "v1", database=f"copy_{now_ms}")
    for store, value, number in ((EmbeddedStore(tmp_path / "history"), 1.0, 1), (InfluxStore(server), 2.0, 2)):
        await store.open()
        await store.write([Entry(EntryId(1, number), [Part(now_ms - 5000 + number, REFS, np.full(2, value))])])
        await store.close()
    influx = {"url": server.url, "api": "v1", "database": server.database, "beside": True}
    settings = HissrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path, "config_dir": tmp_path, "influxdb": influx}
    )
    channel = Channel(functions)
    await channel.claim()
    async with running(create_app, settings) as service:
        await channel.send(now_ms, section("T", {"1": 3, "2": 3}))
        for source, target, samples in (("embedded", "server", 2), ("server", "embedded", 4)) * 2:
            asked = await service.ask("POST", "/api/history/copy", {"from": source, "to": target})

            async def ended(job: str = asked.body["id"]) -> Any:
                found = (await service.get(f"/api/jobs/{job}")).body
                return found["state"] in {"done", "failed"} and found

            found = await wait_until(ended, "the copy ends")
            assert found["state"] == "done", found["error"]
            assert (found["result"]["series"], found["result"]["samples"] >= samples) == (2, True)
    expected = [(now_ms - 4999, 1.0), (now_ms - 4998, 2.0), (now_ms, 3.0)]
    for store in (EmbeddedStore(tmp_path / "history"), InfluxStore(server)):
        await store.open()
        answer = await store.query(Query(REFS, 0, now_ms + 1, now_ms + 1))
        await store.close()
        assert [[(p.at_ms, p.value) for p in answer[ref]] for ref in REFS] == [expected, expected]
