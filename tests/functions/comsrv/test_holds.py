"""Who may command a point: holds with their fall-back, authorities, interlocks, budgets, the latest only."""

from __future__ import annotations

from typing import Any

import pytest

from libs import expression
from libs.errors import ConflictError, InvalidError, LimitError, StateError
from tests.functions.comsrv.test_commands import claim, complete, get
from tests.support.refusal import refused
from tests.support.site import Site

ANN = {"kind": "user", "name": "ann"}
BOB = {"kind": "user", "name": "bob"}
PEAK = {"kind": "rule", "name": "peak"}
CLOUD = {"kind": "network", "name": "cloud"}


async def declare(site: Site, **options: Any) -> None:
    """Give the channel one set-point with options, a control and two points an interlock may look at."""
    if text := options.get("interlock"):
        options["interlock_program"] = expression.parse(text)
    document = {
        "name": "Battery",
        "protocol": "modbus_tcp",
        "points": {
            "T": [{"id": 1}, {"id": 2}],
            "A": [{"id": 1, "min": -100, "max": 100, "command": options}, {"id": 2}],
            "C": [{"id": 1}],
        },
    }
    await site.functions.call("channel_upsert", site.channel, document)


async def submit(site: Site, value: float = 50, source: dict[str, str] = ANN, **more: Any) -> dict[str, Any]:
    document = {"type": "A", "point": 1, "value": value, "source": source, "now_ms": site.now, **more}
    found: dict[str, Any] = await site.functions.json("command_submit", site.channel, document)
    return found


async def done(site: Site, command: str, state: str = "verified") -> None:
    """Let a command run its course."""
    assert command in [one["id"] for one in await claim(site)]
    await complete(site, command, "acknowledged")
    await complete(site, command, state)


async def holds(site: Site) -> list[dict[str, Any]]:
    found = await site.functions.read_json("command_holds", site.channel)
    return list(found["items"])


async def release(site: Site, **more: Any) -> dict[str, Any]:
    document = {"type": "A", "point": 1, "by": ANN, "now_ms": site.now, **more}
    found: dict[str, Any] = await site.functions.json("command_release", site.channel, document)
    return found


async def test_a_hold_ends_with_its_fall_back(site: Site) -> None:
    await declare(site, fallback=0)
    command = await submit(site, lease_ms=5000)
    await done(site, command["id"])
    assert await holds(site) == [
        {
            "point": "A:1", "by": ANN, "authority": "operator", "value": 50, "fallback": 0,
            "command": command["id"], "until_ms": site.now + 5000,
        }
    ]  # fmt: skip
    await site.pass_ms(5000)
    (fallback,) = await claim(site)
    assert (fallback["value"], fallback["source"]) == (0, {"kind": "system", "name": "fall-back"})
    assert await holds(site) == []
    assert [(e["what"], e["by"]) for e in await site.entries("comsrv:journal") if e["what"] != "command"] == [
        ("held", "user:ann"),
        ("released", "user:ann"),
    ]


async def test_a_hold_without_a_fall_back_just_ends(site: Site) -> None:
    await declare(site)
    await done(site, (await submit(site, lease_ms=5000))["id"])
    await site.pass_ms(5000)
    assert await claim(site) == []
    assert await holds(site) == []


async def test_a_lower_authority_is_refused_and_told_who_holds(site: Site) -> None:
    await declare(site)
    await submit(site, lease_ms=5000)
    async with refused(site.functions, StateError, "A:1 is held by user ann (operator) until "):
        await submit(site, source=PEAK)
    async with refused(site.functions, StateError, "held by user ann"):
        await submit(site, source=CLOUD, priority=100)


async def test_a_higher_authority_takes_over_and_no_fall_back_follows(site: Site) -> None:
    await declare(site, fallback=0)
    await submit(site, source=PEAK, lease_ms=5000)
    await submit(site, 20, source=ANN)
    assert await holds(site) == []
    await site.pass_ms(5000)
    assert [command["value"] for command in await claim(site)] == [50, 20]
    released = [e for e in await site.entries("comsrv:journal") if e["what"] == "released"]
    assert [(e["by"], e["reason"]) for e in released] == [("rule:peak", "taken over by user ann")]


