"""Calls pass through as they come; what goes wrong is said as a problem, and never looks right."""

from __future__ import annotations

import io
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs.http.tokens import signing_key
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.support import Gateway


async def test_method_path_query_body_and_status_pass_unchanged(gateway: Gateway) -> None:
    status, told = await gateway.call("PATCH", "/api/channels/a%2Fb?status=207&x=%20", {"a": 1})
    assert (status, told["method"], told["path"]) == (207, "PATCH", "/api/channels/a%2Fb?status=207&x=%20")
    assert told["body"] == '{"a": 1}'


async def test_headers_of_one_hop_and_the_sessions_cookie_stay_here(gateway: Gateway) -> None:
    headers = {
        "Authorization": f"Bearer {gateway.token()}", "Cookie": "voltage_refresh_6000=secret", "X-Kept": "1",
        "Connection": "keep-alive, X-Dropped", "X-Dropped": "1",
    }  # fmt: skip
    async with gateway.http.get("/api/channels", headers=headers) as answer:
        told = (await answer.json())["headers"]
        assert answer.headers["X-Told"] == "yes"
    assert told["authorization"] == headers["Authorization"]
    assert told["x-kept"] == "1"
    assert not {"cookie", "x-dropped"} & told.keys()


async def test_without_a_token_nothing_passes(gateway: Gateway) -> None:
    for path in ("/api/channels", "/api/channels/1/points", "/api/history/query", "/api/nothing"):
        status, problem = await gateway.call("GET", path, role=None)
        assert (status, problem["code"]) == (401, "UNAUTHORIZED")


async def test_a_service_that_is_away_is_503(gateway: Gateway) -> None:
    status, problem = await gateway.call("GET", "/api/rules")
    assert (status, problem["code"], problem["detail"]) == (503, "UNAVAILABLE", "rulesrv is away")


async def test_a_write_whose_answer_was_lost_says_that_it_may_have_happened(gateway: Gateway) -> None:
    status, problem = await gateway.call("POST", "/api/channels/dies", {})
    assert (status, problem["code"]) == (503, "UNAVAILABLE")
    assert "not known" in problem["detail"]


async def test_a_large_answer_is_streamed_whole(gateway: Gateway) -> None:
    async with gateway.http.get(
        "/api/channels/large", headers={"Authorization": f"Bearer {gateway.token()}"}
    ) as answer:
        assert len(await answer.read()) == 3_000_000


async def test_half_an_answer_does_not_look_whole(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    with pytest.raises(aiohttp.ClientError):
        async with gateway.http.get("/api/channels/broken", headers=headers) as answer:
            await answer.read()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(gateway: Gateway, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"z" * 100_000

    body = chunks() if chunked else io.BytesIO(b"z" * 2_000_000)
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    async with gateway.http.post("/api/channels", data=body, headers=headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "LIMIT"


async def test_health_is_ok_only_when_every_service_is(gateway: Gateway) -> None:
    status, health = await gateway.call("GET", "/health", role=None)
    assert status == 503
    assert {"alarmsrv", "hissrv", "modsrv", "rulesrv"} <= health["failed"].keys()
    assert "comsrv" not in health["failed"]
    _, detailed = await gateway.call("GET", "/health/detailed", role=None)
    assert detailed["checks"]["comsrv"]["status"] == "ok"


async def test_the_page_is_open_and_may_not_be_framed(gateway: Gateway) -> None:
    async with gateway.http.get("/") as answer:
        assert answer.status == 200
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "/assets/app.js" in await answer.text()
    async with gateway.http.get("/assets/app.js") as answer:
        assert answer.status == 200
    async with gateway.http.get("/assets/..%2findex.html") as answer:
        assert answer.status == 404


async def file(parts: int, size: int = 100_000, *, broken: bool = False) -> AsyncIterator[bytes]:
    """Yield a body, which may break off."""
    for _ in range(parts):
        yield b"x" * size
    if broken:
        raise ValueError("the sender goes away")


async def test_a_file_passes_as_it_comes(gateway: Gateway) -> None:
    """Larger than any other body may be, with its length known or not."""
    headers = {"Authorization": f"Bearer {gateway.token()}", "Content-Type": "text/csv"}
    for more, sent in (({}, file(30)), ({"Content-Length": "3000000"}, io.BytesIO(b"x" * 3_000_000))):
        async with gateway.http.post("/api/channels/1/file", data=sent, headers=headers | more) as answer:
            told = await answer.json()
        assert len(told["body"]) == 3_000_000
        assert told["headers"].get("content-length") == more.get("Content-Length")
    headers["Content-Type"] = "application/json"
    async with gateway.http.post("/api/channels/1/file", data=file(30), headers=headers) as answer:
        assert answer.status == 413


async def test_a_file_has_a_limit_and_is_whole_or_nothing(settings: GatewaySettings) -> None:
    """One that says that it is too large, turns out so, or breaks off is refused; the service gets no half of it."""
    proxy = settings.proxy.model_copy(update={"max_upload_bytes": 250_000})
    async with TestClient(TestServer(create_app(settings.model_copy(update={"proxy": proxy})))) as http:
        gateway = Gateway(http, signing_key(settings))
        headers = {"Authorization": f"Bearer {gateway.token()}", "Content-Type": "text/csv"}
        for data in (io.BytesIO(b"x" * 250_001), file(9)):
            async with http.post("/api/channels/1/file", data=data, headers=headers) as answer:
                problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (413, "LIMIT")
            assert "larger than 250000 bytes" in problem["detail"]
        with pytest.raises(aiohttp.ClientError):
            await http.post("/api/channels/1/file", data=file(1, broken=True), headers=headers)
        _, told = await gateway.call("GET", "/api/channels/1/seen")
        assert told["seen"] == 0
        async with http.post("/api/channels/1/file", data=b"x", headers={"Content-Type": "text/csv"}) as answer:
            assert answer.status == 401


async def test_a_service_that_takes_a_file_and_never_answers_is_not_waited_for(settings: GatewaySettings) -> None:
    proxy = settings.proxy.model_copy(update={"upload_timeout_s": 0.1, "read_timeout_s": 0.1})
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        comsrv = settings.services["comsrv"].model_copy(update={"url": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        changed = {"proxy": proxy, "services": {**settings.services, "comsrv": comsrv}}
        async with TestClient(TestServer(create_app(settings.model_copy(update=changed)))) as http:
            token = Gateway(http, signing_key(settings)).token()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"}
            for parts in (1, 200):
                async with http.post("/api/channels/1/file", data=file(parts), headers=headers) as answer:
                    problem = await answer.json(content_type=None)
                assert (answer.status, problem["code"]) == (503, "UNAVAILABLE")
