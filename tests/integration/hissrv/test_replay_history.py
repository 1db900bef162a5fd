"""Where there is no replay log, a backtest is made from history, and says what that does not know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.errors import LimitError, NotFoundError
from libs.influx.client import Server
from libs.redis import client
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.hissrv.consumer import Consumer
from services.hissrv.functions import HistoryFunctions
from services.hissrv.references import References
from services.hissrv.replay import history
from services.hissrv.replay.replays import Replays
from services.hissrv.settings import ConsumerSettings
from services.hissrv.store.contract import Store
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer
from tests.support.site import START, Site
from tests.support.wait import wait_until

LATER = START + 1000
RULE: dict[str, Any] = {
    "name": "hot", "actions": [{"type": "create_alarm", "params": {"title": "hot", "level": "Major"}}],
    "conditions": {
        "any": [
            {"source": "modsrv:m:power", "operator": ">", "value": 60, "for_ms": 2500, "hysteresis": 5},
            {
                "all": [
                    {"source": "comsrv:1001:T:1", "operator": ">", "value": 80},
                    {"source": "comsrv:1001:S:1", "operator": "==", "value": 1},
                ]
            },
            {"source": "comsrv:1001:T:2", "operator": ">", "value": 75, "aggregate": "mean", "window_ms": 6000},
            {"time": {"zone": "UTC", "from": "00:18", "to": "00:19"}},
        ]
    },
}  # fmt: skip
ALARM = {
    "source": "comsrv:1001:T:1",
    "detector": "Hi",
    "limit": 70,
    "deadband": 3,
    "on_delay_ms": 1500,
    "level": "Minor",
}
TEMPLATE = {"name": "t", "class": "load", "data_points": {"power": {"base_id": 1, "kind": "T", "unit": "kW"}}}

ZONE = {"zone": "UTC", "from_ms": 0, "until_ms": 10**12, "changes": [[0, 0]]}
MODEL = {"name": "m", "template": "x", "mapping": {"channel": 1001, "data": {"power": 1}}}


class Past:
    """A site that lived for some minutes, of which only history is left."""

    def __init__(self, functions: Functions, url: str, folder: Path, store: Store) -> None:
        self.functions = functions
        self.site = Site(functions)
        found = history.History(store, References(functions))
        self.replays = Replays(functions, url, found, folder / "replay", "", memory_bytes=1 << 30, server=None)

    async def live(self, steps: int) -> None:
        dice = random.Random(3)
        await self.site.start()
        await self.site.pass_ms(LATER - START)
        await self.functions.call("template_upsert", "x", TEMPLATE)
        await self.functions.call("model_upsert", "m", MODEL)
        await self.functions.call("rule_zone", None, ZONE)
        await self.functions.call("rule_upsert", "hot", RULE)
        await self.functions.call("alarm_define", "hi", ALARM)
        for _ in range(steps):
            await self.site.pass_ms(dice.choice((400, 1000, 1700)))
            values = {point: float(dice.randrange(0, 100)) for point in (1, 2) if dice.random() < 0.5}
            await self.site.put(values, {1: "bad:timeout"} if dice.random() < 0.1 else {})
            if dice.random() < 0.3:
                await self.site.put({1: dice.randrange(2)}, kind="S")
        await self.site.pass_ms(5000)

    async def journal(self, key: str, field: str, name: str) -> list[tuple[str, int]]:
        """Return what the site's own journal has of a rule or a definition."""
        entries = [one for one in await self.site.entries(key) if one[field] == name]
        return [(one["event"], int(one["at_ms"])) for one in entries]

    async def asked(self, **body: Any) -> dict[str, Any]:
        async def progress(done: float, message: str) -> None:
            assert message
            assert 0 <= done <= 1

        whole = {"job": "j1", "start": LATER, "end": self.site.now, **body}
        result = await self.replays.perform(whole, progress)
        report: dict[str, Any] = orjson.loads((await self.replays.report("j1")).read_bytes())
        assert (result["source"], result["exact"]) == ("history", False)
        return report


