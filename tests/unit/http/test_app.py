"""The shell every service stands in, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import Field

from libs.config import Settings
from libs.errors import StateError, UnavailableError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes, service_app
from libs.http.tokens import issue, signing_key
from libs.logs import malformed_request
from libs.validation import Id, Model

Client = TestClient[web.Request, web.Application]


class Thing(Model):
    """A thing."""

    id: Id
    level: float = Field(ge=0)


class Note(Model):
    """All optional."""

    comment: str | None = None


routes = Routes()


@routes.get("/api/things", query=PageQuery, reply=Page)
async def list_things(_: web.Request, query: PageQuery) -> Reply:
    """List things."""
    return {"items": [], "cursor": query.cursor, "limit": query.limit}


@routes.post("/api/things", role=Role.ENGINEER, body=Thing, reply=Thing, status=201)
async def create_thing(_: web.Request, body: Thing) -> Reply:
    """Create a thing."""
    return body


@routes.post("/api/things/{id}/note", role=Role.OPERATOR, body=Note)
async def note(request: web.Request, body: Note) -> Reply:
    """Note something."""
    return {"id": request.match_info["id"], "comment": body.comment, "by": request[USER].name}


@routes.get("/api/raw")
async def raw(_: web.Request) -> Reply:
    """Pass JSON through."""
    return Json(b'{"n":1.50}')


@routes.get("/api/state")
async def state(_: web.Request) -> Reply:
    """Refuse."""
    raise StateError("not now")


@routes.get("/api/defect")
async def defect(_: web.Request) -> Reply:
    """Fail with a defect."""
    raise KeyError("secret detail")


async def fine() -> None:
    """Pass."""


async def away() -> None:
    """Fail."""
    raise UnavailableError("Redis is away")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    app = service_app(settings, "rulesrv", routes, checks={"fine": fine})
    async with TestClient(TestServer(app)) as connected:
        yield connected


@pytest.fixture
def tokens(settings: Settings) -> dict[Role, dict[str, str]]:
    key = signing_key(settings)
    return {role: {"Authorization": f"Bearer {issue(key, f'the {role}', role, 60)}"} for role in Role}


async def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document and return it."""
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = await answer.json()
    assert (document["status"], document["code"]) == (status, code)
    return document


