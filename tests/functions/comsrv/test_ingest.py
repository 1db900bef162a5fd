"""comsrv_ingest and comsrv_set_quality: what a block leaves behind, and what is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import orjson
import pytest

from libs.errors import ConflictError, InvalidError, LimitError, StateError
from libs.redis.client import execute
from tests.support.refusal import refused
from tests.support.site import START, Site, keyspace


def block(site: Site, **changes: Any) -> dict[str, Any]:
    """Return a block of two points, the next in sequence."""
    site.seq += 1
    return {
        "epoch": site.epoch, "seq": site.seq, "now_ms": site.now, "origin": "poll", "channel": site.channel,
        "block": "b", "at_ms": site.now,
        "sections": [{"type": "T", "ids": ["1", "2"], "values": ["1.500000", "-2.000000"], "quality": {}}],
        "counters": {"polled": 2}, **changes,
    }  # fmt: skip


async def ingest(site: Site, document: dict[str, Any] | bytes, *texts: str) -> Any:
    """Call comsrv_ingest."""
    return await site.functions.json("comsrv_ingest", site.channel, document, *texts)


async def test_a_block_becomes_values_instants_and_the_last_good_response(site: Site) -> None:
    reply = await ingest(site, block(site))
    assert reply["repeat"] is False
    assert await site.hash("comsrv:1001:T") == {"1": "1.500000", "2": "-2.000000"}
    assert await site.hash("comsrv:1001:T:ts") == {"1": str(START), "2": str(START)}
    assert await site.hash("comsrv:1001:T:q") == {}
    assert await site.hash("comsrv:1001:seen") == {"b": str(START)}
    image = await execute(site.functions.client, "GET", "voltage:image")
    assert reply["seq"] == int(image)


async def test_msgpack_and_json_say_the_same(site: Site) -> None:
    await ingest(site, msgpack.packb(block(site)))
    packed = await site.hash("comsrv:1001:T")
    await execute(site.functions.client, "DEL", "comsrv:1001:T")
    await ingest(site, orjson.dumps(block(site)))
    assert await site.hash("comsrv:1001:T") == packed


async def test_one_block_may_bring_several_kinds(site: Site) -> None:
    sections = [
        {"type": "T", "ids": ["1"], "values": ["5.000000"]},
        {"type": "S", "ids": ["1"], "values": ["1.000000"], "quality": {"2": "bad:sentinel"}},
    ]
    await ingest(site, block(site, sections=sections))
    assert await site.hash("comsrv:1001:T") == {"1": "5.000000"}
    assert await site.hash("comsrv:1001:S") == {"1": "1.000000"}
    assert await site.hash("comsrv:1001:S:q") == {"2": "bad:sentinel"}


async def test_quality_alone_keeps_the_last_value(site: Site) -> None:
    await ingest(site, block(site))
    site.now += 5
    await ingest(site, block(site, sections=[{"type": "T", "quality": {"2": "bad:out_of_range"}}]))
    assert (await site.hash("comsrv:1001:T"))["2"] == "-2.000000"
    assert await site.hash("comsrv:1001:T:q") == {"2": "bad:out_of_range"}
    assert await site.hash("comsrv:1001:T:ts") == {"1": str(START), "2": str(START + 5)}
    await ingest(site, block(site))
    assert await site.hash("comsrv:1001:T:q") == {}


async def test_a_value_may_come_with_an_uncertain_quality(site: Site) -> None:
    section = {"type": "T", "ids": ["1"], "values": ["7.000000"], "quality": {"1": "uncertain:not_verified"}}
    await ingest(site, block(site, sections=[section]))
    assert await site.hash("comsrv:1001:T") == {"1": "7.000000"}
    assert await site.hash("comsrv:1001:T:q") == {"1": "uncertain:not_verified"}


async def test_the_same_sequence_again_is_a_repeat_without_effect(site: Site) -> None:
    document = block(site)
    first = await ingest(site, document)
    before = await keyspace(site.functions)
    again = await ingest(site, document | {"sections": [{"type": "T", "ids": ["1"], "values": ["9.000000"]}]})
    assert again == {"seq": first["seq"], "repeat": True}
    older = await ingest(site, document | {"seq": 0})
    assert older["repeat"] is True
    assert await keyspace(site.functions) == before


async def test_each_block_has_a_sequence_of_its_own(site: Site) -> None:
    await ingest(site, block(site, seq=7))
    assert (await ingest(site, block(site, seq=3, block="other")))["repeat"] is False


def pair(site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two blocks for one call, of two instants."""
    later = one("7.000000") | {"block": "other", "at_ms": START + 5, "counters": {"polled": 1}}
    return block(site), block(site, seq=site.seq) | later