@asynccontextmanager
async def lived(functions: Functions, server: RedisServer, folder: Path, store: Store) -> AsyncIterator[Past]:
    """Give a site whose samples are in a store, and no log."""
    await store.open()
    blocking = client.connect(server.url, blocking=True)
    one = Consumer(HistoryFunctions(functions), blocking, store, ConsumerSettings(linger_ms=0), "one")
    made = Past(functions, server.url, folder, store)
    await made.live(80)

    async def written() -> bool:
        queued, done = await execute(functions.client, "HMGET", "voltage:ledger", "queued", "written")
        return bool(queued == done)

    running = asyncio.create_task(one.run())
    await wait_until(written, "all samples are in the store")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    yield made
    await blocking.aclose()
    await store.close()


@pytest.fixture
async def past(functions: Functions, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Past]:
    """Give one whose samples are in the embedded store."""
    async with lived(functions, redis_server, tmp_path, EmbeddedStore(tmp_path / "history")) as made:
        yield made


def told(report: dict[str, Any], side: str) -> list[tuple[str, int]]:
    return [(one["event"], one["at_ms"]) for one in report["events"] if one["in"] in {"both", side}]


async def test_a_rule_over_history_fires_when_it_did(past: Past) -> None:
    live = await past.journal("rulesrv:firings", "rule", "hot")
    assert len(live) > 5
    commands = {"type": "command", "params": {"target": "comsrv:1001:A:1", "value": 5, "ttl_ms": 1000}}
    report = await past.asked(of="rule", definition={"id": "hot", **RULE, "actions": [*RULE["actions"], commands]})
    found = {(one["journal"], one.get("state")) for one in report["differences"]}
    assert found == {("rulesrv:firings", None), ("comsrv:journal", "queued")}
    assert isinstance(report["differences"][0]["at_ms"], int)
    report = await past.asked(of="rule", definition={"id": "hot", **RULE})
    assert told(report, "now") == told(report, "then") == live
    assert report["different"] == 0
    words = " ".join(report["reasons"])
    assert "the replay log does not go back that far" in words
    assert "3 series were read" in words


async def test_it_does_from_an_influxdb_too(
    functions: Functions, redis_server: RedisServer, influx_server: InfluxServer, tmp_path: Path
) -> None:
    """Which says that a value was bad, and not why."""
    store = InfluxStore(Server(influx_server.url, "v1", database=f"past{tmp_path.name}"))
    async with lived(functions, redis_server, tmp_path, store) as past:
        report = await past.asked(of="rule", definition={"id": "hot", **RULE})
        assert told(report, "now") == await past.journal("rulesrv:firings", "rule", "hot")


async def test_a_changed_definition_is_compared_with_the_stored_one(past: Past) -> None:
    live = await past.journal("alarmsrv:journal", "origin", "alarm:hi")
    lower = {"id": "hi", **ALARM, "limit": 30}
    report = await past.asked(of="alarm", definition=lower)
    assert told(report, "then") == live
    assert report["totals"]["now"]["lasted_ms"] > report["totals"]["then"]["lasted_ms"]
    assert report["different"] > 0


async def test_a_whole_site_over_history_says_that_there_is_nothing_to_compare_with(past: Past) -> None:
    report = await past.asked()
    live = await past.journal("rulesrv:firings", "rule", "hot")
    assert report["journals"]["rulesrv:firings"] == len(live)
    assert report["different"] == 0


async def test_a_point_without_history_is_named(past: Past) -> None:
    document = {**RULE, "id": "hot", "conditions": [{"source": "comsrv:1001:T:9", "operator": ">", "value": 1}]}
    with pytest.raises(NotFoundError, match="neither a replay log nor history"):
        await past.asked(of="rule", definition=document)
    document["conditions"].append({"source": "comsrv:1001:T:1", "operator": ">", "value": 1})
    report = await past.asked(of="rule", definition=document)
    assert "there is no history of comsrv:1001:T:9 in that time: conditions on it are unknown" in report["reasons"]
    assert told(report, "now") == []


async def test_too_much_history_is_refused_and_leaves_nothing(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 20)
    with pytest.raises(LimitError, match="ask for a shorter one"):
        await past.asked(of="rule", definition={"id": "hot", **RULE})
    assert list((past.replays._folder).glob(".*")) == []
