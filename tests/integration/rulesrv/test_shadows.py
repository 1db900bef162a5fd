"""Shadows over HTTP: started, compared, promoted, ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.http.tokens import Role
from libs.redis.functions import Functions
from services.rulesrv.app import create_app
from services.rulesrv.settings import RulesrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.site import Site

LEAF = {"source": "comsrv:1001:T:1", "operator": ">", "value": 80}
RULE: dict[str, Any] = {"id": "hot", "name": "Too hot", "conditions": [LEAF]}
LOWER = RULE | {"conditions": [LEAF | {"value": 70}]}


@pytest.fixture
async def service(redis_server: RedisServer, tmp_path: Path, functions: Functions) -> AsyncIterator[Service]:
    settings = {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    async with running(create_app, RulesrvSettings.model_validate(settings)) as started:
        yield started


async def test_a_change_runs_beside_the_rule_and_then_in_its_place(service: Service, functions: Functions) -> None:
    site = await Site(functions).start()
    await service.ask("POST", "/api/rules", RULE)
    started = await service.ask("PUT", "/api/rules/hot/shadow", {"definition": LOWER, "reason": "earlier"})
    assert (started.status, started.body["by"], started.body["definition"]["id"]) == (200, "anna_admin", "hot")
    for value in (75, 85, 60):
        await site.put({1: value})
        await site.pass_ms(1000)
    url = "/api/rules/hot/shadow/comparison?start=0&end="
    found = (await service.get(f"{url}{site.now}")).body
    assert [(one["only"], one["to_ms"] - one["from_ms"]) for one in found["differences"]] == [("shadow", 1000)]
    assert found["differences"][0]["inputs"][0]["value"] == 75
    assert found["changes"][0] == {"path": "conditions[0].value", "old": 80, "new": 70}
    assert (found["active"]["on_ms"], found["shadow"]["on_ms"], found["versions"]) == (1000, 2000, [1])
    assert [one["of"] for one in (await service.get("/api/rules/shadows")).body["items"]] == ["hot"]
    done = await service.ask("POST", "/api/rules/hot/shadow/promote", {})
    assert (done.status, done.body["version"], done.body["conditions"][0]["value"]) == (200, 2, 70)
    assert (await service.get("/api/rules/hot/shadow")).status == 404


async def test_what_is_wrong_is_said_and_who_may(service: Service) -> None:
    wrong = RULE | {"conditions": [LEAF | {"operator": "above"}]}
    refused = await service.ask("PUT", "/api/rules/hot/shadow", {"definition": wrong})
    assert refused.status == 422
    assert refused.body["errors"][0]["field"] == "definition.conditions[0].operator"
    both = await service.ask("PUT", "/api/rules/hot/shadow", {"definition": RULE, "version": 1})
    assert "one of them" in str(both.body)
    assert (await service.ask("PUT", "/api/rules/hot/shadow", {"version": 1})).status == 404
    assert (await service.ask("PUT", "/api/rules/hot/shadow", {"definition": RULE}, role=Role.OPERATOR)).status == 403
    assert (await service.ask("PUT", "/api/rules/hot/shadow", {"definition": RULE})).status == 200
    assert (await service.ask("DELETE", "/api/rules/hot/shadow")).status == 200
