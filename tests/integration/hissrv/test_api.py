"""The service over HTTP: what was ingested can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs import clock
from libs.errors import ConfigurationError
from libs.http import Role
from libs.http.tokens import issue
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.hissrv.app import create_app
from services.hissrv.settings import HissrvSettings
from tests.integration.hissrv.support import MINUTE_MS, START_MS, Api, Channel, section
from tests.support.servers import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
async def channel(functions: Functions) -> Channel:
    """Give a claimed channel."""
    made = Channel(functions)
    await made.claim()
    return made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give the folder of the mappings' files."""
    folder = tmp_path / "config" / "mappings"
    folder.mkdir(parents=True)
    return folder


async def test_means_agree_with_raw_points(api: Api, channel: Channel) -> None:
    """One-minute means weigh the raw points by how long each held, and say how much of the minute was good."""
    for number in range(6):
        await channel.send(START_MS + number * 20_000, section("T", {"1": number}))
    await channel.send(START_MS + 110_000, section("T", {}, {"1": "bad:timeout"}))
    await wait_until(api.written(7), "all samples are in the store")
    (raw,) = await api.query("comsrv:1001:T:1")
    assert raw["points"] == [
        *[[START_MS + number * 20_000, number, 192] for number in range(6)],
        [START_MS + 110_000, None, 0],
    ]
    assert raw["reasons"] == [[START_MS + 110_000, "bad:timeout"]]
    assert (raw["unit"], raw["shares"]) == ("kW", [])
    (mean,) = await api.query("comsrv:1001:T:1", interval="1m")
    assert mean["points"] == [[START_MS, 1.0, 192], [START_MS + MINUTE_MS, (20 * 3 + 20 * 4 + 10 * 5) / 50, 64]]
    assert mean["shares"] == pytest.approx([1.0, 50 / 60])
    (integral,) = await api.query("comsrv:1001:T:1", aggregate="integral")
    assert integral["points"] == [[START_MS, 20 * (1 + 2 + 3 + 4) + 10 * 5, 64]]
    (newest,) = await api.query("comsrv:1001:T:1", order="desc", limit=2)
    assert [point[1] for point in newest["points"]] == [None, 5.0]
    assert await api.query("comsrv:7:T:9") == [
        {"ref": "comsrv:7:T:9", "source": "comsrv:7:T:9", "unit": None, "points": [], "reasons": [], "shares": []}
    ]


async def test_latest(api: Api, channel: Channel) -> None:
    """The newest sample of the series named, or of all, paged."""
    assert await api.call("GET", "latest") == (200, {"items": [], "cursor": None})
    await channel.send(START_MS, section("T", {"1": 1, "2": 2}), section("S", {"1": 1}))
    await channel.send(START_MS + 5, section("T", {"2": 3}, {"2": "uncertain:test"}))
    await wait_until(api.written(4), "all samples are in the store")
    _, page = await api.call("GET", "latest?limit=2")
    assert [item["ref"] for item in page["items"]] == ["comsrv:1001:S:1", "comsrv:1001:T:1"]
    _, page = await api.call("GET", f"latest?limit=2&cursor={page['cursor']}")
    assert page == {
        "items": [
            {
                "ref": "comsrv:1001:T:2", "source": "comsrv:1001:T:2", "unit": None, "at_ms": START_MS + 5,
                "value": 3.0, "quality": 64, "reason": "uncertain:test",
            }
        ],
        "cursor": None,
    }  # fmt: skip
    _, page = await api.call("GET", "latest?ref=comsrv:1001:T:1&ref=comsrv:9:T:9")
    assert [(item["ref"], item["unit"], item["reason"]) for item in page["items"]] == [
        ("comsrv:1001:T:1", "kW", "good")
    ]


