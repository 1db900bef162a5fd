"""modsrv over HTTP on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.http import Role
from libs.redis.functions import Functions
from services.modsrv.app import create_app
from services.modsrv.settings import ModsrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running

TEMPLATE: dict[str, Any] = {
    "id": "meter",
    "name": "Meter",
    "class": "grid_meter",
    "data_points": {"power": {"base_id": 1, "unit": "kW"}, "closed": {"base_id": 1, "kind": "S"}},
    "actions": {"limit": {"base_id": 1, "kind": "A", "unit": "kW"}},
}
MODEL: dict[str, Any] = {
    "id": "m1",
    "name": "Feeder",
    "template": "meter",
    "mapping": {"channel": 1001, "data_offset": 0, "action_offset": 0},
    "metadata": {"location": "hall"},
}


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    settings = ModsrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    )
    points = {"T": [{"id": 1, "name": "p"}], "A": [{"id": 1, "name": "limit", "min": 0, "max": 100}]}
    await functions.json(
        "channel_upsert",
        1001,
        {"id": 1001, "name": "c", "protocol": "virtual", "enabled": True, "interval_ms": 1000, "points": points},
    )
    async with running(create_app, settings) as started:
        assert (await started.ask("POST", "/api/templates", TEMPLATE)).status == 201
        assert (await started.ask("POST", "/api/models", MODEL)).status == 201
        yield started


async def test_a_model_keeps_what_was_sent(service: Service) -> None:
    """With version, author and hash beside it; the list filters by template."""
    model = (await service.get("/api/models/m1")).body
    assert {name: model[name] for name in ("id", "name", "template", "metadata")} == {
        "id": "m1", "name": "Feeder", "template": "meter", "metadata": {"location": "hall"},
    }  # fmt: skip
    assert (model["version"], model["author"]) == (1, "anna_admin")
    assert (await service.get("/api/models?template=meter")).body["items"] == [model]
    assert (await service.get("/api/models?template=other")).body["items"] == []


async def test_names_expand_and_points_are_found_again(service: Service) -> None:
    """Name to reference, and reference to names."""
    expanded = (await service.get("/api/models/m1/expanded")).body
    assert expanded["data"] == {"closed": "comsrv:1001:S:1", "power": "comsrv:1001:T:1"}
    assert expanded["action"] == {"limit": "comsrv:1001:A:1"}
    found = (await service.get("/api/reverse/1001/T/1")).body
    assert found["points"] == {"T:1": [["m1", "power"]]}
    assert (await service.get("/api/reverse/1001/X/1")).status == 422
    assert (await service.get("/api/reverse/abc/T/1")).status == 422


async def test_values_that_were_never_seen_are_missing(service: Service) -> None:
    """Null, and a quality that says so."""
    values = (await service.get("/api/models/m1/values")).body["values"]
    assert values["power"] == {"value": None, "quality": "missing", "at_ms": None}


async def test_an_action_becomes_a_command_of_its_user(service: Service) -> None:
    """202 and the command; the same id again is the same command; a value out of range is refused."""
    path = "/api/models/m1/actions/limit"
    sent = await service.ask("POST", path, {"value": 50, "id": "c1"}, role=Role.OPERATOR)
    assert sent.status == 202
    command = sent.body
    assert (command["channel"], command["type"], command["point"], command["state"]) == (1001, "A", 1, "queued")
    assert command["source"] == {"kind": "user", "name": "anna_operator"}
    assert (await service.ask("POST", path, {"value": 50, "id": "c1"})).body == command
    refused = await service.ask("POST", path, {"value": 500})
    assert (refused.status, refused.body["code"]) == (422, "INVALID")
    assert (await service.ask("POST", "/api/models/m1/actions/none", {"value": 1})).status == 404
    assert (await service.ask("POST", path, {"value": 1}, role=Role.VIEWER)).status == 403


async def test_a_template_in_use_is_not_deleted(service: Service) -> None:
    """It goes when no model uses it."""
    assert (await service.ask("DELETE", "/api/templates/meter")).body["code"] == "STATE"
    assert (await service.ask("DELETE", "/api/models/m1")).status == 200
    assert (await service.ask("DELETE", "/api/templates/meter")).status == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "a:b"}, "id"),
        ({"mapping": {"channel": 0}}, "mapping.channel"),
        ({"mapping": {"channel": 1, "data": {"p": "X:1"}}}, "mapping.data.p"),
        ({"mapping": {"chanel": 1}}, "mapping.chanel"),
        ({"name": ""}, "name"),
    ],
)
async def test_a_wrong_field_is_named(service: Service, change: dict[str, Any], field: str) -> None:
    """By its path."""
    answer = await service.ask("POST", "/api/models", {**MODEL, "id": "m2", **change})
    assert answer.status == 422
    assert any(error["field"].startswith(field) for error in answer.body["errors"]), answer.body
