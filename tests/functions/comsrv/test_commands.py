"""Commands: a ledger from submit to what the device confirmed; an old command never fires."""

from __future__ import annotations

from typing import Any

import orjson

from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError, StateError
from libs.redis.client import execute
from tests.support.refusal import refused
from tests.support.site import START, Site, keyspace


async def submit(site: Site, value: float = 50, **more: Any) -> dict[str, Any]:
    document = {"type": "A", "point": 1, "value": value, "now_ms": site.now, **more}
    found: dict[str, Any] = await site.functions.json("command_submit", site.channel, document)
    return found


async def claim(site: Site, **more: Any) -> list[dict[str, Any]]:
    document = {"epoch": site.epoch, "now_ms": site.now, **more}
    return list(await site.functions.json("command_claim", site.channel, document))


async def complete(site: Site, command: str, state: str, **more: Any) -> dict[str, Any]:
    document = {"epoch": site.epoch, "now_ms": site.now, "id": command, "state": state, **more}
    found: dict[str, Any] = await site.functions.json("command_complete", site.channel, document)
    return found


async def get(site: Site, command: str) -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.read_json("command_get", command)
    return found


async def test_a_command_from_submit_to_verified(site: Site) -> None:
    queued = await submit(site, id="c1", source={"kind": "user", "name": "ann"}, priority=60, ttl_ms=5000)
    assert queued == {
        "id": "c1", "channel": 1001, "type": "A", "point": 1, "value": 50.0,
        "source": {"kind": "user", "name": "ann"}, "authority": "operator", "priority": 60, "ttl_ms": 5000,
        "verify": True, "lease_ms": None, "fallback": None, "bypass": None,
        "state": "queued", "reason": None, "read_back": None, "created_at_ms": START,
        "expires_at_ms": START + 5000, "final": False, "transitions": [{"state": "queued", "at_ms": START}],
    }  # fmt: skip
    assert await site.entries("comsrv:1001:commands") == [{"id": "c1", "state": "queued"}]
    (sent,) = await claim(site)
    assert (sent["id"], sent["state"]) == ("c1", "sent")
    assert await claim(site) == []
    assert (await complete(site, "c1", "acknowledged"))["final"] is False
    assert await site.hash("comsrv:1001:A") == {}
    verified = await complete(site, "c1", "verified", value=50.0)
    assert (verified["final"], verified["read_back"]) == (True, 50.0)
    assert [t["state"] for t in verified["transitions"]] == ["queued", "sent", "acknowledged", "verified"]
    assert await site.hash("comsrv:1001:A") == {"1": "50.000000"}
    assert [e["state"] for e in await site.entries("comsrv:journal")] == ["queued", "verified"]


async def test_without_read_back_acknowledged_is_final(site: Site) -> None:
    await submit(site, id="c1", verify=False)
    await claim(site)
    assert (await complete(site, "c1", "acknowledged"))["final"] is True
    assert await site.hash("comsrv:1001:A") == {"1": "50.000000"}
    async with refused(site.functions, StateError, "can't be verified"):
        await complete(site, "c1", "verified")


async def test_a_mismatch_tells_what_was_read_back(site: Site) -> None:
    await submit(site, id="c1")
    await claim(site)
    await complete(site, "c1", "acknowledged")
    found = await complete(site, "c1", "mismatch", value=12.5, reason="read back 12.5")
    assert (found["read_back"], found["reason"], found["final"]) == (12.5, "read back 12.5", True)
    assert (await get(site, "c1"))["read_back"] == 12.5
    assert await site.hash("comsrv:1001:A") == {}


async def test_the_same_id_again_is_the_stored_command(site: Site) -> None:
    first = await submit(site, id="c1")
    before = await keyspace(site.functions)
    assert await submit(site, 99, id="c1") == first
    assert await keyspace(site.functions) == before


async def test_the_same_outcome_again_is_a_repeat(site: Site) -> None:
    await submit(site, id="c1")
    await claim(site)
    first = await complete(site, "c1", "failed", reason="x")
    before = await keyspace(site.functions)
    assert await complete(site, "c1", "failed", reason="y") == first
    assert await keyspace(site.functions) == before
    async with refused(site.functions, StateError, "command c1 is failed and can't be acknowledged"):
        await complete(site, "c1", "acknowledged")


async def test_highest_priority_first_then_oldest(site: Site) -> None:
    for number, priority in enumerate((10, 90, 50, 90)):
        await submit(site, id=f"c{number}", priority=priority)
    assert [c["id"] for c in await claim(site, limit=3)] == ["c1", "c3", "c2"]
    assert [c["id"] for c in await claim(site)] == ["c0"]


async def test_an_expired_command_is_never_returned(site: Site) -> None:
    await submit(site, id="c1", ttl_ms=1000)
    site.now += 1000
    assert await claim(site) == []
    found = await get(site, "c1")
    assert (found["state"], found["final"]) == ("expired", True)
    assert found["reason"] == "its time to live ran out before it was sent"
    async with refused(site.functions, StateError):
        await complete(site, "c1", "acknowledged")


