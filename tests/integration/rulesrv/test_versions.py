"""Versions and proposals over HTTP, and what files have to do with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.http.tokens import Role
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.rulesrv.app import create_app
from services.rulesrv.settings import RulesrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running

LEAF = {"source": "comsrv:1001:T:1", "operator": ">", "value": 80}
RULE: dict[str, Any] = {"id": "hot", "name": "Too hot", "conditions": [LEAF]}
FILE = """
rules:
  - id: hot
    name: {name}
    requires_approval: true
    conditions: [{{source: "comsrv:1001:T:1", operator: ">", value: 80}}]
"""


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> RulesrvSettings:
    (tmp_path / "rules").mkdir()
    return RulesrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    )


@pytest.fixture
async def service(settings: RulesrvSettings, functions: Functions) -> AsyncIterator[Service]:
    async with running(create_app, settings) as started:
        yield started


async def test_versions_their_difference_and_the_way_back(service: Service) -> None:
    await service.ask("POST", "/api/rules", {**RULE, "reason": "new"})
    await service.ask("PUT", "/api/rules/hot", {**RULE, "conditions": [LEAF | {"value": 85}], "reason": "summer"})
    page = (await service.get("/api/rules/hot/versions")).body["items"]
    assert [(one["version"], one["reason"], one["author"]) for one in page] == [
        (2, "summer", "anna_admin"), (1, "new", "anna_admin"),
    ]  # fmt: skip
    change = {"path": "conditions[0].value", "old": 80, "new": 85}
    first = (await service.get("/api/rules/hot/diff?to=1")).body
    assert (first["from"], {"path": "id", "old": None, "new": "hot"} in first["changes"]) == (0, True)
    assert (await service.get("/api/rules/hot/diff")).body == {"from": 1, "to": 2, "changes": [change]}
    back = await service.ask("POST", "/api/rules/hot/rollback", {"version": 1, "reason": "autumn"})
    assert (back.status, back.body["version"], back.body["conditions"][0]["value"]) == (200, 3, 80)
    assert (await service.get("/api/rules/hot/diff?from=1&to=3")).body["changes"] == []
    assert (await service.get("/api/rules/hot/versions/2")).body["definition"]["conditions"][0]["value"] == 85
    assert (await service.get("/api/rules/hot/versions/9")).status == 404
    read = (await service.get("/api/rules/hot")).body
    again = (await service.ask("PUT", "/api/rules/hot", {**read, "priority": 7})).body
    assert (read["reason"], again["version"], again.get("reason")) == ("autumn", 4, None)
    assert (await service.ask("DELETE", "/api/rules/hot?reason=over")).status == 200
    assert (await service.get("/api/rules/hot/versions")).body["items"][0]["reason"] == "over"
    assert (await service.ask("POST", "/api/rules/hot/rollback", {"version": 2})).body["version"] == 6


async def test_an_editor_who_saw_an_older_version_gets_a_conflict(service: Service) -> None:
    """By If-Match with what ETag said, or by the version in the document."""
    await service.ask("POST", "/api/rules", RULE)
    token = {"Authorization": f"Bearer {service.tokens[Role.ADMIN]}"}
    async with service.client.get("/api/rules/hot", headers=token) as answer:
        tag = answer.headers["ETag"]
    for name, status in (("first", 200), ("second", 409)):
        headers = token | {"If-Match": tag}
        async with service.client.put("/api/rules/hot", json={**RULE, "name": name}, headers=headers) as answer:
            assert answer.status == status
    async with service.client.delete("/api/rules/hot", headers=token | {"If-Match": '"1"'}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "CONFLICT")
    async with service.client.delete("/api/rules/hot", headers=token | {"If-Match": "abc"}) as answer:
        assert (answer.status, (await answer.json())["errors"][0]["field"]) == (422, "If-Match")


async def test_a_marked_rule_needs_two(service: Service) -> None:
    """Who proposes does not approve, and needs the role; a viewer sees what waits."""
    marked = {**RULE, "requires_approval": True}
    await service.ask("POST", "/api/rules", marked)
    assert (await service.ask("PUT", "/api/rules/hot", RULE)).body["code"] == "STATE"
    wrong = await service.ask("POST", "/api/rules/hot/proposals", {"definition": {**marked, "name": ""}})
    assert (wrong.status, wrong.body["errors"][0]["field"]) == (422, "definition.name")
    assert (await service.ask("POST", "/api/rules/hot/proposals", {})).status == 422
    made = await service.ask("POST", "/api/rules/hot/proposals", {"definition": {**marked, "name": "Hot"}})
    assert made.status == 201
    (waits,) = (await service.get("/api/rules/proposals?status=pending")).body["items"]
    change = {"path": "name", "old": RULE["name"], "new": "Hot"}
    assert (waits["id"], waits["changes"]) == (made.body["id"], [change])
    approve = f"/api/rules/hot/proposals/{made.body['id']}/approve"
    assert (await service.ask("POST", approve, {}, Role.OPERATOR)).status == 403
    assert (await service.ask("POST", approve, {})).body["code"] == "STATE"
    done = await service.ask("POST", approve, {"comment": "yes"}, Role.ENGINEER)
    assert (done.status, done.body["status"], done.body["decided_by"]) == (200, "approved", "anna_engineer")
    assert (await service.get("/api/rules/hot")).body["name"] == "Hot"


async def test_files_make_versions_and_propose_what_is_marked(service: Service, settings: RulesrvSettings) -> None:
    """A file that says the same makes none; a marked rule waits for a second person, and the service starts."""
    file = settings.config_dir / "rules" / "site.yaml"
    file.write_text(FILE.format(name="One"))
    for changes in (1, 0):
        done = await service.ask("POST", "/configuration/apply", {"reason": "go live"})
        assert len(done.body["changes"]) == changes
    (first,) = (await service.get("/api/rules/hot/versions")).body["items"]
    assert (first["author"], first["reason"]) == ("file:anna_admin", "go live")
    file.write_text(FILE.format(name="Two"))
    (change,) = (await service.get("/configuration/plan", Role.ENGINEER)).body["changes"]
    assert (change["action"], change["changes"][0]["path"]) == ("propose", "name")
    async with running(create_app, settings) as again:
        assert (await again.get("/api/rules/hot")).body["name"] == "One"
        (proposal,) = (await again.get("/api/rules/proposals?of=hot")).body["items"]
        assert (proposal["by"], proposal["definition"]["name"]) == ("file", "Two")
        await again.ask("POST", f"/api/rules/hot/proposals/{proposal['id']}/approve", {})
        assert (await again.get("/api/rules/hot")).body["name"] == "Two"


async def test_files_are_applied_with_one_look_at_each_definition(
    service: Service, settings: RulesrvSettings, functions: Functions
) -> None:
    def write(*rules: str) -> None:
        lines = [f"  - {{id: {rule}, name: {rule}, conditions: [{json.dumps(LEAF)}]}}" for rule in rules]
        (settings.config_dir / "rules" / "r.yaml").write_text("rules:\n" + "\n".join(lines))

    async def reads() -> int:
        found: dict[str, dict[str, int]] = await execute(functions.client, "INFO", "commandstats")
        return found["cmdstat_fcall_ro"]["calls"]

    write("a", "b", "c")
    before = await reads()
    done = await service.ask("POST", "/configuration/apply", {})
    assert [(one["id"], one["action"]) for one in done.body["changes"]] == [(rule, "create") for rule in "abc"]
    assert await reads() - before == 3
    write("a", "d")
    done = await service.ask("POST", "/configuration/apply", {})
    assert [(one["id"], one["action"]) for one in done.body["changes"]] == [
        ("d", "create"), ("b", "delete"), ("c", "delete"),
    ]  # fmt: skip
    assert await reads() - before == 6
    assert [one["id"] for one in (await service.get("/api/rules")).body["items"]] == ["a", "d"]
    assert (await service.get("/configuration/plan", Role.ENGINEER)).body["changes"] == []
