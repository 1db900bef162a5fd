"""A site that runs is copied, and lives on elsewhere with the same answers."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from libs.instants import parse_instant
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

RULE = {
    "id": "backup_rule",
    "name": "Import target too high",
    "conditions": [{"source": "comsrv:1100:T:7", "operator": ">", "value": 100}],
    "actions": [{"type": "create_alarm", "params": {"level": "Major", "title": "Before the backup"}}],
}
HISTORY = {"series": ["comsrv:1001:T:1"], "start": "-1h", "limit": 5000}


async def prepare(site: Site, api: Api) -> None:
    """Leave something of every kind: a rule, its alarm, history, a user, and a command that waits."""
    assert (await api("POST", "/api/rules", RULE)).status == 201
    assert (await api("PUT", "/api/channels/1100/points/T/7", {"value": 150})).status == 200

    async def recorded() -> bool:
        reply = await api("POST", "/api/history/query", {**HISTORY, "end": "now"})
        alarms = await api("GET", "/api/alarms?limit=200")
        points = reply.body["series"][0]["points"] if reply.body["series"] else []
        return len(points) >= 8 and any(one["title"] == "Before the backup" for one in alarms.body["items"])

    await wait_until(recorded, "there is history, and the rule's alarm", 20)
    made = await api(
        "POST", "/api/users", {"name": "anna", "role": "operator", "password": "correct horse battery"},
        token=site.token("admin"),
    )  # fmt: skip
    assert made.status == 201, made
    # A channel that nobody claims: its command waits for ten minutes.
    with site.redis() as redis:
        channel = '{"id":1999,"name":"away","protocol":"virtual","enabled":false,"points":{"A":[{"id":1}]}}'
        redis.call("FCALL", "channel_upsert", 1, "1999", channel)
        redis.call("FCALL", "command_submit", 1, "1999", '{"id":"late","type":"A","point":1,"value":5,"ttl_ms":600000}')


async def answers(api: Api, end_ms: int) -> dict[str, Any]:
    """Return what the site says that time does not change."""
    query = {**HISTORY, "end": end_ms}
    journal = (await api("GET", "/api/alarms/journal?limit=500")).body["items"]
    alarms = (await api("GET", "/api/alarms?limit=200")).body["items"]
    return {
        "value": (await api("GET", "/api/channels/1100/points/T/7")).body["value"],
        "rule": (await api("GET", "/api/rules/backup_rule")).body["conditions"],
        "rules": sorted(one["id"] for one in (await api("GET", "/api/rules?limit=200")).body["items"]),
        "models": sorted(one["id"] for one in (await api("GET", "/api/models?limit=200")).body["items"]),
        "alarm": [(one["id"], one["status"]) for one in alarms if one["title"] == "Before the backup"],
        "journal": [one for one in journal if int(one["at_ms"]) <= end_ms],
        "history": (await api("POST", "/api/history/query", query)).body["series"],
    }


async def test_a_backup_restored_elsewhere_gives_the_same_answers(
    own_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = own_site()
    file = tmp_path / "site.voltage"
    async with aiohttp.ClientSession() as session:
        token = site.token()
        api = Api(site, session, token)
        await prepare(site, api)
        made = site.voltage("backup", str(file), timeout_s=60)
        assert made.returncode == 0, made.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not (site.data / ".backup").exists()
        point = re.search(r"recovery point: (\S+),", made.stdout)
        assert point is not None, made.stdout
        # A block that was read just before the recovery point may have come just after it.
        end_ms = parse_instant(point[1]) - 1500
        before = await answers(api, end_ms)
        for name, said in before.items():
            assert said, name
        refused = site.voltage("restore", str(file))
        assert refused.returncode == 1
        assert "voltage up runs" in refused.stderr
    site.stop()

    other = Site(tmp_path / "other")
    shutil.rmtree(other.config)
    restored = other.voltage("restore", str(file), timeout_s=60)
    assert restored.returncode == 0, restored.stderr
    assert "recovery point: 20" in restored.stdout
    assert "took " in restored.stdout
    assert "commands that waited and expired: 1" in restored.stdout
    assert stat.S_IMODE(other.data.stat().st_mode) == 0o700
    again = other.voltage("restore", str(file))
    assert again.returncode == 1
    assert "is not empty" in again.stderr
    try:
        other.start()
        async with aiohttp.ClientSession() as session:
            # The token of the first site: the key came along.
            api = Api(other, session, token)
            after = await answers(api, end_ms)
            for name, said in before.items():
                assert after[name] == said, name
            assert (await api("GET", "/api/commands/late")).body["state"] == "expired"
            login = await api("POST", "/api/auth/login", {"name": "anna", "password": "correct horse battery"})
            assert login.status == 200, login

            async def goes_on() -> bool:
                reply = await api("POST", "/api/history/query", {**HISTORY, "start": "-5s", "end": "now"})
                ready = await api("GET", "/health")
                return bool(reply.body["series"] and reply.body["series"][0]["points"]) and ready.status == 200

            await wait_until(goes_on, "new samples reach the restored history", 20)
            ledger = await api("GET", "/api/ledger")
            assert ledger.status == 200
            assert ledger.body.get("balanced", True), ledger
    finally:
        other.stop()
