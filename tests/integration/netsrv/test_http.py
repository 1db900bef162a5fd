"""netsrv and a real HTTP server: 2xx removes, 5xx waits, 4xx puts aside."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from libs.http.tokens import Role
from libs.redis.functions import Functions
from services.netsrv.app import create_app
from tests.integration.hissrv.support import Channel, section
from tests.integration.netsrv.support import FAST, settings_of, status_when
from tests.support.brokers import make_authority, make_certificate
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until


class Request(NamedTuple):
    """What the server got."""

    path: str
    headers: dict[str, str]
    body: Any


class Portal:
    """A server that answers as the test says: each answer once, then 204."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.requests: list[Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Keep a request and answer it."""
        self.requests.append(Request(request.path, dict(request.headers), orjson.loads(await request.read())))
        return self.answers.pop(0) if self.answers else web.Response(status=204)

    async def asked(self, count: int) -> list[Request]:
        """Wait for some requests."""

        async def enough() -> bool:
            return len(self.requests) >= count

        await wait_until(enough, f"{count} requests")
        return self.requests


@pytest.fixture
async def portal() -> Portal:
    """Give the server's state."""
    return Portal()


@pytest.fixture
async def url(portal: Portal) -> AsyncIterator[str]:
    """Give the address of the running server."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", portal.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/ingest"))


async def set_up(service: Service, url: str, **more: Any) -> None:
    """Create the network and a route of one message a point."""
    document = {"id": "portal", "type": "http", "url": url, "retry": FAST, **more}
    answer = await service.ask("POST", "/api/networks", document)
    assert answer.status == 201, answer
    route = {"network": "portal", "source": "comsrv:1001:T:*", "target": "/{channel}/{point}"}
    assert (await service.ask("POST", "/api/routes", route)).status == 201


async def test_until_it_is_taken(netsrv: Service, portal: Portal, url: str, channel: Channel) -> None:
    """500, 503 and 429 are tried again, the same message with the same key; the order is kept."""
    portal.answers = [
        web.Response(status=500, text="broken"), web.Response(status=503),
        web.Response(status=429, headers={"Retry-After": "0"}), web.Response(status=200),
    ]  # fmt: skip
    await set_up(netsrv, url, headers={"X-Site": "plant7"})
    await channel.send(7, section("T", {"1": 1.5, "2": 2}))
    requests = await portal.asked(5)
    assert [request.path for request in requests] == ["/ingest/1001/1"] * 4 + ["/ingest/1001/2"]
    keys = [request.headers["Idempotency-Key"] for request in requests]
    assert keys[:4] == [keys[0]] * 4
    assert keys[4] != keys[0]
    assert requests[0].headers["X-Site"] == "plant7"
    assert requests[3].body == {"ref": "comsrv:1001:T:1", "value": 1.5, "quality": "good", "at_ms": 7}
    status = await status_when(netsrv, "portal", sent=2, queue={"messages": 0, "bytes": 0})
    assert (status["failed"], status["dead_letters"], status["connected"]) == (3, 0, True)


async def test_refused_for_good(netsrv: Service, portal: Portal, url: str, channel: Channel) -> None:
    """400 puts the message aside with the reason, and the next goes on; by hand it is tried again."""
    portal.answers = [web.Response(status=400, text="no such meter")]
    await set_up(netsrv, url)
    await channel.send(7, section("T", {"1": 1, "2": 2}))
    status = await status_when(netsrv, "portal", sent=1, dead_letters=1)
    assert status["last_error"] == "HTTP 400 no such meter"
    page = (await netsrv.get("/api/networks/portal/dead-letters")).body
    (letter,) = page["items"]
    assert (letter["reason"], letter["target"]) == ("HTTP 400 no such meter", "/1001/1")
    assert orjson.loads(letter["payload"])["value"] == 1.0
    retry = "/api/networks/portal/dead-letters/retry"
    assert (await netsrv.ask("POST", retry, role=Role.OPERATOR)).status == 403
    assert (await netsrv.ask("POST", retry)).body == {"queued": 1}
    await status_when(netsrv, "portal", sent=2, dead_letters=0)
    assert [request.path for request in portal.requests] == ["/ingest/1001/1", "/ingest/1001/2", "/ingest/1001/1"]


@pytest.mark.parametrize(
    ("secret", "more", "header", "said"),
    [
        ({"token": "t0ken-word"}, {}, "Authorization", "Bearer t0ken-word"),
        ({"token": "t0ken-word"}, {"token_header": "X-Key"}, "X-Key", "t0ken-word"),
        ({"username": "ann", "password": "t0ken-word"}, {}, "Authorization", "Basic YW5uOnQwa2VuLXdvcmQ="),
    ],
)
async def test_secrets_go_to_the_server_only(
    redis_server: RedisServer, functions: Functions, channel: Channel, portal: Portal, url: str, tmp_path: Any,
    secret: dict[str, str], more: dict[str, str], header: str, said: str,
) -> None:  # fmt: skip
    """They come from the configuration; a server that echoes them can't bring them into a reply of ours."""
    portal.answers = [web.Response(status=400, text=f"bad key {said}")]
    settings = settings_of(redis_server, tmp_path, secrets={"key": secret})
    async with running(create_app, settings) as service:
        await set_up(service, url, secret="key", **more)  # noqa: S106 - its name
        await channel.send(7, section("T", {"1": 1}))
        await status_when(service, "portal", dead_letters=1)
        assert portal.requests[0].headers[header] == said
        shown = [await service.get(path) for path in ("/api/networks", "/api/networks/portal/status")]
        shown.append(await service.get("/api/networks/portal/dead-letters"))
        assert said not in str(shown), shown
        assert "t0ken-word" not in str(shown)
        assert said.removeprefix("Basic ") not in str(shown)


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_is_verified(
    netsrv: Service, portal: Portal, channel: Channel, tmp_path: Path, trusted: bool
) -> None:
    """A server that another authority signed gets nothing; the message waits."""
    authority, stranger = (make_authority(tmp_path / "tls", name) for name in ("authority", "stranger"))
    certificate = make_certificate(authority, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", portal.handle)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    try:
        url = f"https://127.0.0.1:{server.port}/ingest"
        await set_up(netsrv, url, tls={"ca_file": str(authority if trusted else stranger)})
        await channel.send(7, section("T", {"1": 1}))
        if trusted:
            await portal.asked(1)
            return

        async def refused() -> Any:
            found = (await netsrv.get("/api/networks/portal/status")).body
            return found if found["failed"] > 1 else None

        status = await wait_until(refused, "the handshake fails")
        assert "CERTIFICATE_VERIFY_FAILED" in status["last_error"]
        assert (status["queue"]["messages"], portal.requests) == (1, [])
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("path", "document", "said"),
    [
        ("networks", {"type": "http", "url": "http://a", "headers": {"Authorization": "x"}}, "would hold a secret"),
        ("networks", {"type": "http", "url": "http://a", "host": "b"}, "host is not for type http"),
        ("networks", {"type": "mqtt", "host": "a", "password": "x"}, "unknown key"),
        (
            "networks",
            {"type": "mqtt", "host": "a", "commands": {"topic": "a/#", "response_topic": "a/b", "allow": []}},
            "answers would come back",
        ),
        (
            "routes",
            {"network": "x", "source": "comsrv:*", "target": "a/{poind}"},
            "{poind} is no field; did you mean point",
        ),
        (
            "routes",
            {"network": "x", "source": "comsrv:*", "template": {"a": "{value.real}"}},
            "{value.real} is no field",
        ),
        ("routes", {"network": "x", "source": "comsrv:*", "template": {"a": "{value!r}"}}, "takes no form but"),
        ("routes", {"network": "x", "source": "comsrv:*", "template": {"a": "{value:.2f"}}, "template.a: "),
        ("routes", {"network": "x", "source": "comsrv:*"}, "network x"),
    ],
)
async def test_what_is_wrong_is_named(netsrv: Service, path: str, document: dict[str, Any], said: str) -> None:
    answer = await netsrv.ask("POST", f"/api/{path}", document)
    assert answer.status in {404, 422}
    assert said in str(answer.body)