async def test_no_route_answers_without_a_token(client: Client) -> None:
    """Not even whether it exists; the challenge says how to authenticate."""
    for path in ("/api/things", "/api/nothing", "/"):
        answer = await client.get(path)
        await problem(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_open_routes_need_no_token(client: Client) -> None:
    """Health, metrics and documentation are for everybody."""
    for path in ("/health", "/health/detailed", "/metrics", "/openapi.json", "/docs"):
        assert (await client.get(path)).status == 200, path


async def test_a_token_of_another_site_is_refused(client: Client) -> None:
    """Only this site's key counts."""
    token = issue("x" * 40, "mallory", Role.ADMIN, 60)
    await problem(await client.get("/api/things", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHORIZED")


async def test_an_expired_token_is_refused(client: Client, settings: Settings) -> None:
    """A token ends."""
    token = issue(signing_key(settings), "late", Role.ADMIN, -1)
    answer = await client.get("/api/things", headers={"Authorization": f"Bearer {token}"})
    assert (await problem(answer, 401, "UNAUTHORIZED"))["detail"] == "the token has expired"


async def test_role_is_checked_before_the_body(client: Client, tokens: dict[Role, Any]) -> None:
    """A viewer learns nothing about what the body should be."""
    answer = await client.post("/api/things", data=b"{", headers=tokens[Role.VIEWER])
    await problem(answer, 403, "FORBIDDEN")


async def test_higher_roles_include_lower_ones(client: Client, tokens: dict[Role, Any]) -> None:
    """An admin may do what an engineer may; creating answers 201 with the document."""
    answer = await client.post("/api/things", json={"id": "a", "level": 2}, headers=tokens[Role.ADMIN])
    assert (answer.status, await answer.json()) == (201, {"id": "a", "level": 2.0})


async def test_every_wrong_field_is_named(client: Client, tokens: dict[Role, Any]) -> None:
    """All at once, with the nearest name for an unknown key."""
    answer = await client.post("/api/things", json={"id": "a:b", "levle": 1}, headers=tokens[Role.ENGINEER])
    document = await problem(answer, 422, "INVALID")
    errors = {error["field"]: error["message"] for error in document["errors"]}
    assert errors["levle"] == "unknown key; did you mean level?"
    assert errors["level"] == "is required"
    assert "'a:b' must match" in errors["id"]


async def test_false_is_no_zero(client: Client, tokens: dict[Role, Any]) -> None:
    """A truth value where a number belongs is refused, as in YAML `limit: off`."""
    reply = await client.post("/api/things", json={"id": "a", "level": False}, headers=tokens[Role.ENGINEER])
    assert reply.status == 422
    assert (await reply.json())["errors"] == [{"field": "level", "message": "must be a number, not false"}]


async def test_a_malformed_request_is_one_warning(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """A request line beyond the limit is the client's fault: refused, and no traceback in the log."""
    caplog.handler.addFilter(malformed_request)
    reply = await client.get("/health?" + 9000 * "x")
    assert reply.status == 400
    (said,) = caplog.records
    assert (said.levelname, said.exc_info) == ("WARNING", None)
    assert "more than 8190 bytes" in said.getMessage()


@pytest.mark.parametrize("body", [b"{", b"", b"[NaN]", b'{"id": "a", "level": NaN}', b"\xff"])
async def test_unparsable_text_is_400(client: Client, tokens: dict[Role, Any], body: bytes) -> None:
    """Text that is no JSON is 400; an empty body lacks its fields."""
    answer = await client.post("/api/things", data=body, headers=tokens[Role.ENGINEER])
    await problem(answer, 400 if body else 422, "INVALID")


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
async def test_deep_nesting_is_refused(client: Client, tokens: dict[Role, Any], depth: int) -> None:
    """However deep, it is one clear error."""
    body = b'{"id":' + b"[" * depth + b"]" * depth + b"}"
    document = await problem(await client.post("/api/things", data=body, headers=tokens[Role.ADMIN]), 422, "INVALID")
    assert "nested deeper" in document["detail"]


async def test_a_large_body_is_413(client: Client, tokens: dict[Role, Any]) -> None:
    """Beyond 1 MB it is not read."""
    answer = await client.post("/api/things", data=b" " * 1_000_001, headers=tokens[Role.ADMIN])
    await problem(answer, 413, "LIMIT")


async def test_an_action_needs_no_body_and_knows_its_user(client: Client, tokens: dict[Role, Any]) -> None:
    """The user is the token's."""
    answer = await client.post("/api/things/a/note", headers=tokens[Role.OPERATOR])
    assert await answer.json() == {"id": "a", "comment": None, "by": "the operator"}


async def test_path_query_and_method_are_checked(client: Client, tokens: dict[Role, Any]) -> None:
    """Each is a problem document naming what is wrong."""
    viewer, operator = tokens[Role.VIEWER], tokens[Role.OPERATOR]
    await problem(await client.post("/api/things/a:b/note", headers=operator), 422, "INVALID")
    await problem(await client.get("/api/things?limit=0", headers=viewer), 422, "INVALID")
    await problem(await client.get("/api/things?limit=1&limit=2", headers=viewer), 422, "INVALID")
    await problem(await client.get("/api/things?limt=1", headers=viewer), 422, "INVALID")
    await problem(await client.get("/api/nothing", headers=viewer), 404, "NOTFOUND")
    refused = await client.delete("/api/things", headers=viewer)
    await problem(refused, 405, "NOTFOUND")
    assert "GET" in refused.headers["Allow"]


async def test_errors_keep_their_code_and_defects_say_nothing(client: Client, tokens: dict[Role, Any]) -> None:
    """Ours become their status; anything else is 500 without details."""
    viewer = tokens[Role.VIEWER]
    await problem(await client.get("/api/state", headers=viewer), 409, "STATE")
    document = await problem(await client.get("/api/defect", headers=viewer), 500, "INTERNAL")
    assert "secret" not in str(document)


async def test_json_passes_through_as_it_is(client: Client, tokens: dict[Role, Any]) -> None:
    """A document of a function is not decoded on its way."""
    assert await (await client.get("/api/raw", headers=tokens[Role.VIEWER])).read() == b'{"n":1.50}'


async def test_health_names_what_failed(settings: Settings) -> None:
    """One failed check makes the service unavailable; the others still show."""
    app = service_app(settings, "rulesrv", routes, checks={"fine": fine, "redis": away})
    async with TestClient(TestServer(app)) as connected:
        answer = await connected.get("/health")
        assert answer.status == 503
        assert (await answer.json())["failed"] == {"redis": "Redis is away"}
        detailed = await (await connected.get("/health/detailed")).json()
        assert detailed["checks"]["fine"]["status"] == "ok"
        assert detailed["checks"]["redis"]["latency_ms"] >= 0


async def test_openapi_describes_every_route(client: Client) -> None:
    """Method, role, parameters, body and answer, from the models."""
    document = await (await client.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    create = document["paths"]["/api/things"]["post"]
    assert create["summary"] == "Create a thing."
    assert create["x-role"] == "engineer"
    assert create["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Thing")
    assert "201" in create["responses"]
    names = {parameter["name"] for parameter in document["paths"]["/api/things"]["get"]["parameters"]}
    assert names == {"limit", "cursor"}
    assert "security" not in document["paths"]["/health"]["get"]


async def test_metrics_count_by_route_pattern(client: Client, tokens: dict[Role, Any]) -> None:
    """An id in the path does not make a series of its own."""
    await client.post("/api/things/a/note", headers=tokens[Role.OPERATOR])
    text = await (await client.get("/metrics")).text()
    assert 'voltage_http_requests_total{method="POST",route="/api/things/{id}/note",status="200"} 1.0' in text


async def test_docs_load_nothing_from_elsewhere(client: Client) -> None:
    """The page works on a gateway without the internet."""
    assert "//" not in (await (await client.get("/docs")).text()).replace("<!--", "")


def test_the_key_is_made_once_and_private(settings: Settings) -> None:
    """All services of a site share it; only its owner reads it."""
    assert signing_key(settings) == signing_key(settings)
    assert (settings.data_dir / "token.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.data_dir.iterdir()] == ["token.key"]