async def test_between_equals_the_priority_decides(site: Site) -> None:
    await declare(site)
    await submit(site, source=PEAK, lease_ms=5000, priority=60)
    async with refused(site.functions, StateError, "held by rule peak"):
        await submit(site, source={"kind": "rule", "name": "export"}, priority=59)
    await submit(site, source={"kind": "rule", "name": "export"}, priority=60)


async def test_a_rule_may_act_for_protection(site: Site) -> None:
    await declare(site)
    await submit(site, lease_ms=5000)
    command = await submit(site, 0, source=PEAK, authority="protection")
    assert command["authority"] == "protection"


async def test_the_holder_goes_on_commanding_and_a_new_lease_moves_the_end(site: Site) -> None:
    await declare(site, fallback=0)
    await done(site, (await submit(site, lease_ms=5000))["id"])
    await site.pass_ms(4000)
    await done(site, (await submit(site, 60, lease_ms=5000))["id"])
    assert [hold["until_ms"] for hold in await holds(site)] == [site.now + 5000]
    await site.pass_ms(4000)
    assert await claim(site) == []


async def test_a_point_may_give_its_lease_to_every_command(site: Site) -> None:
    await declare(site, lease_ms=3000)
    await submit(site)
    assert len(await holds(site)) == 1
    await submit(site, lease_ms=0)
    assert len(await holds(site)) == 1, "the holder's own command without a lease changes nothing"


async def test_a_hold_is_given_back_early(site: Site) -> None:
    await declare(site, fallback=0)
    await done(site, (await submit(site, lease_ms=5000))["id"])
    async with refused(site.functions, StateError, "held by user ann"):
        await release(site, by=PEAK)
    found = await release(site)
    assert found["command"]["value"] == 0
    async with refused(site.functions, StateError, "nobody holds A:1"):
        await release(site)


async def test_comsrv_wrote_the_fall_back_itself(site: Site) -> None:
    """While Redis was away nobody else could."""
    await declare(site, fallback=0)
    await done(site, (await submit(site, lease_ms=5000))["id"])
    async with refused(site.functions, ConflictError):
        await release(site, written=0, epoch=site.epoch - 1)
    await release(site, written=0, epoch=site.epoch)
    assert await site.hash("comsrv:1001:A") == {"1": "0.000000"}
    assert await claim(site) == []
    assert await holds(site) == []


async def test_an_interlock_decides_at_submit_and_again_before_it_leaves(site: Site) -> None:
    await declare(site, interlock="comsrv:1001:T:1 > 10")
    async with refused(site.functions, StateError, "is unknown: comsrv:1001:T:1 is not good"):
        await submit(site)
    await site.put({1: 5})
    async with refused(site.functions, StateError, "interlock comsrv:1001:T:1 > 10 does not hold"):
        await submit(site)
    await site.put({1: 11})
    command = await submit(site)
    await site.put({1: 9})
    assert await claim(site) == []
    found = await get(site, command["id"])
    assert (found["state"], found["reason"]) == ("rejected", "the interlock comsrv:1001:T:1 > 10 does not hold")


async def test_a_bypass_of_an_interlock_has_a_name_and_a_reason_and_is_journaled(site: Site) -> None:
    await declare(site, interlock="comsrv:1001:T:1 > 10")
    async with refused(site.functions, InvalidError, "bypass needs by and reason"):
        await submit(site, bypass={"by": "eva"})
    command = await submit(site, bypass={"by": "eva", "reason": "test run"})
    assert command["bypass"] == {"by": "eva", "reason": "test run"}
    assert (await site.entries("comsrv:journal"))[-1]["reason"] == "interlock bypassed by eva: test run"


async def test_a_point_that_must_be_selected_first(site: Site) -> None:
    await declare(site, select=True)
    async with refused(site.functions, StateError, "A:1 must be selected before it is operated"):
        await submit(site)
    selection = {"type": "A", "point": 1, "user": "ann", "now_ms": site.now}
    await site.functions.call("command_select", 1001, selection)
    async with refused(site.functions, StateError, "selected by ann"):
        await submit(site, source=BOB)
    await done(site, (await submit(site))["id"])
    async with refused(site.functions, StateError, "must be selected"):
        await submit(site)


