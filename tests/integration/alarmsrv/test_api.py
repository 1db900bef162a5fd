"""alarmsrv over HTTP on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.http import Role
from libs.redis.functions import Functions
from services.alarmsrv.app import create_app
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.retention import Retention
from services.alarmsrv.settings import AlarmsrvSettings, RetentionSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running

BY_HAND: dict[str, Any] = {"id": "door", "title": "Door open", "level": "Minor", "source": "container 3"}
DEFINITION: dict[str, Any] = {
    "id": "hot", "source": "comsrv:1001:T:1", "detector": "Hi", "limit": 80, "level": "Major", "message": "Hot",
}  # fmt: skip


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    settings = AlarmsrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    )
    async with running(create_app, settings) as started:
        yield started


async def test_an_alarm_by_hand_lives_and_ends_by_hand(service: Service) -> None:
    """New, Acknowledged by whom, Resolved; a second acknowledgement changes nothing."""
    created = await service.ask("POST", "/api/alarms", BY_HAND, role=Role.OPERATOR)
    assert (created.status, created.body["status"], created.body["created_by"]) == (201, "New", "anna_operator")
    first = await service.ask("POST", "/api/alarms/door/acknowledge", {"comment": "seen"}, role=Role.OPERATOR)
    assert (first.body["status"], first.body["acknowledged_by"]) == ("Acknowledged", "anna_operator")
    second = await service.ask("POST", "/api/alarms/door/acknowledge")
    assert (second.status, second.body["acknowledged_by"]) == (200, "anna_operator")
    assert (await service.ask("POST", "/api/alarms/door/resolve")).body["status"] == "Resolved"
    late = await service.ask("POST", "/api/alarms/door/acknowledge")
    assert (late.status, late.body["code"]) == (409, "STATE")
    events = (await service.get("/api/alarms/journal?alarm=door")).body["items"]
    assert [(event["event"], event["user"]) for event in reversed(events)] == [
        ("raised", "anna_operator"), ("acknowledged", "anna_operator"), ("resolved", "anna_admin"),
    ]  # fmt: skip


async def test_lists_filter_and_page(service: Service) -> None:
    """By status, level, source and time; the cursor goes on where the page ended."""
    for number, level in enumerate(["Minor", "Major", "Minor"]):
        await service.ask("POST", "/api/alarms", {"id": f"a{number}", "title": "A", "level": level})
    await service.ask("POST", "/api/alarms/a0/resolve")

    async def ids(query: str) -> list[str]:
        return sorted(item["id"] for item in (await service.get(f"/api/alarms?{query}")).body["items"])

    assert await ids("") == ["a0", "a1", "a2"]
    assert await ids("active=true") == ["a1", "a2"]
    assert await ids("active=false") == ["a0"]
    assert await ids("level=Minor&status=New") == ["a2"]
    assert await ids("source=manual") == ["a0", "a1", "a2"]
    assert await ids("start=-1h") == ["a0", "a1", "a2"]
    assert await ids("end=-1h") == []
    page = (await service.get("/api/alarms?limit=2")).body
    rest = (await service.get(f"/api/alarms?limit=2&cursor={page['cursor']}")).body
    assert sorted(item["id"] for item in page["items"] + rest["items"]) == ["a0", "a1", "a2"]
    assert rest["cursor"] is None
    assert (await service.get("/api/alarms?level=Bad")).status == 422
    assert (await service.get("/api/alarms/stats")).body["active"] == 2


async def test_shelving_has_an_end(service: Service) -> None:
    """A duration or one shot, not both and not neither."""
    await service.ask("POST", "/api/alarms", BY_HAND)
    shelved = await service.ask("POST", "/api/alarms/door/shelve", {"duration_ms": 60_000, "comment": "repair"})
    assert shelved.body["shelved"]["by"] == "anna_admin"
    assert (await service.ask("POST", "/api/alarms/door/unshelve")).body["shelved"] is None
    for wrong in ({}, {"duration_ms": 1, "one_shot": True}, {"duration_ms": 0}):
        assert (await service.ask("POST", "/api/alarms/door/shelve", wrong)).status == 422


async def test_suppression_and_service(service: Service) -> None:
    """Each is set and taken back; both need an engineer."""
    await service.ask("POST", "/api/alarms", BY_HAND)
    assert (await service.ask("POST", "/api/alarms/door/suppress")).body["suppressed"]["by"] == "anna_admin"
    assert (await service.ask("POST", "/api/alarms/door/unsuppress")).body["suppressed"] is None
    out = await service.ask("POST", "/api/alarms/door/out-of-service", {"comment": "maintenance"})
    assert out.body["out_of_service"]["by"] == "anna_admin"
    back = await service.ask("POST", "/api/alarms/door/out-of-service", {"in_service": True})
    assert back.body["out_of_service"] is None
    assert (await service.ask("POST", "/api/alarms/door/suppress", role=Role.OPERATOR)).status == 403


async def test_many_are_acknowledged_at_once(service: Service) -> None:
    """What can't be is named, the rest is done."""
    ids = [f"door{number}" for number in range(25)]
    for one in ids:
        await service.ask("POST", "/api/alarms", {**BY_HAND, "id": one})
    answer = await service.ask("POST", "/api/alarms/acknowledge", {"ids": ["none", *ids]})
    assert answer.body["acknowledged"] == ids
    assert [failed["id"] for failed in answer.body["failed"]] == ["none"]


