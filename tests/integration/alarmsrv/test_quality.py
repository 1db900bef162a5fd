"""Alarm quality over HTTP: from a journal, the definitions, and hissrv's history of the point."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from libs.clock import now_ms
from libs.http import Role
from libs.redis.functions import Functions
from services.alarmsrv.app import create_app
from services.alarmsrv.settings import AlarmsrvSettings
from services.hissrv.app import create_app as create_history
from services.hissrv.settings import HissrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

HOT: dict[str, Any] = {
    "id": "hot", "source": "comsrv:1001:T:1", "detector": "Hi", "limit": 80, "level": "Major", "message": "Hot",
}  # fmt: skip


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    """Run alarmsrv beside a real hissrv with the same token key."""
    del functions
    (tmp_path / "data").mkdir()
    shared = {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    history: web.Application = create_history(HissrvSettings.model_validate(shared))
    async with TestServer(history) as server:
        where = {"hissrv": {"url": str(server.make_url("")).rstrip("/")}}
        async with running(create_app, AlarmsrvSettings.model_validate({**shared, "services": where})) as started:
            yield started


async def chatter(functions: Functions, turns: int) -> None:
    """Poll a point that wavers about its limit, as a device would."""
    definition = {"id": 1001, "name": "test", "protocol": "virtual", "points": {"T": [{"id": 1}]}}
    await functions.call("channel_upsert", 1001, definition)
    claimed = await functions.json("channel_claim", 1001, {"owner": "test", "interval_ms": 1_000_000})
    began = now_ms() - 2000 * turns
    for number in range(2 * turns):
        value = 81.0 if number % 2 == 0 else 79.5
        section = {"type": "T", "ids": ["1"], "values": [f"{value:.6f}"], "quality": {}}
        block = {"epoch": claimed["epoch"], "seq": number + 1, "at_ms": began + 1000 * number, "block": "b"}
        await functions.call("comsrv_ingest", 1001, {**block, "sections": [section]})


async def test_a_chattering_definition_is_found_and_advised(service: Service, functions: Functions) -> None:
    """It leads the list, and its recorded values say which deadband would have kept it quiet."""
    assert (await service.ask("POST", "/api/alarm-definitions", HOT)).status == 201
    await chatter(functions, 15)
    report = (await service.get("/api/alarms/quality")).body
    assert (report["announced"], report["chattering"][0]["origin"]) == (15, "alarm:hot")
    assert [flood["end_ms"] for flood in report["floods"]] == [None]
    assert report["top"]["items"][0]["percent"] == 100

    async def recorded() -> dict[str, Any]:
        found: dict[str, Any] = (await service.get("/api/alarm-definitions/hot/recommend?start=-1h")).body
        return found if found.get("from") == "history" and found["samples"] == 30 else {}

    found = await wait_until(recorded, "history has the samples")
    assert found["now"]["alarms"] == 15
    assert found["deadband"][-1]["alarms"] in {1, 15}
    assert all(one["reduction_percent"] >= 80 for one in found["recommended"].values() if one)
    assert (await service.get("/api/alarm-definitions/none/recommend")).status == 404
    assert (await service.get("/api/alarms/quality?start=now&end=-1d")).status == 422


async def test_running_against_approved(service: Service) -> None:
    """Nothing approved is NOTFOUND; then every change is named with who made it."""
    assert (await service.get("/api/alarm-definitions/compare")).status == 404
    await service.ask("POST", "/api/alarm-definitions", HOT)
    assert (await service.ask("POST", "/api/alarm-definitions/approve", {}, role=Role.OPERATOR)).status == 403
    approved = await service.ask("POST", "/api/alarm-definitions/approve", {"comment": "review of May"})
    assert (approved.body["approved"], approved.body["by"]) == (1, "anna_admin")
    assert (await service.get("/api/alarm-definitions/compare")).body["same"]
    await service.ask("PUT", "/api/alarm-definitions/hot", {**HOT, "limit": 85, "reason": "quieter"})
    found = (await service.get("/api/alarm-definitions/compare")).body
    assert found["changed"][0]["fields"] == {"limit": {"approved": 80, "running": 85}}
    assert (found["changed"][0]["reason"], found["comment"]) == ("quieter", "review of May")
    await service.ask("DELETE", "/api/alarm-definitions/hot?reason=double")
    await service.ask("POST", "/api/alarm-definitions", {**HOT, "id": "warm", "limit": 60, "reason": "earlier"})
    found = (await service.get("/api/alarm-definitions/compare")).body
    assert (found["missing"], found["added"], found["changed"]) == (["hot"], ["warm"], [])
    said = {name: (who["author"], who["reason"]) for name, who in found["who"].items()}
    assert said == {"hot": ("anna_admin", "double"), "warm": ("anna_admin", "earlier")}
