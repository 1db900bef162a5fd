"""A history store that is down is a system alarm, until it takes samples again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from libs.redis.functions import Functions
from services.hissrv.app import create_app
from services.hissrv.settings import HissrvSettings
from services.hissrv.troubles import FULL_PERCENT, used_percent
from tests.integration.hissrv.support import Channel, section
from tests.support.servers import RedisServer
from tests.support.service import running
from tests.support.wait import wait_until


def settings(redis_server: RedisServer, folder: Path, most: float) -> HissrvSettings:
    store = {"max_disk_percent": most}
    return HissrvSettings.model_validate(
        {"data_dir": folder, "config_dir": folder, "redis": {"url": redis_server.url}, "store": store}
    )


async def test_a_store_that_takes_nothing_is_an_alarm_until_it_does(
    redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    async def alarm(status: str) -> dict[str, Any] | None:
        items = (await functions.read_json("query_alarms", None, {}))["items"]
        wanted = (one for one in items if one["source"] == "system:store" and one["status"] == status)
        return next(wanted, None)

    assert used_percent(tmp_path) < FULL_PERCENT, "the disk of this machine is too full for the tests"
    await functions.call("alarm_system_configure", None, {"store": {"on_delay_ms": 0}})
    channel = Channel(functions)
    await channel.claim()
    async with running(create_app, settings(redis_server, tmp_path, 0.001)):
        await channel.send(1, section("T", {"1": 1}))
        found = await wait_until(lambda: alarm("New"), "the alarm is there")
        assert found
        assert "% full, history stops at" in found["title"]
    async with running(create_app, settings(redis_server, tmp_path, 95)):
        assert await wait_until(lambda: alarm("Returned"), "the alarm is over")