async def test_more_expire_at_once_than_a_call_may_fire(site: Site) -> None:
    for number in range(50):
        await submit(site, id=f"c{number}", ttl_ms=1000)
    site.now += 1000
    assert await claim(site, limit=100) == []
    for _ in range(3):
        await site.pass_ms(0)
    page = await site.functions.read_json("command_list", None, {"state": "expired"})
    assert len(page["items"]) == 50


async def test_sent_commands_of_an_old_epoch_end_with_an_unknown_outcome(site: Site) -> None:
    await submit(site, id="c1")
    await submit(site, id="c2")
    await claim(site, limit=1)
    await site.functions.call("channel_claim", 1001, {"owner": "test", "interval_ms": 1000, "now_ms": site.now})
    found = await get(site, "c1")
    assert found["state"] == "failed"
    assert found["reason"].startswith("unknown outcome")
    assert (await get(site, "c2"))["state"] == "queued"
    async with refused(site.functions, ConflictError):
        await complete(site, "c1", "acknowledged")


async def test_claiming_needs_a_live_lease(site: Site) -> None:
    await submit(site, id="c1")
    await site.functions.call("channel_release", 1001, {"epoch": site.epoch, "now_ms": site.now})
    async with refused(site.functions, StateError, "lapsed"):
        await claim(site)
    # It waits for the next owner, as long as it lives.
    assert (await get(site, "c1"))["state"] == "queued"


async def test_what_a_command_needs(site: Site) -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"point": 9}, NotFoundError, "only declared C and A points"),
        ({"type": "T"}, InvalidError, "type must be one of A, C"),
        ({"point": "1:2"}, InvalidError, "point"),
        ({"value": "nan"}, InvalidError, "value must be a finite number"),
        ({"value": None}, InvalidError, "value must be a finite number"),
        ({"value": 101}, InvalidError, "above the maximum 100 of comsrv:1001:A:1"),
        ({"value": -1}, InvalidError, "below the minimum 0"),
        ({"type": "C", "value": 0.5}, InvalidError, "must be an integer"),
        ({"ttl_ms": 600_001}, InvalidError, "ttl_ms must be an integer from 1 to 600000"),
        ({"priority": 101}, InvalidError, "priority"),
        ({"verify": "no"}, InvalidError, "verify must be true or false"),
        ({"id": "a:b"}, InvalidError, "command id"),
        ({"source": {"kind": "ghost"}}, InvalidError, "source.kind"),
        ({"vlaue": 1}, InvalidError, "vlaue is unknown"),
    ]
    for changes, error, text in wrong:
        async with refused(site.functions, error, text):  # type: ignore[arg-type]  # all are ours
            await submit(site, **({"value": 50} | changes))
    async with refused(site.functions, NotFoundError, "channel 9"):
        await site.functions.call("command_submit", 9, {"type": "A", "point": 1, "value": 1})


async def test_a_queue_is_bounded(site: Site) -> None:
    document = orjson.dumps({"type": "A", "point": 1, "value": 1, "now_ms": site.now})
    pipeline = site.functions.client.pipeline(transaction=False)
    for _ in range(1000):
        pipeline.execute_command("FCALL", "command_submit", 1, "1001", document)
    await pipeline.execute()
    async with refused(site.functions, LimitError, "1000 commands queued"):
        await submit(site)


async def test_completing_names_what_is_wrong(site: Site) -> None:
    await submit(site, id="c1")
    async with refused(site.functions, StateError, "command c1 is queued and can't be verified"):
        await complete(site, "c1", "verified")
    async with refused(site.functions, NotFoundError, "command c9"):
        await complete(site, "c9", "failed")
    async with refused(site.functions, InvalidError, "state must be one of"):
        await complete(site, "c1", "done")
    await claim(site)
    async with refused(site.functions, InvalidError, "value must be a finite number"):
        await complete(site, "c1", "acknowledged", value="x")


async def test_selection_keeps_a_point_for_one_user(site: Site) -> None:
    selection = {"type": "A", "point": 1, "user": "ann", "ttl_ms": 5000, "now_ms": site.now}
    assert await site.functions.json("command_select", 1001, selection) == {"by": "ann", "until_ms": START + 5000}
    async with refused(site.functions, StateError, "is selected by ann"):
        await site.functions.call("command_select", 1001, selection | {"user": "bob"})
    async with refused(site.functions, StateError, "A:1 is selected by ann"):
        await submit(site, source={"kind": "user", "name": "bob"})
    await submit(site, source={"kind": "user", "name": "ann"})
    site.now += 5000
    await submit(site, source={"kind": "user", "name": "bob"})


async def test_a_tag_stops_a_command_also_between_submit_and_claim(site: Site) -> None:
    await submit(site, id="c1")
    tag = {"type": "A", "point": 1, "kind": "lockout", "by": "ann", "reason": "work on the bay", "now_ms": site.now}
    await site.functions.call("point_tag", 1001, tag)
    async with refused(site.functions, StateError, "A:1 has a lockout tag of ann: work on the bay"):
        await submit(site)
    assert await claim(site) == []
    assert (await get(site, "c1"))["state"] == "rejected"


