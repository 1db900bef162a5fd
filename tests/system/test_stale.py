"""comsrv dies and stays away: nothing of it stays good, and nothing is commanded on what it last said."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from libs.clock import now_ms
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

CHANNELS: Final = (1001, 1002, 1003, 1004, 1005, 1100)
TRUE: Final = {"source": "comsrv:1001:T:1", "operator": ">", "value": -100_000}
COMMAND: Final = {"type": "command", "params": {"target": "comsrv:1100:C:1", "value": 1}}
HELD_MS: Final = 10_000


def rule(name: str, condition: dict[str, Any], *actions: dict[str, Any]) -> dict[str, Any]:
    """Return a rule that is true by what the meter said last."""
    return {"id": name, "name": name, "conditions": [condition], "actions": list(actions)}


async def test_without_comsrv_all_is_stale_and_no_rule_commands(own_site: Callable[..., Site]):
    """Each point of each channel is bad:stale within the lease; alarms stay, uncertain; no rule commands.

    Neither one whose hold was running, nor one that is new and true by the last good values.
    """
    site = own_site("--no-restart")
    alarm = {"type": "create_alarm", "params": {"level": "Major", "title": "stands"}}
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())

        async def stands() -> dict[str, Any] | None:
            found = (await api("GET", "/api/alarms?limit=200")).body["items"]
            return next((one for one in found if one["title"] == "stands"), None)

        assert (await api("POST", "/api/rules", rule("stands", TRUE, alarm))).status == 201
        await wait_until(stands, "the alarm stands")
        assert (await api("POST", "/api/rules", rule("held", TRUE | {"for_ms": HELD_MS}, COMMAND))).status == 201
        os.kill(site.pid("comsrv"), signal.SIGKILL)
        killed_ms = now_ms()
        with site.redis() as redis:

            def fresh() -> list[tuple[int, str, set[bytes]]]:
                found = []
                for ch in CHANNELS:
                    for kind in "TS":
                        ids = set(redis.call("HKEYS", f"comsrv:{ch}:{kind}"))
                        marks = redis.call("HGETALL", f"comsrv:{ch}:{kind}:q")
                        ids -= {i for i, q in zip(marks[::2], marks[1::2], strict=True) if q == b"bad:stale"}
                        found += [(ch, kind, ids)] if ids else []
                return found

            async def stale() -> bool:
                return not fresh()

            try:
                await wait_until(stale, "every point is stale", 0.8 * HELD_MS / 1000)
            except AssertionError as error:
                raise AssertionError(f"not stale: {fresh()}") from error
            values = await api("GET", "/api/models/battery1/values")
            assert "bad:stale" in str(values.body)
            left = await stands()
            assert left is not None
            assert (left["status"], left["uncertain"]) == ("New", True)

            assert (await api("POST", "/api/rules", rule("late", TRUE, COMMAND))).status == 201

            async def passed() -> bool:
                return now_ms() > killed_ms + HELD_MS + 1000

            await wait_until(passed, "the hold's time has passed")
            assert redis.call("XLEN", "comsrv:1100:commands") == 0
            fired = str(redis.call("XRANGE", "rulesrv:firings", "-", "+"))
            assert "held" not in fired
            assert "late" not in fired
