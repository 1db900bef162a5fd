"""rulesrv over HTTP on a real Redis."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.redis.functions import Functions
from services.rulesrv.app import create_app
from services.rulesrv.settings import RulesrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

SOURCE = "comsrv:1001:T:1"
RULE: dict[str, Any] = {
    "id": "hot",
    "name": "Too hot",
    "conditions": [{"source": SOURCE, "operator": ">", "value": 80}],
    "actions": [{"type": "create_alarm", "params": {"title": "Hot", "level": "Major"}}],
}


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> RulesrvSettings:
    return RulesrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    )


@pytest.fixture
async def service(settings: RulesrvSettings, functions: Functions) -> AsyncIterator[Service]:
    async with running(create_app, settings) as started:
        yield started


async def test_a_rule_is_created_read_changed_and_deleted(service: Service) -> None:
    """Create is 201 with the stored document; a change counts its version and names its author."""
    created = await service.ask("POST", "/api/rules", RULE)
    assert created.status == 201
    assert (created.body["version"], created.body["author"]) == (1, "anna_admin")
    assert (await service.get("/api/rules/hot")).body == created.body
    changed = await service.ask("PUT", "/api/rules/hot", {**RULE, "name": "Hot", "reason": "shorter"})
    assert (changed.status, changed.body["version"], changed.body["reason"]) == (200, 2, "shorter")
    assert changed.body["hash"] != created.body["hash"]
    assert (await service.get("/api/rules")).body == {"items": [changed.body], "cursor": None}
    assert (await service.ask("DELETE", "/api/rules/hot")).status == 200
    assert (await service.get("/api/rules/hot")).status == 404
    assert (await service.get("/api/rules")).body == {"items": [], "cursor": None}


async def test_saying_the_same_again_changes_nothing(service: Service) -> None:
    """What was read may be sent back; a version that is not the stored one is a conflict."""
    created = (await service.ask("POST", "/api/rules", RULE)).body
    assert (await service.ask("PUT", "/api/rules/hot", created)).body == created
    again = await service.ask("POST", "/api/rules", RULE)
    assert (again.status, again.body["code"]) == (409, "CONFLICT")
    stale = await service.ask("PUT", "/api/rules/hot", {**created, "name": "Other", "version": 7})
    assert (stale.status, stale.body["code"]) == (409, "CONFLICT")


async def test_every_problem_of_a_rule_is_named_and_nothing_is_stored(service: Service) -> None:
    """Each with the path of its field."""
    bad = {
        "name": "",
        "conditions": {"any": [{"source": "a:b", "operator": "~", "value": 1}]},
        "actions": [{"type": "dance"}],
        "prioritty": 1,
    }
    answer = await service.ask("POST", "/api/rules", bad)
    assert (answer.status, answer.body["code"]) == (422, "INVALID")
    assert {error["field"] for error in answer.body["errors"]} == {
        "name",
        "conditions.any[0].source",
        "conditions.any[0].operator",
        "actions[0]",
        "prioritty",
    }
    assert (await service.get("/api/rules")).body["items"] == []


@pytest.mark.parametrize("depth", [33, 200, 1000])
async def test_a_deep_rule_is_refused(service: Service, depth: int) -> None:
    """However deep, one clear error and no crash."""
    leaf = f'{{"source": "{SOURCE}", "operator": ">", "value": 1}}'
    tree = '{"not": ' * depth + leaf + "}" * depth
    answer = await service.ask("POST", "/api/rules", f'{{"name": "deep", "conditions": {tree}}}'.encode())
    assert (answer.status, answer.body["code"]) == (422, "INVALID")
    assert "nested deeper" in answer.body["detail"]
    assert depth > 500 or answer.body["errors"][0]["field"].startswith("conditions")


async def test_a_rule_is_simulated_without_acting(service: Service) -> None:
    """Unknown without a value; with simulated values true or false."""
    await service.ask("POST", "/api/rules", RULE)
    assert (await service.ask("POST", "/api/rules/hot/evaluate")).body["result"] is None
    simulated = await service.ask("POST", "/api/rules/hot/evaluate", {"values": {SOURCE: 90}})
    assert simulated.body["result"] is True
    assert (await service.get("/api/rules/firings")).body == {"items": [], "cursor": None}
    wrong = await service.ask("POST", "/api/rules/hot/evaluate", {"values": {"x": 1}})
    assert wrong.status == 422


async def test_what_a_rule_names_and_is_not_there_is_said(service: Service) -> None:
    """With the answer, read again and in lists; what was read may be sent back."""
    lost = {**RULE, "actions": [{"type": "model_action", "params": {"model": "boiler", "action": "go", "value": 1}}]}
    created = await service.ask("POST", "/api/rules", lost)
    assert (
        created.body["warnings"][-1]
        == "actions[0] modsrv:boiler:go: there is no model boiler; it counts once it is there"
    )
    read = await service.get("/api/rules/hot")
    assert read.body == created.body == (await service.get("/api/rules")).body["items"][0]
    assert (await service.ask("PUT", "/api/rules/hot", read.body)).body["version"] == 1, "nothing has changed"


async def test_all_rules_are_evaluated_in_pages(service: Service) -> None:
    """One call says of many rules what keeps them from deciding."""
    await service.ask("POST", "/api/rules", RULE)
    lost = {**RULE, "id": "lost", "conditions": [{"source": "comsrv:9:T:1", "operator": ">", "value": 1}]}
    await service.ask("POST", "/api/rules", lost)
    first = (await service.get("/api/rules/evaluations?limit=1")).body
    second = (await service.get(f"/api/rules/evaluations?limit=1&cursor={first['cursor']}")).body
    said = {item["rule"]: item["conditions"][0] for item in first["items"] + second["items"]}
    assert (first["cursor"], said["lost"]["missing"], said["lost"]["exists"]) == ("hot", "there is no channel 9", False)


async def test_a_rule_fires_once_and_its_firing_is_listed(service: Service, functions: Functions) -> None:
    """The firing has the inputs of that moment and the version of the rule."""
    await service.ask("POST", "/api/rules", RULE)
    await ingest(functions, "1", "90.000000")
    page = (await service.get("/api/rules/firings?rule=hot&event=fired")).body
    assert [(item["rule"], item["event"], item["version"]) for item in page["items"]] == [("hot", "fired", "1")]
    assert page["items"][0]["inputs"] is not None
    assert page["items"][0]["branch"] == ["conditions[0]"]
    assert (await service.get("/api/rules/firings?rule=other")).body["items"] == []
    assert (await service.get("/api/rules/stats")).body["active"] == 1


async def test_a_rule_publishes_its_message(service: Service, functions: Functions) -> None:
    """On the channel of its topic, with the inputs."""
    say = {"type": "publish", "params": {"topic": "site", "message": "it is hot", "payload": {"floor": 2}}}
    await service.ask("POST", "/api/rules", {**RULE, "actions": [say]})
    async with functions.client.pubsub() as listener:
        await listener.subscribe("rulesrv:published:site")
        await ingest(functions, "1", "90.000000")

        async def heard() -> Any:
            return await listener.get_message(ignore_subscribe_messages=True, timeout=0.1)

        message = orjson.loads((await wait_until(heard, "the message is published"))["data"])
    assert (message["rule"], message["message"], message["payload"]) == ("hot", "it is hot", {"floor": 2})
    assert message["inputs"]


async def test_a_rule_is_switched_off_and_on(service: Service) -> None:
    """Switched off it does nothing; a second time changes nothing."""
    await service.ask("POST", "/api/rules", RULE)
    for _ in range(2):
        assert (await service.ask("POST", "/api/rules/hot/disable", {"comment": "repair"})).body["enabled"] is False
    assert (await service.ask("POST", "/api/rules/hot/enable")).body["enabled"] is True
    assert (await service.ask("POST", "/api/rules/none/enable")).status == 404


async def test_the_tick_lets_time_pass(service: Service, functions: Functions) -> None:
    """A hold ends without new data."""
    held = {**RULE, "conditions": [{"source": SOURCE, "operator": ">", "value": 80, "for_ms": 150}]}
    await service.ask("POST", "/api/rules", held)
    await ingest(functions, "1", "90.000000", interval_ms=60_000)

    async def fired() -> list[Any]:
        items: list[Any] = (await service.get("/api/rules/firings")).body["items"]
        return items

    await wait_until(fired, "the rule fires after its hold")


async def test_files_are_applied_once_and_edits_by_the_api_stay(
    settings: RulesrvSettings, functions: Functions
) -> None:
    """A file counts again only when it says something new."""
    folder = settings.config_dir / "rules"
    folder.mkdir()
    file = folder / "site.yaml"
    text = f"rules:\n  - id: hot\n    name: Hot\n    conditions: [{{source: '{SOURCE}', operator: '>', value: 80}}]\n"
    file.write_text(text)
    async with running(create_app, settings) as service:
        stored = (await service.get("/api/rules/hot")).body
        assert (stored["author"], stored["reason"]) == ("file", f"{file}:2")
        await service.ask("PUT", "/api/rules/hot", {**stored, "name": "By hand"})
    async with running(create_app, settings) as service:
        assert (await service.get("/api/rules/hot")).body["name"] == "By hand"
    file.write_text(text.replace("Hot", "Hotter"))
    async with running(create_app, settings) as service:
        again = (await service.get("/api/rules/hot")).body
        assert (again["name"], again["version"]) == ("Hotter", 3)


async def ingest(functions: Functions, point: str, value: str, interval_ms: int = 1000) -> None:
    """Bring one value of channel 1001, as comsrv does."""
    await functions.json(
        "channel_upsert", 1001, {"id": 1001, "name": "c", "protocol": "virtual", "enabled": True, "interval_ms": 1000}
    )
    claim = await functions.json("channel_claim", 1001, {"owner": "test", "interval_ms": interval_ms})
    at_ms = (await functions.json("voltage_tick", None))["now_ms"]
    section = {"type": "T", "ids": [point], "values": [value], "quality": {}}
    await functions.json(
        "comsrv_ingest",
        1001,
        {
            "epoch": claim["epoch"], "seq": 1, "now_ms": at_ms, "origin": "poll", "channel": 1001, "block": "b",
            "at_ms": at_ms, "sections": [section],
        },
    )  # fmt: skip


async def test_a_rule_says_why(service: Service) -> None:
    """What each condition is, what is missing, and what it would be at another instant."""
    window = {"time": {"zone": "Europe/Berlin", "from": "08:00", "to": "10:00"}}
    await service.ask("POST", "/api/rules", {**RULE, "conditions": {"any": [RULE["conditions"][0], window]}})
    found = (await service.get("/api/rules/hot/explain")).body
    assert (found["version"], found["active"]) == (1, False)
    assert found["conditions"]["conditions"][0]["missing"] == "there is no channel 1001"
    # The zone's table comes from the service itself.
    await wait_until(lambda: _is_open(service), "the window is open")
    assert (await service.get("/api/rules/nobody/explain")).status == 404


async def _is_open(service: Service) -> bool:
    summer = f"{dt.datetime.now(dt.UTC).year}-07-01T09:00:00+02:00"
    answer = await service.ask("POST", "/api/rules/hot/evaluate", {"at_ms": summer})
    assert answer.status == 200
    return bool(answer.body["result"])
