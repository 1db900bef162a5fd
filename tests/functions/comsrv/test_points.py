"""Tags and substitution by hand."""

from __future__ import annotations

from typing import Any

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.queue import QueueEntry, samples_of
from tests.support.refusal import refused
from tests.support.site import START, Site


def tag(site: Site, **more: Any) -> dict[str, Any]:
    return {
        "type": "A", "point": 1, "kind": "maintenance", "by": "ann", "reason": "bay 2", "now_ms": site.now, **more,
    }  # fmt: skip


def substitute(site: Site, **more: Any) -> dict[str, Any]:
    return {
        "type": "T", "point": 1, "value": 42, "by": "ann", "reason": "sensor broken", "expires_ms": 5000,
        "now_ms": site.now, **more,
    }  # fmt: skip


async def test_a_tag_comes_off_by_hand_or_by_its_time(site: Site) -> None:
    until = {"until_ms": START + 1000}
    found = await site.functions.json("point_tag", 1001, tag(site, **until))
    assert found == {"kind": "maintenance", "by": "ann", "reason": "bay 2", "at_ms": START, **until}
    async with refused(site.functions, StateError, "has a tag already"):
        await site.functions.call("point_tag", 1001, tag(site))
    await site.pass_ms(1000)
    async with refused(site.functions, StateError, "has no tag"):
        await site.functions.call("point_untag", 1001, {"type": "A", "point": 1, "by": "bob", "now_ms": site.now})
    await site.functions.call("point_tag", 1001, tag(site))
    await site.functions.call("point_untag", 1001, {"type": "A", "point": 1, "by": "bob", "now_ms": site.now})
    journal = [(e["what"], e["by"]) for e in await site.entries("comsrv:journal")]
    assert journal == [("tagged", "ann"), ("untagged", "timer"), ("tagged", "ann"), ("untagged", "bob")]
    assert await execute(site.functions.client, "EXISTS", "comsrv:1001:tags") == 0


async def test_what_a_tag_needs(site: Site) -> None:
    for changes, text in (
        ({"kind": "joke"}, "kind must be one of lockout, maintenance"),
        ({"by": None}, "by is missing"),
        ({"type": "T"}, "type must be one of C, A"),
        ({"until_ms": START - 1}, "until_ms must be an integer"),
        ({"reason": "x" * 513}, "at most 512 bytes"),
        ({"why": "x"}, "why is unknown"),
    ):
        async with refused(site.functions, InvalidError, text):
            await site.functions.call("point_tag", 1001, tag(site) | changes)
    async with refused(site.functions, NotFoundError, "A:9"):
        await site.functions.call("point_tag", 1001, tag(site, point=9))


async def test_history_has_the_substitute_and_not_what_the_device_says_meanwhile(site: Site) -> None:
    await site.put({1: 5, 2: 6})
    await site.functions.json("point_substitute", 1001, substitute(site))
    await site.put({1: 7, 2: 8}, {2: "bad:sentinel"})
    await site.put({1: 7.5})
    event = {"epoch": site.epoch, "seq": 99, "block": "e", "at_ms": site.now, "now_ms": site.now}
    await site.functions.call("comsrv_ingest", 1001, {**event, "events": [["T", 1, site.now, "9.000000", ""]]})
    await site.pass_ms(5000)
    await site.put({1: 7})
    found: dict[str, list[tuple[float | None, str]]] = {}
    for entry_id, fields in await execute(site.functions.client, "XRANGE", "hissrv:queue", "-", "+"):
        for sample in samples_of(QueueEntry.parse(entry_id, fields)):
            found.setdefault(sample.ref, []).append((sample.value, sample.quality))
    assert found == {
        "comsrv:1001:T:1": [(5, ""), (42, "uncertain:substituted"), (None, "uncertain:restored"), (7, "")],
        "comsrv:1001:T:2": [(6, ""), (8, "bad:sentinel")],
    }
    ledger = await site.hash("voltage:ledger")
    size = await site.hash("hissrv:queue:size")
    assert (ledger["queued"], size["samples"], ledger["rejected:substituted"]) == ("6", "6", "3")


async def test_a_substitute_stands_until_it_ends(site: Site) -> None:
    await site.put({1: 5, 2: 6})
    reply = await site.functions.json("point_substitute", 1001, substitute(site))
    assert (reply["value"], reply["until_ms"]) == (42.0, START + 5000)
    await site.put({1: 7, 2: 8})
    assert await site.hash("comsrv:1001:T") == {"1": "42.000000", "2": "8.000000"}
    assert await site.hash("comsrv:1001:T:q") == {"1": "uncertain:substituted"}
    await site.pass_ms(5000)
    assert await site.hash("comsrv:1001:T:q") == {"1": "uncertain:restored"}
    renewed = await site.functions.json("channel_renew", 1001, {"epoch": site.epoch, "now_ms": site.now})
    assert renewed["resend"] is True
    await site.put({1: 7})
    assert await site.hash("comsrv:1001:T:q") == {}


async def test_the_next_call_says_once_that_every_point_must_be_sent_again(site: Site) -> None:
    await site.put({1: 5, 2: 6})
    await site.functions.json("point_substitute", 1001, substitute(site))
    assert "resend" not in await site.put({2: 7})
    await site.pass_ms(5000)
    assert [(await site.put({2: value})).get("resend") for value in (8, 9)] == [True, None]


async def test_what_the_device_said_meanwhile_is_in_the_ledger(site: Site) -> None:
    await site.functions.call("point_substitute", 1001, substitute(site))
    before = int((await site.hash("voltage:ledger")).get("stored", "0"))
    await site.put({1: 7, 2: 8}, {1: "bad:x", 3: "bad:x"})
    ledger = await site.hash("voltage:ledger")
    assert int(ledger["stored"]) - before == 2
    assert ledger["rejected:substituted"] == "1"


async def test_a_substitution_ends_by_hand(site: Site) -> None:
    await site.functions.call("point_substitute", 1001, substitute(site))
    restore = {"type": "T", "point": 1, "by": "bob", "now_ms": site.now}
    await site.functions.call("point_restore", 1001, restore)
    async with refused(site.functions, StateError, "T:1 of channel 1001 is not substituted"):
        await site.functions.call("point_restore", 1001, restore)


async def test_what_a_substitution_needs(site: Site) -> None:
    for changes, text in (
        ({"value": "inf"}, "value must be a finite number"),
        ({"expires_ms": 999}, "expires_ms must be an integer from 1000"),
        ({"expires_ms": None}, "expires_ms must be a finite number"),
        ({"type": "A"}, "type must be one of T, S"),
    ):
        async with refused(site.functions, InvalidError, text):
            await site.functions.call("point_substitute", 1001, substitute(site) | changes)
    async with refused(site.functions, NotFoundError, "channel 7"):
        await site.functions.call("point_substitute", 7, substitute(site))