async def test_models_points(api: Api, channel: Channel, functions: Functions) -> None:
    """A model's point is read from its channel's history."""
    model = {"id": "m1", "name": "meter", "mapping": {"channel": 1001, "data": {"power": 1}}}
    await functions.call("model_upsert", "m1", model)
    await channel.send(START_MS, section("T", {"1": 7}))
    await wait_until(api.written(1), "the sample is in the store")
    (found,) = await api.query("modsrv:m1:power")
    assert (found["ref"], found["source"], found["unit"]) == ("modsrv:m1:power", "comsrv:1001:T:1", "kW")
    assert found["points"] == [[START_MS, 7.0, 192]]
    _, page = await api.call("GET", "latest?ref=modsrv:m1:power")
    assert [(item["ref"], item["value"]) for item in page["items"]] == [("modsrv:m1:power", 7.0)]
    for ref in ("modsrv:m1:nothing", "modsrv:m2:power"):
        status, problem = await api.call("POST", "query", {"series": [ref], "start": "-5m"})
        assert (status, problem["code"]) == (404, "NOTFOUND")


async def test_a_model_across_a_change_of_device(api: Api, channel: Channel, functions: Functions) -> None:
    """What the model's point was until the change is read from the old point, what it is since from the new one."""
    for number, points in ((1, {"power": 1}), (2, {"power": 2})):
        await functions.call("model_upsert", "m1", {"name": "meter", "mapping": {"channel": 1001, "data": points}})
        changed_ms = clock.now_ms() - (10 if number == 1 else 0)
        await channel.send(changed_ms, section("T", {"1": number, "2": 10 * number}))
        await channel.send(changed_ms + 1, section("T", {"1": number + 0.5, "2": 10 * number + 5}))
    await wait_until(api.written(8), "all samples are in the store")
    (found,) = await api.query("modsrv:m1:power", end="+1m")
    assert [point[1] for point in found["points"]] == [1.0, 1.5, 20.0, 25.0]
    (found,) = await api.query("modsrv:m1:power", end="+1m", aggregate="delta")
    assert [point[1] for point in found["points"]] == [pytest.approx(0.5 + (25 - 15))]
    assert found["source"] == "comsrv:1001:T:2"


async def test_mappings(api: Api) -> None:
    """Create, read, change, list, delete; who changed it and how often."""
    status, made = await api.call("POST", "mappings", {"id": "a", "source": "comsrv:1001:T:*", "reason": "start"})
    assert (status, made["version"], made["author"], made["reason"]) == (201, 1, "ann", "start")
    assert (await api.call("POST", "mappings", {"id": "a", "source": "*"}))[0] == 409
    status, changed = await api.call("PUT", "mappings/a", {"source": "comsrv:1001:T:*", "retention_days": 30})
    assert (status, changed["version"], changed["created_at_ms"]) == (200, 2, made["created_at_ms"])
    assert changed["hash"] != made["hash"]
    assert await api.call("GET", "mappings/a") == (200, changed)
    assert (await api.call("PUT", "mappings/a", {"id": "b", "source": "*"}))[0] == 422
    status, unnamed = await api.call("POST", "mappings", {"source": "*"})
    assert status == 201
    _, page = await api.call("GET", "mappings")
    assert [item["id"] for item in page["items"]] == sorted(["a", unnamed["id"]])
    assert (await api.call("DELETE", "mappings/a"))[0] == 200
    for method in ("GET", "PUT", "DELETE"):
        assert (await api.call(method, "mappings/a", {"source": "*"} if method == "PUT" else None))[0] == 404
    assert (await api.call("POST", "mappings", {"source": "*"}, role=Role.OPERATOR))[0] == 403