async def test_blocks_that_waited_come_in_one_call(site: Site) -> None:
    """As in a call each: the later value stays, each at its own instant; one image number, two documents to history."""
    first, second = pair(site)
    texts = ['"points":{"1":1.5,"2":-2},"quality":{}', '"points":{"1":7},"quality":{}']
    async with site.functions.client.pubsub() as pubsub:
        await pubsub.subscribe("comsrv:updates:1001")
        await pubsub.get_message(timeout=5)
        reply = await ingest(site, first, texts[0], orjson.dumps(second).decode(), texts[1])
        for text, at_ms in zip(texts, (START, START + 5), strict=True):
            message = await pubsub.get_message(timeout=5)
            assert message is not None
            assert message["data"].decode() == (
                f'{{"channel":1001,"type":"T","at_ms":{at_ms},"seq":{reply["seq"]},{text}}}'
            )
    assert await site.hash("comsrv:1001:T") == {"1": "7.000000", "2": "-2.000000"}
    assert await site.hash("comsrv:1001:T:ts") == {"1": str(START + 5), "2": str(START)}
    assert await site.hash("comsrv:1001:seen") == {"b": str(START), "other": str(START + 5)}
    assert await site.hash("voltage:ledger") == {"polled": "3", "stored": "3", "queued": "3"}
    entries = await site.entries("hissrv:queue")
    assert [(entry["n"], entry["i"]) for entry in entries] == [("2", str(reply["seq"])), ("1", str(reply["seq"]))]
    assert await site.hash("hissrv:queue:size") == {
        "entries": "2", "samples": "3", "bytes": str(sum(int(entry["b"]) for entry in entries)),
    }  # fmt: skip


async def test_of_several_blocks_those_had_already_are_left_out(site: Site) -> None:
    first, second = pair(site)
    await ingest(site, first)
    both = [first, orjson.dumps(second).decode()]
    assert (await ingest(site, *both))["repeat"] is False
    assert (await site.hash("voltage:ledger"))["polled"] == "3"
    before = await keyspace(site.functions)
    assert (await ingest(site, *both))["repeat"] is True
    assert await keyspace(site.functions) == before


async def test_of_several_blocks_a_wrong_one_refuses_all(site: Site) -> None:
    first, second = pair(site)
    many = [{"type": "T", "ids": [str(n) for n in range(1, 500)], "values": ["1.000000"] * 499}]
    for error, text, others in (
        (InvalidError, "six decimals", [second | one("nan")]),
        (InvalidError, "have one epoch", [second | {"epoch": 7}]),
        (InvalidError, "neither JSON nor msgpack", ["points"]),
        (LimitError, "at most 500 points, not 501", [second | {"sections": many}]),
        (LimitError, "at most 16 blocks, not 17", [second | {"block": f"b{n}"} for n in range(16)]),
    ):
        async with refused(site.functions, error, text):
            words = [other if isinstance(other, str) else orjson.dumps(other).decode() for other in others]
            await ingest(site, first, *words)


