"""Channels: definitions, calculated points, deletion."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError
from libs.redis.client import execute
from tests.support.refusal import refused
from tests.support.site import START, Site


def definition(**more: Any) -> dict[str, Any]:
    return {"id": 1002, "name": "second", "protocol": "virtual", "points": {"T": [{"id": 1}, {"id": 2}]}, **more}


async def test_a_definition_is_kept_byte_for_byte(site: Site) -> None:
    text = b'{ "id":1002, "name":"x", "protocol":"virtual", "points":{"T":[]}, "polling":{} }'
    assert await site.functions.call("channel_upsert", 1002, text) == text
    assert await site.functions.read("channel_get", 1002) == text
    assert await execute(site.functions.client, "FCALL_RO", "channel_get", 1, "comsrv:channel:1002") == text
    page = await site.functions.read_json("channel_list", None, {"limit": 1})
    assert ([c["id"] for c in page["items"]], page["cursor"]) == ([1001], "1001")
    page = await site.functions.read_json("channel_list", None, {"limit": 1, "cursor": "1001"})
    assert ([c["id"] for c in page["items"]], page["cursor"]) == ([1002], None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": 1003}, "is not the key's channel 1002"),
        ({"name": 5}, "name and protocol must be texts"),
        ({"points": {"T": [{"id": 1}, {"id": 1}]}}, "points.T[1].id 1 is there twice"),
        ({"points": {"T": [{"id": "x"}]}}, "must be a number from 1"),
        ({"points": {"T": [5]}}, "points.T[0] must be an object"),
        ({"points": {"Q": []}}, "points.Q is unknown"),
        ({"points": {"T": 5}}, "points.T must be a list"),
        ({"points": 5}, "points must be an object"),
        ({"points": {"A": [{"id": 1, "min": "x"}]}}, "points.A[0].min must be a finite number"),
        ({"points": {"A": [{"id": 1, "program": [["num", 1]]}]}}, "only T and S points are calculated"),
        ({"points": {"T": [{"id": 1, "program": [["+"]]}]}}, "lacks operands"),
        ({"points": {"T": [{"id": 1, "program": [["ref", "nowhere"]]}]}}, "no reference"),
        ({"points": {"T": [{"id": 1, "program": [5]}]}}, "operation 1 is unknown"),
    ],
)
async def test_a_wrong_definition_is_refused(site: Site, changes: dict[str, Any], text: str) -> None:
    async with refused(site.functions, InvalidError, text):
        await site.functions.call("channel_upsert", 1002, definition(**changes))


async def test_bounds_and_ids(site: Site) -> None:
    points = {"T": [{"id": n} for n in range(1, 20_002)]}
    async with refused(site.functions, LimitError, "at most 20000 points"):
        await site.functions.call("channel_upsert", 1002, definition(points=points))
    for wrong in ("x", "0", "a:b", "1:2", "1234567890"):
        async with refused(site.functions, InvalidError, "must be a number from 1"):
            await site.functions.call("channel_upsert", wrong, definition())
    for name in ("channel_get", "channel_delete", "comsrv_status"):
        async with refused(site.functions, NotFoundError, "channel 7"):
            await site.functions.call(name, 7)


async def test_a_calculated_point_follows_its_inputs(site: Site) -> None:
    program = [["ref", "comsrv:1001:T:1"], ["num", 2], ["*"]]
    points = {
        "T": [{"id": 5, "program": program}, {"id": 6, "program": [["ref", "comsrv:1002:T:5"], ["num", 1], ["+"]]}]
    }
    await site.functions.call("channel_upsert", 1002, definition(points=points))
    await site.put({1: 4})
    assert await site.hash("comsrv:1002:T") == {"5": "8.000000", "6": "9.000000"}
    site.now += 10
    await site.put({}, {1: "bad:timeout"})
    assert await site.hash("comsrv:1002:T:q") == {"5": "bad:input", "6": "bad:input"}
    assert await site.hash("comsrv:1002:T") == {"5": "8.000000", "6": "9.000000"}
    await site.put({1: 5})
    assert await site.hash("comsrv:1002:T:q") == {}
    ledger = await site.hash("voltage:ledger")
    size = await site.hash("hissrv:queue:size")
    assert ledger["queued"] == size["samples"]


async def test_a_division_by_zero_is_out_of_range(site: Site) -> None:
    program = [["num", 1], ["ref", "comsrv:1001:T:1"], ["/"]]
    await site.functions.call("channel_upsert", 1002, definition(points={"T": [{"id": 1, "program": program}]}))
    await site.put({1: 0})
    assert await site.hash("comsrv:1002:T:q") == {"1": "bad:out_of_range"}
    await site.put({1: 4})
    assert await site.hash("comsrv:1002:T") == {"1": "0.250000"}


async def test_a_constant_is_there_when_the_channel_is(site: Site) -> None:
    await site.functions.call("channel_upsert", 1002, definition(points={"T": [{"id": 1, "program": [["num", 3]]}]}))
    assert await site.hash("comsrv:1002:T") == {"1": "3.000000"}


async def test_points_that_calculate_each_other_do_not_hang_a_call(site: Site) -> None:
    def more(ref: str) -> list[list[Any]]:
        return [["ref", ref], ["ref", "comsrv:1001:T:1"], ["+"]]

    points = {"T": [{"id": 1, "program": more("comsrv:1002:T:2")}, {"id": 2, "program": more("comsrv:1002:T:1")}]}
    await site.functions.call("channel_upsert", 1002, definition(points=points))
    await site.put({1: 1})
    assert (await site.hash("comsrv:1002:T")).keys() <= {"1", "2"}


async def test_points_that_left_the_table_leave_the_image_and_the_rules(site: Site) -> None:
    await site.put({1: 5, 2: 6}, {3: "bad:timeout"})
    rule = {"name": "on", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1}], "actions": []}
    await site.functions.call("rule_upsert", "on", rule)
    points = {"T": [{"id": 2}]}
    await site.functions.call(
        "channel_upsert", 1001, {"id": 1001, "name": "x", "protocol": "virtual", "points": points}
    )
    assert await site.hash("comsrv:1001:T") == {"2": "6.000000"}
    assert await site.hash("comsrv:1001:T:q") == {}
    assert (await site.functions.read_json("rule_evaluate", "on"))["result"] is None
    assert (await site.functions.read_json("rule_stats", "on"))["result"] is None


async def test_a_deleted_channel_leaves_no_value_and_no_open_command(site: Site) -> None:
    await site.put({1: 5})
    rule = {"name": "on", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1}], "actions": []}
    await site.functions.call("rule_upsert", "on", rule)
    for name in ("c1", "c2"):
        await site.functions.call(
            "command_submit", 1001, {"id": name, "type": "A", "point": 1, "value": 1, "now_ms": START}
        )
    await site.functions.call("command_claim", 1001, {"epoch": site.epoch, "now_ms": START, "limit": 1})
    assert await site.functions.json("channel_delete", 1001) == {"deleted": 1001}
    assert (await site.functions.read_json("command_get", "c1"))["state"] == "failed"
    assert (await site.functions.read_json("command_get", "c2"))["state"] == "rejected"
    evaluated = await site.functions.read_json("rule_evaluate", "on")
    assert evaluated["conditions"][0]["quality"] == "missing"
    left = {name.decode() for name in await execute(site.functions.client, "KEYS", "comsrv:1001*")}
    assert left == {"comsrv:1001:status"}
    async with refused(site.functions, NotFoundError):
        await site.functions.read("comsrv_status", 1001)


async def test_an_epoch_is_never_given_twice_not_even_after_deletion(site: Site) -> None:
    old = site.epoch
    await site.functions.call("channel_delete", 1001)
    await site.start()
    assert site.epoch == old + 1
    site.epoch = old
    async with refused(site.functions, ConflictError):
        await site.put({1: 1})