async def test_a_mapping_that_matches_nothing(api: Api, channel: Channel) -> None:
    """It is taken, as its points may come later, but the answer and the status say so."""
    headers = {"Authorization": f"Bearer {issue(api.key, 'ann', Role.ENGINEER, 60)}"}
    for name, source, warned in (("a", "comsrv:1001:T:*", False), ("b", "comsrv:1002:T:*", True)):
        body = {"id": name, "source": source}
        async with api.http.post("/api/history/mappings", json=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["source"]) == (201, source)
            assert ("matches none" in answer.headers.get("Warning", "")) is warned
    _, status = await api.call("GET", "status")
    assert status["consumer"]["unmatched_mappings"] == ["b"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"series": []}, "series"),
        ({"series": ["x"]}, "series"),
        ({"series": ["comsrv:1:T:1"] * 2}, "twice"),
        ({"start": "soon"}, "start"),
        ({"end": 5}, "end: must be after start"),
        ({"start": "+1h"}, "not before end"),
        ({"interval": 0}, "interval"),
        ({"interval": 1}, "intervals"),
        ({"interval": "5 apples"}, "interval"),
        ({"interval": "1d", "zone": "Europe/Atlantis"}, "zone"),
        ({"fill": "linear"}, "interval"),
        ({"counter": {"modulus": 10}}, "delta"),
        ({"aggregate": "median"}, "aggregate"),
        ({"limit": 0}, "limit"),
        ({"colour": 1}, "colour"),
    ],
)
async def test_bad_queries(api: Api, change: dict[str, Any], field: str) -> None:
    """Each wrong field is named."""
    status, problem = await api.call("POST", "query", {"series": ["comsrv:1:T:1"], "start": "-1h", **change})
    assert (status, problem["code"]) in {(422, "INVALID"), (429, "LIMIT")}
    assert field in str(problem)


async def test_status_and_dead_letters(api: Api, functions: Functions) -> None:
    """What could not be recorded is shown with the reason; the service stays healthy."""
    await execute(
        functions.client, "XADD", "hissrv:queue", "*", "i", 4, "c", "7", "n", 2, "b", 97,
        "d", b'{"at_ms":"x","events":1}',
    )  # fmt: skip

    async def one_letter() -> Any:
        return (await api.call("GET", "dead-letters?limit=1"))[1]["items"]

    (letter,) = await wait_until(one_letter, "the dead letter is there")
    assert letter["document"] == {"at_ms": "x", "events": 1}
    assert (letter["image"], letter["channel"], letter["samples"]) == (4, "7", 2)
    assert "unreadable" in letter["reason"]
    _, status = await api.call("GET", "status")
    assert (status["queue"]["entries"], status["queue"]["dead_letters"]) == (-1, 1)
    assert (status["store"]["kind"], status["consumer"]["problem"]) == ("embedded", None)
    async with api.http.get("/health/detailed") as answer:
        health = await answer.json()
    async with api.http.get("/metrics") as metrics:
        assert "voltage_history_samples 0.0" in await metrics.text()
    assert (answer.status, sorted(health["checks"])) == (200, ["configuration", "functions", "queue", "redis", "store"])


async def test_second_service_on_the_same_store(api: Api, redis_server: RedisServer, tmp_path: Path) -> None:
    """A second hissrv on the same folder waits, and its health says why."""
    settings = HissrvSettings.model_validate({"data_dir": tmp_path / "data", "redis": {"url": redis_server.url}})
    async with TestClient(TestServer(create_app(settings))) as http, http.get("/health") as answer:
        assert answer.status == 503
        assert "not open" in (await answer.json())["failed"]["store"]


async def test_mappings_from_files(
    config: Path, redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    """Mappings in config/mappings/*.yaml are there when the service is ready; a wrong one is named by file and line."""
    file = config / "site.yaml"
    file.write_text("mappings:\n  - {id: meters, source: 'comsrv:1001:T:*', retention_days: 30}\n")
    settings = HissrvSettings.model_validate(
        {"data_dir": tmp_path, "config_dir": tmp_path / "config", "redis": {"url": redis_server.url}}
    )
    async with TestClient(TestServer(create_app(settings))) as http:

        async def ready() -> bool:
            async with http.get("/health") as answer:
                return answer.status == 200

        await wait_until(ready, "the service is ready")
    (mapping,) = (await functions.read_json("mapping_list", None))["items"]
    assert (mapping["id"], mapping["retention_days"], mapping["author"]) == ("meters", 30, "file")
    file.write_text("mappings:\n  - id: meters\n    source: 'a b'\n    colour: red\n")
    with pytest.raises(ConfigurationError) as caught:
        create_app(settings)
    assert [problem.where for problem in caught.value.problems] == [f"{file}:3", f"{file}:4"]