async def test_an_older_epoch_is_a_conflict(site: Site) -> None:
    old = block(site)
    claim = {"owner": "test", "interval_ms": 1000, "now_ms": site.now}
    await site.functions.call("channel_claim", 1001, claim)
    async with refused(site.functions, ConflictError, "channel 1001 is at epoch 2, not 1"):
        await ingest(site, old)
    async with refused(site.functions, StateError, "claim it again"):
        await ingest(site, old | {"epoch": 3})


async def test_after_the_lease_only_a_claim_helps(site: Site) -> None:
    await site.functions.call("channel_release", 1001, {"epoch": site.epoch, "now_ms": site.now})
    async with refused(site.functions, StateError, "lapsed"):
        await ingest(site, block(site))


async def test_what_is_published_is_the_text_that_came(site: Site) -> None:
    client = site.functions.client
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("comsrv:updates:1001")
        await pubsub.get_message(timeout=5)
        text = '"points":{"1":1.5,"2":-2},"quality":{}'
        reply = await ingest(site, block(site), text)
        message = await pubsub.get_message(timeout=5)
        expected = f'{{"channel":1001,"type":"T","at_ms":{START},"seq":{reply["seq"]},{text}}}'
        assert message is not None
        assert message["data"].decode() == expected
        await ingest(
            site, block(site, sections=[{"type": "S", "ids": ["1"], "values": ["1.000000"], "quality": {"2": "bad:x"}}])
        )
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        made = orjson.loads(message["data"])
        assert (made["points"], made["quality"]) == ({"1": 1.0}, {"2": "bad:x"})


async def test_backfill_reaches_only_history(site: Site) -> None:
    await site.functions.call("rule_upsert", "r1", {
        "name": "high", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1}],
        "actions": [{"type": "create_alarm", "params": {"title": "high"}}],
    })  # fmt: skip
    await ingest(site, block(site, origin="backfill"))
    assert await site.hash("comsrv:1001:T") == {}
    assert await site.hash("comsrv:1001:seen") == {}
    assert await site.members("alarmsrv:alarms:active") == set()
    assert [entry["n"] for entry in await site.entries("hissrv:queue")] == ["2"]
    ledger = await site.hash("voltage:ledger")
    assert ledger == {"polled": "2", "stored": "2", "queued": "2"}


async def test_events_enter_in_source_order_and_the_newest_stays(site: Site) -> None:
    rule = {
        "name": "trip", "conditions": [{"source": "comsrv:1001:S:4", "operator": "==", "value": 1}], "actions": [],
    }  # fmt: skip
    await site.functions.call("rule_upsert", "trip", rule)
    events = [
        ["S", "4", START - 10, "0.000000", ""],
        ["S", "4", START - 30, "0.000000", None],
        ["S", "4", START - 20, "1.000000", ""],
    ]
    await ingest(site, block(site, origin="event", sections=[], events=events))
    assert await site.hash("comsrv:1001:S") == {"4": "0.000000"}
    assert await site.hash("comsrv:1001:S:ts") == {"4": str(START - 10)}
    assert await site.firings() == [("trip", "fired", -20), ("trip", "cleared", -10)]


async def test_an_event_older_than_the_image_reaches_the_rules_but_not_the_image(site: Site) -> None:
    rule = {
        "name": "trip", "conditions": [{"source": "comsrv:1001:S:4", "operator": "==", "value": 1}], "actions": [],
    }  # fmt: skip
    await site.functions.call("rule_upsert", "trip", rule)
    await site.put({4: 0}, kind="S")
    await ingest(site, block(site, sections=[], events=[["S", 4, START - 500, "1.000000", ""]]))
    assert await site.hash("comsrv:1001:S") == {"4": "0.000000"}
    stats = await site.functions.read_json("rule_stats", "trip")
    assert (stats["count"], stats["active"]) == (1, False)


async def test_a_bad_event_keeps_the_last_good_value(site: Site) -> None:
    await site.put({4: 1}, kind="S")
    await ingest(site, block(site, origin="event", sections=[], events=[["S", 4, START, "0.000000", "bad:sensor"]]))
    assert await site.hash("comsrv:1001:S") == {"4": "1.000000"}
    assert await site.hash("comsrv:1001:S:q") == {"4": "bad:sensor"}


