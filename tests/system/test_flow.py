"""A value's way through the real processes, from a device's register to the API and back."""

from __future__ import annotations

import re
import time

from libs.services import SIMULATOR_OFFSET
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

BATTERY = 1003


async def test_device_to_comsrv_to_redis_to_modsrv(site: Site, api: Api):
    from pyModbusTCP.client import ModbusClient

    with site.redis() as redis:
        stored = redis.call("HGET", f"comsrv:{BATTERY}:T", "2")
        assert re.fullmatch(rb"-?\d+\.\d{6}", stored)
        device = ModbusClient(host="127.0.0.1", port=site.port_base + SIMULATOR_OFFSET + 2, auto_open=True)
        try:
            # The engineering register of the simulator: state of charge in tenths.
            assert device.write_single_register(104, 634)
        finally:
            device.close()

        async def arrived() -> bool:
            return abs(float(redis.call("HGET", f"comsrv:{BATTERY}:T", "2")) - 63.4) < 1.5

        await wait_until(arrived, "the new state of charge is in the live image")
        modeled = float(redis.call("HGET", "modsrv:battery1:measurement", "state_of_charge"))
        assert abs(modeled - 63.4) < 2
    answer = await api("GET", "/api/models/battery1/values")
    assert answer.status == 200


async def test_a_set_point_through_the_api_moves_the_battery(api: Api):
    await api("POST", f"/api/channels/{BATTERY}/commands?wait_ms=3000", {"type": "C", "point": 1, "value": 1})
    reply = await api(
        "POST", f"/api/channels/{BATTERY}/commands?wait_ms=3000", {"type": "A", "point": 1, "value": -12.500301}
    )
    # The battery keeps whole watts, as the point's tolerance knows.
    assert reply.status == 202, reply
    assert reply.body["state"] == "verified", reply.body

    async def followed() -> bool:
        power = await api("GET", f"/api/channels/{BATTERY}/points/T/1")
        return abs(power.body["value"] + 12.5) < 1

    await wait_until(followed, "the battery's power follows the set-point", 20)


async def test_a_command_beyond_the_points_range_is_refused_and_names_it(api: Api):
    reply = await api("POST", f"/api/channels/{BATTERY}/commands?wait_ms=3000", {"type": "A", "point": 1, "value": 500})
    assert reply.status == 422, reply
    assert "100" in reply.body["detail"]


async def test_data_update_to_rulesrv_to_alarmsrv(api: Api):
    """A value that is PUT fires a rule; its alarm returns when the value does, and closes when acknowledged."""
    await api("PUT", "/api/channels/1100/points/T/7", {"value": 10})
    made = await api(
        "POST",
        "/api/rules",
        {
            "id": "system_test",
            "name": "Import target too high",
            "conditions": [{"source": "comsrv:1100:T:7", "operator": ">", "value": 100}],
            "actions": [{"type": "create_alarm", "params": {"level": "Major", "title": "Too much"}}],
        },
    )
    assert made.status == 201, made
    try:
        assert (await api("PUT", "/api/channels/1100/points/T/7", {"value": 150})).status == 200

        async def alarm(status: str) -> dict[str, object] | None:
            found = await api("GET", f"/api/alarms?status={status}&limit=200")
            assert found.status == 200, found
            return next((one for one in found.body["items"] if one.get("title") == "Too much"), None)

        raised = await wait_until(lambda: alarm("New"), "the rule's alarm is New")
        assert raised["level"] == "Major"
        await api("PUT", "/api/channels/1100/points/T/7", {"value": 10})
        await wait_until(lambda: alarm("Returned"), "the condition ended, the alarm is Returned")
        assert (await api("POST", f"/api/alarms/{raised['id']}/acknowledge")).status == 200
        closed = await api("GET", f"/api/alarms/{raised['id']}")
        assert closed.body["status"] == "Resolved"
        assert closed.body["acknowledged_by"] == "tester"
    finally:
        assert (await api("DELETE", "/api/rules/system_test")).status in {200, 204}


async def test_state_of_charge_under_its_limit_raises_one_alarm(api: Api):
    async def low() -> list[dict[str, object]]:
        found = await api("GET", "/api/alarms?limit=200")
        return [one for one in found.body["items"] if one.get("definition") == "battery_soc_low"]

    async def charge(percent: float) -> None:
        reply = await api(
            "POST", f"/api/channels/{BATTERY}/commands?wait_ms=3000",
            {"type": "A", "point": 4, "value": percent, "verify": False},
        )  # fmt: skip
        assert reply.status == 202, reply

    await charge(18)
    await wait_until(low, "the alarm is there")
    assert len(await low()) == 1
    await charge(60)

    async def returned() -> bool:
        return all(one["status"] in {"Returned", "Resolved"} for one in await low())

    await wait_until(returned, "the alarm has returned")
    for one in await low():
        await api("POST", f"/api/alarms/{one['id']}/acknowledge")


async def test_redis_to_hissrv_to_its_store(api: Api):
    async def recorded() -> list[list[float]]:
        reply = await api(
            "POST", "/api/history/query", {"series": ["comsrv:1001:T:1"], "start": "-5m", "end": "now", "limit": 1000}
        )
        assert reply.status == 200, reply
        points: list[list[float]] = reply.body["series"][0]["points"] if reply.body["series"] else []
        return points if len(points) >= 3 else []

    points = await wait_until(recorded, "three samples are in the store", 20)
    instants = [point[0] for point in points]
    assert instants == sorted(instants)
    assert time.time() * 1000 - 320_000 < instants[0] <= time.time() * 1000


async def test_a_day_of_minutes_agrees_with_the_raw_points(api: Api):
    body = {"series": ["comsrv:1001:T:1"], "start": "-10m", "end": "now", "limit": 5000}
    means = await api("POST", "/api/history/query", {**body, "interval": "1m", "aggregate": "count"})
    assert means.status == 200, means
    raw = await api("POST", "/api/history/query", body)
    counted = sum(point[1] or 0 for point in means.body["series"][0]["points"])
    assert abs(counted - len(raw.body["series"][0]["points"])) <= 3


async def test_gateway_to_services_to_redis(site: Site, api: Api):
    """One address serves every service's lists, and its health is that of all."""
    for path in ("/api/channels", "/api/models", "/api/rules", "/api/alarms", "/api/protocols", "/api/commands"):
        reply = await api("GET", path)
        assert reply.status == 200, (path, reply)
        assert "items" in reply.body, path
    health = await api("GET", "/health")
    assert health.status == 200
    assert (await api("GET", "/api/nothing")).status == 404
    page = await api("GET", "/")
    assert page.status == 200
    assert "<html" in page.body.lower()