async def test_definitions_are_created_changed_and_deleted(service: Service) -> None:
    """With their history; what does not fit the detector is named."""
    assert (await service.ask("POST", "/api/alarm-definitions", DEFINITION)).status == 201
    changed = await service.ask("PUT", "/api/alarm-definitions/hot", {**DEFINITION, "limit": 85})
    assert (changed.body["version"], changed.body["limit"]) == (2, 85)
    assert (await service.get("/api/alarm-definitions")).body["items"] == [changed.body]
    assert (await service.ask("DELETE", "/api/alarm-definitions/hot")).status == 200
    assert (await service.get("/api/alarm-definitions/hot")).status == 404
    for wrong in ({"limit": None}, {"detector": "Deviation"}, {"level": "major"}, {"source": "x"}, {"limt": 1}):
        assert (await service.ask("POST", "/api/alarm-definitions", {**DEFINITION, **wrong})).status == 422, wrong


async def test_every_detector_is_taken_by_the_functions(service: Service) -> None:
    """What the schema accepts, Redis accepts."""
    variants: list[dict[str, Any]] = [
        *[{"detector": name} for name in ("HiHi", "Hi", "Lo", "LoLo", "State")],
        {"detector": "Deviation", "other": "comsrv:1001:T:2", "deadband": 1},
        {"detector": "Discrepancy", "other": "modsrv:pv1:power"},
        {"detector": "Quality", "limit": "bad:stale"},
        {"detector": "Quality", "limit": None},
        {"detector": "NoData", "limit": 5000},
    ]
    for variant in variants:
        answer = await service.ask("POST", "/api/alarm-definitions", {**DEFINITION, **variant, "id": None})
        assert answer.status == 201, (variant, answer.body)


async def test_retention_removes_resolved_alarms_only(functions: Functions, tmp_path: Path) -> None:
    """An old alarm that is open stays."""
    for name in ("door", "gate"):
        await functions.json("store_alarm", name, {"title": name, "level": "Minor", "now_ms": 1})
    await functions.json("resolve_alarm", "door", "anna", "2")
    await Retention(AlarmFunctions(functions), Archive(tmp_path), RetentionSettings(days=1), None).clean()
    found = await functions.read_json("query_alarms", None, {})
    assert [item["id"] for item in found["items"]] == ["gate"]


async def test_what_the_functions_refuse_is_at_its_fields(service: Service) -> None:
    bad = {"message": "{value:9}", "suppress_when": [{"source": "x", "operator": ">", "value": 1}]}
    refused = await service.ask("POST", "/api/alarm-definitions", {**DEFINITION, **bad})
    assert refused.status == 422
    assert [error["field"] for error in refused.body["errors"]] == ["message", "suppress_when[0].source"]
    assert refused.body["errors"][0]["message"].startswith("{value:9} is unknown")
    assert "\x1f" not in refused.body["detail"]


async def test_what_alarms_come_from_can_be_marked(service: Service) -> None:
    """A definition is shelved before its alarm comes; a group is suppressed; all of it is listed."""
    created = await service.ask("POST", "/api/alarm-definitions", {**DEFINITION, "group": "trip"})
    assert created.status == 201
    assert created.body["warnings"] == ["source comsrv:1001:T:1 is no point yet; it counts once it appears"]
    shelved = await service.ask("POST", "/api/alarms/alarm:hot/shelve", {"duration_ms": 60_000, "comment": "repair"})
    assert (shelved.status, shelved.body["shelved"]["by"]) == (200, "anna_admin")
    suppressed = await service.ask("POST", "/api/alarms/group:trip/suppress")
    assert (suppressed.status, suppressed.body["suppressed"]["by"]) == (200, "anna_admin")
    marks = (await service.get("/api/alarms/marks")).body["items"]
    assert [(mark["kind"], mark["name"]) for mark in marks] == [("shelved", "alarm:hot"), ("suppressed", "group:trip")]
    for name, status in (("alarm:nobody", 404), ("nothing:x", 422), ("nobody", 404)):
        assert (await service.ask("POST", f"/api/alarms/{name}/suppress")).status == status
    # What was read may be sent back: its warnings say nothing.
    again = await service.ask("PUT", "/api/alarm-definitions/hot", created.body)
    assert (again.status, again.body["version"]) == (200, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"detector": "Magic"}, "detector"),
        ({"message": "at {colour}"}, "message"),
        ({"detector": "Lo", "limit": 90, "id": "low"}, "limit 90 of Lo is above the limit 80 of Hi"),
        ({"suppresses": ["nobody"]}, "suppresses"),
    ],
)
async def test_a_definition_that_can_not_be_names_its_path(
    service: Service, change: dict[str, Any], field: str
) -> None:
    await service.ask("POST", "/api/alarm-definitions", DEFINITION)
    refused = await service.ask("POST", "/api/alarm-definitions", {**DEFINITION, "id": "other", **change})
    assert (refused.status, refused.body["code"]) == (422, "INVALID")
    assert field in str(refused.body)