async def test_events_of_a_substituted_point_are_left_out_of_image_and_history_and_counted(site: Site) -> None:
    await site.put({4: 1}, kind="S")
    substitute = {"type": "S", "point": 4, "value": 0, "by": "ann", "reason": "stuck", "expires_ms": 60_000}
    await site.functions.json("point_substitute", 1001, substitute | {"now_ms": site.now})
    queued = int((await site.hash("voltage:ledger"))["queued"])
    events = [["S", 4, START + ago, "1.000000", ""] for ago in (-500, 5)] + [["S", 5, START, "1.000000", ""]]
    await ingest(site, block(site, origin="event", sections=[], events=events, counters={"polled": 3}))
    assert await site.hash("comsrv:1001:S") == {"4": "0.000000", "5": "1.000000"}
    ledger = await site.hash("voltage:ledger")
    assert (ledger["rejected:substituted"], int(ledger["queued"]) - queued) == ("2", 1)


async def test_counters_go_to_the_ledger(site: Site) -> None:
    counters = {"polled": 10, "unchanged": 7, "rejected": {"nan": 1}}
    await ingest(site, block(site, counters=counters))
    ledger = await site.hash("voltage:ledger")
    assert ledger == {"polled": "10", "unchanged": "7", "rejected:nan": "1", "stored": "2", "queued": "2"}


async def test_set_quality_marks_points_and_is_no_response(site: Site) -> None:
    await ingest(site, block(site))
    site.now += 1000
    document = {
        "epoch": site.epoch, "seq": 9, "now_ms": site.now, "block": "b", "at_ms": site.now, "quality": "bad:timeout",
        "sections": [{"type": "T", "ids": ["1", "2"]}], "counters": {"polled": 2},
    }  # fmt: skip
    reply = await site.functions.json("comsrv_set_quality", 1001, msgpack.packb(document))
    assert reply["repeat"] is False
    assert await site.hash("comsrv:1001:T:q") == {"1": "bad:timeout", "2": "bad:timeout"}
    assert await site.hash("comsrv:1001:seen") == {"b": str(START)}
    assert (await site.functions.json("comsrv_set_quality", 1001, document))["repeat"] is True
    ledger = await site.hash("voltage:ledger")
    assert (ledger["polled"], ledger["stored"], ledger["queued"]) == ("4", "4", "4")
    for wrong in ({"quality": "broken"}, {"quality": 5}, {"sections": [5]}, {"sections": [{"type": "T"}]}):
        async with refused(site.functions, InvalidError):
            await site.functions.call("comsrv_set_quality", 1001, document | {"seq": 10} | wrong)


async def test_500_points_fit_and_501_do_not(site: Site) -> None:
    ids = [str(n) for n in range(1, 502)]
    section = {"type": "T", "ids": ids[:500], "values": ["1.000000"] * 500}
    await ingest(site, block(site, sections=[section]))
    async with refused(site.functions, LimitError, "at most 500 points, not 501"):
        await ingest(site, block(site, sections=[{"type": "T", "ids": ids, "values": ["1.000000"] * 501}]))
    async with refused(site.functions, LimitError, "at most 500 points, not 501"):
        await ingest(site, block(site, sections=[{"type": "T", "quality": dict.fromkeys(ids, "bad:x")}]))