async def test_the_least_time_between_two_writes(site: Site) -> None:
    await declare(site, min_interval_ms=1000)
    await done(site, (await submit(site))["id"])
    await site.pass_ms(400)
    async with refused(site.functions, LimitError, "again in 600 ms"):
        await submit(site)
    await site.pass_ms(600)
    await submit(site)


async def test_the_budget_of_writes_a_day(site: Site) -> None:
    await declare(site, writes_per_day=2)
    for _ in range(2):
        await done(site, (await submit(site))["id"])
    async with refused(site.functions, LimitError, "written 2 times today"):
        await submit(site)
    # A new day: the leases of the test's channel do not matter for a submission.
    site.now += 86_400_000
    await submit(site)


async def test_only_the_latest_command_of_a_point_leaves(site: Site) -> None:
    await declare(site, latest_only=True)
    first = await submit(site, 10)
    second = await submit(site, 20)
    assert [command["id"] for command in await claim(site)] == [second["id"]]
    found = await get(site, first["id"])
    assert (found["state"], found["final"]) == ("superseded", True)
    assert found["reason"] == f"by {second['id']}, which is newer"
    third = await submit(site, 30)
    assert [command["id"] for command in await claim(site)] == [third["id"]], "what was sent is not superseded"


@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        ({"step": 5}, 12, "value 12 is no step of 5 from -100"),
        ({"allowed": [0, 50]}, 20, "value 20 is none of those comsrv:1001:A:1 takes: 0, 50"),
    ],
)
async def test_a_value_the_point_does_not_take(site: Site, options: Any, value: float, message: str) -> None:
    await declare(site, **options)
    await submit(site, 50)
    async with refused(site.functions, InvalidError, message):
        await submit(site, value)


async def test_decimal_steps_are_steps(site: Site) -> None:
    await declare(site, step=0.1)
    await submit(site, 0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "points.A[0].command.step must be greater than 0"),
        ({"fallback": 101}, "fallback is outside min and max"),
        ({"allowed": []}, "allowed must be a list of 1 to 100 numbers"),
        ({"select": 1}, "select must be true or false"),
        ({"lease_ms": 0}, "lease_ms must be an integer"),
    ],
)
async def test_options_that_make_no_sense(site: Site, options: Any, message: str) -> None:
    async with refused(site.functions, InvalidError, message):
        await declare(site, **options)


async def test_commands_of_certain_points_only(site: Site) -> None:
    """What can leave in one request with the command before."""
    await declare(site)
    await submit(site, 1)
    await submit(site, 2, point=2)
    await submit(site, 3)
    assert [command["value"] for command in await claim(site, points=["A:2"])] == [2]
    assert [command["value"] for command in await claim(site)] == [1, 3]


async def test_another_master_wrote_a_point(site: Site) -> None:
    await declare(site)
    await done(site, (await submit(site))["id"])
    document = {"epoch": site.epoch, "type": "A", "point": 1, "value": 7.5, "now_ms": site.now}
    found = await site.functions.json("point_overwritten", 1001, document)
    assert found == {"point": "A:1", "value": 7.5, "was": 50.0}
    assert await site.hash("comsrv:1001:A") == {"1": "7.500000"}
    last = (await site.entries("comsrv:journal"))[-1]
    assert (last["what"], last["by"], last["reason"]) == ("overwritten", "another master", "it was 50.000000")


async def test_a_tag_stops_even_a_fall_back(site: Site) -> None:
    await declare(site, fallback=0)
    await done(site, (await submit(site, lease_ms=5000))["id"])
    tag = {"type": "A", "point": 1, "kind": "lockout", "by": "eva", "reason": "hands on it", "now_ms": site.now}
    await site.functions.call("point_tag", 1001, tag)
    await site.pass_ms(5000)
    assert await claim(site) == []
    page = await site.functions.read_json("command_list", None, {"state": "rejected"})
    assert "lockout tag of eva" in page["items"][0]["reason"]
