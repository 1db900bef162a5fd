"""The settings of system alarms reach Redis, and name all there are."""

from __future__ import annotations

from pathlib import Path

from libs.redis.functions import Functions
from services.alarmsrv.app import create_app
from services.alarmsrv.settings import AlarmsrvSettings
from services.alarmsrv.system import SystemSettings
from tests.support.servers import RedisServer
from tests.support.service import running
from tests.support.wait import wait_until


async def test_the_settings_name_all_system_alarms(functions: Functions) -> None:
    known = {one["alarm"] for one in await functions.read_json("alarm_system_list", None)}
    assert set(SystemSettings.model_fields) == known


async def test_a_site_changes_a_system_alarm_and_changes_it_back(
    redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    shared = {"data_dir": tmp_path, "config_dir": tmp_path, "redis": {"url": redis_server.url}}

    async def network(level: str) -> bool:
        found = await functions.read_json("alarm_system_list", None)
        return next(one for one in found if one["alarm"] == "network")["level"] == level

    system = {"network": {"level": "Critical"}, "command": {"enabled": False}}
    async with running(create_app, AlarmsrvSettings.model_validate({**shared, "system": system})):
        await wait_until(lambda: network("Critical"), "the level is set")
    async with running(create_app, AlarmsrvSettings.model_validate(shared)):
        await wait_until(lambda: network("Minor"), "the level is the built-in one")