def one(value: object, **more: Any) -> dict[str, Any]:
    return {"sections": [{"type": "T", "ids": ["1"], "values": [value], **more}]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (one("nan"), "sections[0].values must be texts with six decimals"),
        (one("inf"), "six decimals"),
        (one("0x10"), "six decimals"),
        (one("1e5"), "six decimals"),
        (one("1.0"), "six decimals"),
        (one(1.5), "six decimals"),
        (one(""), "six decimals"),
        (one({}), "six decimals"),
        (one("1.000000,2.000000"), "six decimals"),
        (one("-0.000000"), "negative zero"),
        (one("123456789012345678.000000"), "within 2^53"),
        ({"sections": [{"type": "T", "ids": ["1,2"], "values": ["1.000000"]}]}, "[0].ids must be point numbers"),
        ({"sections": [{"type": "T", "ids": ["0"], "values": ["1.000000"]}]}, "point numbers"),
        ({"sections": [{"type": "T", "ids": ["1:2"], "values": ["1.000000"]}]}, "point numbers"),
        ({"sections": [{"type": "T", "ids": ["1234567890"], "values": ["1.000000"]}]}, "point numbers"),
        ({"sections": [{"type": "T", "ids": ["1", "2"], "values": ["1.000000"]}]}, "as many values as ids"),
        ({"sections": [{"type": "T", "ids": {"a": 1}, "values": []}]}, "sections[0].ids must be a list"),
        ({"sections": [{"type": "Q", "ids": [], "values": []}]}, "sections[0].type must be T, S, C, A or X"),
        ({"sections": [{"type": "T", "vaules": []}]}, "sections[0].vaules is unknown"),
        ({"sections": "T"}, "sections must be a list"),
        (one("1.000000", quality={"1": "good"}), "must be bad:<reason>"),
        (one("1.000000", quality={"x": "bad:y"}), "an id that is no point number: x"),
        (one("1.000000", quality=["bad:y"]), "an id that is no point number"),
        ({"origin": "dream"}, "origin must be poll, event or backfill"),
        ({"channel": 1002}, "channel 1002 is not the key's channel 1001"),
        ({"block": 5}, "block must be a text"),
        ({"seq": "x"}, "seq must be a finite number"),
        ({"seq": 1.5}, "seq must be an integer"),
        ({"epoch": None}, "epoch must be a finite number"),
        ({"at_ms": -1}, "at_ms must be an integer"),
        ({"now_ms": "soon"}, "now_ms must be a finite number"),
        ({"events": [["S", "x", 1, "1.000000", ""]]}, "must be a number from 1"),
        ({"events": [["S", "1", 1, "1", ""]]}, "events[0][3].values must be texts with six decimals"),
        ({"events": [["S", "1", 1, "1.000000", "odd"]]}, "events[0][4] must be"),
        ({"events": [5]}, "events[0] must be [type, id"),
        ({"counters": {"polled": -1}}, "counters.polled must be an integer"),
        ({"counters": {"seen": 1}}, "counters.seen is unknown"),
        ({"counters": {"rejected": {"a b": 1}}}, "a reason that is no word"),
        ({"extra": 1}, "extra is unknown"),
        ({"quality": "bad:x"}, "quality belongs into the sections"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_and_nothing_is_stored(site: Site, changes: dict[str, Any], text: str) -> None:
    async with refused(site.functions, InvalidError, text):
        await ingest(site, block(site, **changes))


@pytest.mark.parametrize("blob", [b"", b"{", b"\xc1", b'"text"', b"[1]", b'{"seq":NaN}', b'{"seq":0x1}'])
async def test_what_is_no_document_is_refused(site: Site, blob: bytes) -> None:
    async with refused(site.functions, InvalidError):
        await ingest(site, blob)


async def test_a_megabyte_is_refused(site: Site) -> None:
    async with refused(site.functions, LimitError, "1048576"):
        await ingest(site, block(site, block="x" * 1_048_577))


async def test_msgpack_can_carry_no_nan(site: Site) -> None:
    for field in ("seq", "epoch", "at_ms", "now_ms"):
        async with refused(site.functions, InvalidError, field):
            await ingest(site, msgpack.packb(block(site, **{field: float("nan")})))


async def test_a_caller_more_than_two_seconds_ahead_is_refused(site: Site) -> None:
    await execute(site.functions.client, "HDEL", "voltage:clock", "simulation")
    async with refused(site.functions, InvalidError, "ahead of Redis' clock"):
        await ingest(site, block(site, now_ms=4_000_000_000_000))