async def test_a_list_is_newest_first_in_pages(site: Site) -> None:
    for number in range(5):
        site.now += 1
        await submit(site, id=f"c{number}")
    first = await site.functions.read_json("command_list", None, {"limit": 2, "channel": 1001})
    assert [c["id"] for c in first["items"]] == ["c4", "c3"]
    second = await site.functions.read_json("command_list", None, {"limit": 3, "cursor": first["cursor"]})
    assert [c["id"] for c in second["items"]] == ["c2", "c1", "c0"]
    assert second["cursor"] is None
    assert await execute(site.functions.client, "ZCARD", "comsrv:commands") == 5


async def text_point(site: Site, **command: Any) -> None:
    """Give the channel text point A:9 of 8 ASCII bytes."""
    point = {
        "id": 9,
        "name": "label",
        "data_type": "string",
        "command": {"text_bytes": 8, "text_ascii": True, **command},
    }
    document = {
        "id": 1001,
        "name": "c",
        "protocol": "modbus_tcp",
        "interval_ms": 1000,
        "points": {"A": [point, {"id": 1}]},
    }
    await site.functions.json("channel_upsert", 1001, document)


async def test_a_command_of_a_text_from_submit_to_verified(site: Site) -> None:
    """Its confirmed text is a text of the channel, which conditions compare and the stream shows."""
    await text_point(site)
    pubsub = site.functions.client.pubsub()
    await pubsub.subscribe("comsrv:updates:1001")
    await pubsub.get_message(timeout=1)
    queued = await submit(site, 'A "7"', point=9, id="c1")
    assert (queued["value"], queued["read_back"], queued["lease_ms"]) == ('A "7"', None, None)
    (sent,) = await claim(site)
    assert sent["value"] == 'A "7"'
    await complete(site, "c1", "acknowledged", value='A "7"')
    verified = await complete(site, "c1", "verified", value='A "7"')
    assert (verified["read_back"], (await get(site, "c1"))["value"]) == ('A "7"', 'A "7"')
    assert await site.hash("comsrv:1001:text") == {"9": 'A "7"'}
    assert await site.hash("comsrv:1001:A") == {}
    assert [e["value"] for e in await site.entries("comsrv:journal")] == ['A "7"', 'A "7"']
    message = orjson.loads((await pubsub.get_message(timeout=1))["data"])
    assert (message["type"], message["points"]) == ("X", {"9": 'A "7"'})
    # A text that looks like a number stays one.
    await submit(site, "007", point=9, id="c2")
    await claim(site)
    await complete(site, "c2", "acknowledged")
    found = await complete(site, "c2", "mismatch", value="006", reason="r")
    assert (found["value"], found["read_back"]) == ("007", "006")


async def test_a_condition_sees_the_text_that_was_confirmed(site: Site) -> None:
    await text_point(site)
    source = {"source": "comsrv:1001:X:9", "operator": "==", "value": "on"}
    await site.functions.json("rule_upsert", "r", {"name": "r", "conditions": [source], "actions": []})
    await submit(site, "on", point=9, id="c1", verify=False)
    await claim(site)
    await complete(site, "c1", "acknowledged")
    assert orjson.loads(await site.functions.read("rule_stats", "r"))["result"] is True


async def test_a_text_point_takes_what_its_device_can_hold(site: Site) -> None:
    await text_point(site)
    for value, reason in (
        (5, "must be a text"), ("123456789", "at most 8 bytes"), ("a\nb", "control character"), ("é", "not ASCII"),
    ):  # fmt: skip
        async with refused(site.functions, InvalidError, reason):
            await submit(site, value, point=9)  # type: ignore[arg-type]
    for more in ({"lease_ms": 1000}, {"fallback": 1}):
        async with refused(site.functions, InvalidError, "a text is not held"):
            await submit(site, "a", point=9, **more)  # type: ignore[arg-type]
    async with refused(site.functions, InvalidError, "must be a finite number"):
        await submit(site, "a")  # type: ignore[arg-type]


async def test_numbers_options_do_not_go_with_a_text_point(site: Site) -> None:
    for options, name in (({"fallback": 1}, "fallback"), ({"step": 2}, "step"), ({"lease_ms": 5}, "lease_ms")):
        async with refused(site.functions, InvalidError, f"points.A[0].command.{name} is not for a text"):
            await text_point(site, **options)
    points = {"T": [{"id": 9, "name": "p", "data_type": "float32"}], "A": [{"id": 9, "name": "l", "data_type": "text"}]}
    async with refused(site.functions, InvalidError, "texts share their numbers"):
        document = {"id": 1001, "name": "c", "protocol": "modbus_tcp", "interval_ms": 1000, "points": points}
        await site.functions.json("channel_upsert", 1001, document)
