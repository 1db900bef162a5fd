"""Redis is killed in the middle of each kind of delay: what was due fires at its instant, in order, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.redis import client, library
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_detectors import pass_until, transitions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.servers import BINARIES, RedisServer
from tests.support.site import START, Site

Steps = list[tuple[int, str, Any]]
DISCREPANCY = {"detector": "Discrepancy", "limit": 1, "other": "comsrv:1001:T:2", "on_delay_ms": 3000}
# Definition, what happens before the kill at 1000 ms, and the journal at 10,000 ms.
DELAYS: dict[str, tuple[dict[str, Any], Steps, list[tuple[str, int]]]] = {
    "on-delay": ({"on_delay_ms": 3000}, [(0, "put", 90)], [("raised", 3000)]),
    "off-delay": (
        {"off_delay_ms": 3000}, [(0, "put", 90), (500, "put", 10)], [("raised", 0), ("returned", 3500)],
    ),
    "a delay that was held up": (
        {"on_delay_ms": 3000}, [(0, "put", 90), (400, "bad", None), (900, "put", 90)], [("raised", 3500)],
    ),
    "no data": ({"detector": "NoData", "limit": 4000}, [(0, "put", 90), (500, "bad", None)], [("raised", 4500)]),
    "stuck": ({"detector": "Stuck", "limit": 4000}, [(0, "put", 90), (700, "put", 91)], [("raised", 4700)]),
    "rate": (
        {"detector": "Rate", "limit": 5, "window_ms": 4000}, [(0, "put", 10), (800, "put", 90)],
        [("raised", 800), ("returned", 4800)],
    ),
    "discrepancy": (DISCREPANCY, [(0, "put", 90), (600, "put2", 50)], [("raised", 3600)]),
    "shelving": ({}, [(0, "put", 90), (500, "shelve", 5000)], [("raised", 0), ("shelved", 500), ("unshelved", 5500)]),
    "one shot": (
        {"max_shelve_ms": 6000}, [(0, "put", 90), (500, "shelve", None)],
        [("raised", 0), ("shelved", 500), ("unshelved", 6500)],
    ),
    "escalation": ({}, [(0, "route", 3000), (0, "put", 90)], [("raised", 0), ("escalated", 3000)]),
    "escalation of what was shelved": (
        {}, [(0, "route", 3000), (0, "put", 90), (200, "shelve", 600)],
        [("raised", 0), ("shelved", 200), ("unshelved", 800), ("escalated", 3800)],
    ),
    "re-alarm": (
        {"realarm_ms": 4000}, [(0, "put", 90), (500, "acknowledge", None)],
        [("raised", 0), ("acknowledged", 500), ("realarmed", 4000), ("realarmed", 8000)],
    ),
    "suppression with a delay": (
        {"suppress_when": [{"source": "comsrv:1001:T:2", "operator": "==", "value": 0, "for_ms": 3000}]},
        [(0, "put", 90), (500, "put2", 0)], [("raised", 0), ("suppressed", 3500)],
    ),
}  # fmt: skip


async def do(site: Site, what: str, value: Any) -> None:
    call = site.functions.call
    if what == "bad":
        return await site.put({}, {1: "bad:timeout"})
    if what in {"put", "put2"}:
        return await site.put({2 if what == "put2" else 1: value})
    if what == "route":
        route = {
            "to": ["email:a@example.com"],
            "escalation": [{"after_s": value / 1000, "to": ["email:b@example.com"]}],
        }
        await call("alarm_route_upsert", "r", route)
        return None
    (alarm,) = await site.alarms()
    if what == "acknowledge":
        await call("acknowledge_alarm", alarm["id"], "anna", site.now)
    else:
        how = {"one_shot": True} if value is None else {"duration_ms": value}
        await call("alarm_shelve", alarm["id"], {**how, "by": "anna", "now_ms": site.now})
    return None


@pytest.mark.parametrize("kind", sorted(BINARIES))
async def test_a_restart_in_the_middle_of_each_delay(kind: str, tmp_path: Path) -> None:
    """One server for all delays, each in a namespace of its own; it is killed once, and starts from its file."""
    server = RedisServer(kind, tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    try:
        connection = client.connect(server.url)
        await library.load(connection)
        sites: dict[str, Site] = {}
        for number, (name, (more, steps, _)) in enumerate(DELAYS.items()):
            site = sites[name] = await Site(Functions(connection, f"n{number}")).start()
            await site.functions.call("alarm_define", "hot", {**HOT, **more})
            for at, what, value in steps:
                await pass_until(site, at)
                await do(site, what, value)
            await pass_until(site, 1000)
        await connection.aclose()
        server.kill()
        server.start()
        connection = client.connect(server.url)
        for number, (name, (_, _, expected)) in enumerate(DELAYS.items()):
            site = sites[name]
            site.functions = Functions(connection, f"n{number}")
            # Nothing came for a while, and then one call: each fires as of its own instant.
            site.now = START + 9000
            await site.functions.call("voltage_tick", None, {"now_ms": site.now})
            if name != "re-alarm":
                assert await transitions(site) == expected, name
            else:
                assert await transitions(site) == expected[:3], "once for a time without calls"
        await connection.aclose()
    finally:
        server.stop()
