"""What operators do to points, over HTTP: tags, selections, substitutions, holds, bypasses, and the journal of it."""

# ruff: noqa: F811 - pytest takes fixtures by name

from __future__ import annotations

from typing import Any

from libs.http import Role
from services.comsrv.runner import definition
from tests.integration.comsrv.site import Site, meter
from tests.integration.comsrv.test_api import Api, api  # noqa: F401 - a fixture
from tests.support.wait import wait_until

SET_POINT = "/api/channels/1001/points/A/1"
COMMANDS = "/api/channels/1001/commands?wait_ms=3000"


def command(value: float = 5, **more: Any) -> dict[str, Any]:
    return {"type": "A", "point": 1, "value": value, **more}


async def options(api: Api, site: Site, **chosen: Any) -> None:
    """Give the set-point options."""
    document = definition(meter(site.device.port))
    body = {name: document[name] for name in ("id", "name", "protocol", "parameters", "polling", "points")}
    body["points"]["A"][0]["command"] = chosen
    status, answer = await api.call("PUT", "/api/channels/1001", body)
    assert status == 200, answer

    async def good() -> bool:
        _, point = await api.call("GET", "/api/channels/1001/points/T/1")
        return bool(point["quality"] == "good")

    await wait_until(good, "the channel is polled again")


async def test_a_tag_locks_a_point_until_it_is_taken_off(api: Api):
    status, tag = await api.call("POST", f"{SET_POINT}/tag", {"kind": "lockout", "reason": "hands on it"})
    assert (status, tag["kind"], tag["by"]) == (200, "lockout", "ann")
    status, refused = await api.call("POST", COMMANDS, command())
    assert (status, refused["code"]) == (409, "STATE")
    assert "lockout tag of ann: hands on it" in refused["detail"]
    assert (await api.call("POST", f"{SET_POINT}/untag", {"comment": "done"}))[0] == 200
    assert (await api.call("POST", COMMANDS, command()))[1]["state"] == "verified"
    _, journal = await api.call("GET", "/api/commands/journal?limit=10")
    what = [(entry["what"], entry["by"]) for entry in journal["items"]]
    assert ("tagged", "ann") in what
    assert ("untagged", "ann") in what


async def test_a_substituted_value_is_the_points_until_it_is_restored(api: Api):
    path = "/api/channels/1001/points/T/1"
    body = {"value": 99, "reason": "sensor broken", "expires_ms": 60_000}
    assert (await api.call("POST", f"{path}/substitute", body, Role.VIEWER))[0] == 403
    assert (await api.call("POST", f"{path}/substitute", body))[0] == 200
    found = await api.point(path, 99)
    assert found["quality"] == "uncertain:substituted"
    assert (await api.call("POST", f"{path}/restore"))[0] == 200
    await api.point(path, 12.3)


async def test_a_hold_is_shown_and_given_back(api: Api, site: Site):
    await options(api, site, fallback=-1)
    assert (await api.call("POST", COMMANDS, command(lease_ms=60_000)))[1]["state"] == "verified"
    _, holds = await api.call("GET", "/api/channels/1001/holds")
    assert [(hold["point"], hold["by"]["name"], hold["fallback"]) for hold in holds["items"]] == [("A:1", "ann", -1)]
    status, answer = await api.call("POST", f"{SET_POINT}/release", {"comment": "enough"})
    assert (status, answer["command"]["value"]) == (200, -1)
    assert (await api.call("GET", "/api/channels/1001/holds"))[1]["items"] == []
    await api.point(SET_POINT, -1)


async def test_an_interlock_is_bypassed_by_an_engineer_with_a_reason_only(api: Api, site: Site):
    await options(api, site, interlock="comsrv:1001:T:1 > 1000")
    status, refused = await api.call("POST", COMMANDS, command())
    assert (status, refused["detail"]) == (409, "the interlock comsrv:1001:T:1 > 1000 does not hold")
    reasoned = command(bypass_reason="commissioning")
    assert (await api.call("POST", COMMANDS, reasoned, Role.OPERATOR))[0] == 403
    _, done = await api.call("POST", COMMANDS, reasoned)
    assert (done["state"], done["bypass"]) == ("verified", {"by": "ann", "reason": "commissioning"})


async def test_select_before_operate(api: Api, site: Site):
    await options(api, site, select=True)
    assert (await api.call("POST", COMMANDS, command()))[0] == 409
    assert (await api.call("POST", f"{SET_POINT}/select", {"ttl_ms": 10_000}))[0] == 200
    assert (await api.call("POST", COMMANDS, command()))[1]["state"] == "verified"


async def test_options_that_make_no_sense_are_refused_with_their_place(api: Api, site: Site):
    document = definition(meter(site.device.port))
    body = {name: document[name] for name in ("id", "name", "protocol", "parameters", "polling", "points")}
    body["points"]["A"][0]["command"] = {"fallback": 500, "pulse_ms": 20, "interlock": "comsrv:1001:T:1 >"}
    status, answer = await api.call("PUT", "/api/channels/1001", body)
    assert status == 422
    assert "interlock" in str(answer)
    body["points"]["A"][0]["command"] = {"fallback": 500, "pulse_ms": 20}
    status, answer = await api.call("PUT", "/api/channels/1001", body)
    assert status == 422
    assert "500 is outside min and max" in str(answer)
    assert "only control points are pulsed" in str(answer)
