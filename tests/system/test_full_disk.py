"""A small disk fills up: history stops first and says so, control goes on, and it recovers when there is room."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.support.disks import SmallDisk
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

SIZE: Final = "96m"


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[Site, SmallDisk]]:
    """Give a site whose data lie on a small disk."""
    site = Site(tmp_path)
    disk = SmallDisk(site.data, SIZE)
    try:
        site.start()
        yield site, disk
    finally:
        site.stop()
        disk.close()


class Looks:
    """What a person sees of the site."""

    def __init__(self, api: Api) -> None:
        """Keep the way to it."""
        self.api = api

    async def history(self) -> dict[str, Any]:
        """Return what history says about itself."""
        found: dict[str, Any] = (await self.api("GET", "/api/history/status")).body
        return found

    async def alarm(self, source: str) -> dict[str, Any]:
        """Return the newest alarm of a source, or nothing."""
        found = (await self.api("GET", "/api/alarms?limit=200")).body["items"]
        return next((one for one in found if one["source"] == source), {})

    async def is_controlled(self, value: float) -> None:
        """Check that commands reach the device and that what it then measures arrives."""
        body = {"type": "A", "point": 1, "value": value}

        async def verified() -> bool:
            reply = await self.api("POST", "/api/channels/1003/commands?wait_ms=3000", body)
            return bool(reply.status < 300 and reply.body["state"] == "verified")

        async def measured() -> bool:
            point = (await self.api("GET", "/api/channels/1003/points/T/1")).body
            return bool(point["quality"] == "good" and abs(point["value"] - value) < 1)

        await wait_until(verified, f"a command of {value} is verified", 40)
        await wait_until(measured, f"the battery's power is {value}", 20)


async def test_history_stops_first_control_goes_on_and_it_recovers(small: tuple[Site, SmallDisk]) -> None:
    site, disk = small
    async with aiohttp.ClientSession() as session:
        looks = Looks(Api(site, session, site.token()))

        async def reserve() -> bool:
            return (site.data / "redis" / "reserve").exists()

        async def stopped() -> str:
            return str((await looks.history())["consumer"]["problem"] or "")

        async def filling() -> bool:
            return (await looks.alarm("system:disk:data")).get("status") == "New"

        async def down() -> bool:
            return (await looks.alarm("system:store")).get("status") == "New"

        await wait_until(reserve, "room is kept for Redis")
        await looks.is_controlled(10)

        disk.fill(91)
        await wait_until(filling, "an alarm says that the disk fills up", 20)
        assert await stopped() == ""

        disk.fill(96)
        assert "% full, history stops at 95 %" in await wait_until(stopped, "history stops and says why", 20)
        health = (await looks.api("GET", "/health/detailed", service="hissrv")).body
        assert "history stops" in health["checks"]["queue"]["error"]
        await wait_until(down, "an alarm says that history is not written", 30)
        await looks.is_controlled(20)

        disk.fill(100)

        async def given_up() -> bool:
            return "kept in reserve are given up" in site.output

        await wait_until(given_up, "Redis gets the room that was kept for it", 20)
        await looks.is_controlled(30)
        os.kill(site.pid("comsrv"), 9)
        await looks.is_controlled(40)

        disk.empty()

        async def goes_on() -> bool:
            found = await looks.history()
            return found["consumer"]["problem"] is None and found["queue"]["samples"] < 500

        async def returned() -> bool:
            found = [await looks.alarm(source) for source in ("system:disk:data", "system:store")]
            return [one["status"] for one in found] == ["Returned", "Returned"]

        await wait_until(goes_on, "history is written again", 40)
        await wait_until(returned, "the alarms are over", 20)
        await wait_until(reserve, "room is kept again", 20)
        await looks.is_controlled(50)
        ledger = (await looks.api("GET", "/api/ledger")).body
        assert ledger["balanced"], ledger
        assert ledger["history"]["dropped"] == {}, "the queue in Redis held all of it"
