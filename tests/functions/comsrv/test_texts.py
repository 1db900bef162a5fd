"""Text points: sections of type X, their hashes, and conditions on them; and heartbeats."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.errors import InvalidError
from libs.redis.client import execute
from libs.redis.queue import pairs
from tests.functions.comsrv.test_ingest import block, ingest
from tests.support.refusal import refused
from tests.support.site import START, Site

SERIAL = 'Zähler "7"/A'


def texts(site: Site, values: dict[str, str], quality: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a block of texts."""
    section = {"type": "X", "ids": list(values), "values": list(values.values()), "quality": quality or {}}
    return block(site, sections=[section], counters={"polled": len(values)}, **changes)


async def rule(site: Site, operator: str, value: Any, source: str = "comsrv:1001:X:7") -> Any:
    """Store a rule over one condition."""
    document = {
        "name": "r",
        "conditions": [{"source": source, "operator": operator, "value": value}],
        "actions": [{"type": "create_alarm", "params": {"title": "t", "level": "Minor"}}],
    }
    return await site.functions.json("rule_upsert", "r", document)


async def result(site: Site) -> bool | None:
    """Return the rule's truth as it is kept."""
    stats = orjson.loads(await site.functions.read("rule_stats", "r"))
    found: bool | None = stats["result"]
    return found


async def test_texts_have_hashes_of_their_own_and_no_history(site: Site) -> None:
    await ingest(site, texts(site, {"7": SERIAL}, {"8": "bad:no_text"}))
    assert await site.hash("comsrv:1001:text") == {"7": SERIAL}
    assert await site.hash("comsrv:1001:text:ts") == {"7": str(START), "8": str(START)}
    assert await site.hash("comsrv:1001:text:q") == {"8": "bad:no_text"}
    assert await site.hash("comsrv:1001:T") == {}
    assert await execute(site.functions.client, "XLEN", "hissrv:queue") == 0
    assert (await site.hash("voltage:ledger"))["stored"] == "2"


async def test_a_text_is_published_as_json(site: Site) -> None:
    """With the text that came along for publishing, and without."""
    pubsub = site.functions.client.pubsub()
    await pubsub.subscribe("comsrv:updates:1001")
    await pubsub.get_message(timeout=1)
    await ingest(site, texts(site, {"7": SERIAL}))
    await ingest(site, texts(site, {"7": "b"}), '"points":{"7":"b"},"quality":{}')
    found = [orjson.loads((await pubsub.get_message(timeout=1))["data"]) for _ in range(2)]
    await pubsub.aclose()
    assert [(one["type"], one["points"]) for one in found] == [("X", {"7": SERIAL}), ("X", {"7": "b"})]


async def test_conditions_compare_texts(site: Site) -> None:
    """Equal, another, unknown while bad, and the quality itself; also after the compiled graph was lost."""
    await rule(site, "==", SERIAL)
    assert await result(site) is None
    await ingest(site, texts(site, {"7": SERIAL}))
    assert await result(site) is True
    firings = await execute(site.functions.client, "XRANGE", "rulesrv:firings", "-", "+")
    fields = dict(pairs(firings[0][1]))
    assert orjson.loads(fields[b"inputs"])[0]["value"] == SERIAL
    await ingest(site, texts(site, {"7": "another"}))
    assert await result(site) is False
    await ingest(site, texts(site, {}, {"7": "bad:timeout"}))
    assert await result(site) is None
    await execute(site.functions.client, "INCR", "voltage:image")
    await ingest(site, texts(site, {"7": SERIAL}))
    assert await result(site) is True
    shown = orjson.loads(await site.functions.read("rule_evaluate", "r", {"values": {"comsrv:1001:X:7": "x"}}))
    assert (shown["result"], shown["conditions"][0]["actual"]) == (False, "x")


@pytest.mark.parametrize(
    ("operator", "value", "source", "message"),
    [
        (">", "a", "comsrv:1001:X:7", "operator of a text must be =="),
        ("==", 5, "comsrv:1001:X:7", "must be a text"),
        ("==", {"source": "comsrv:1001:T:1"}, "comsrv:1001:X:7", "no reference of a text"),
        ("==", "a", "comsrv:1001:T:7", "must be a finite number"),
        ("==", {"source": "comsrv:1001:X:7"}, "comsrv:1001:T:7", "is no reference"),
    ],
)
async def test_a_comparison_that_makes_no_sense_is_refused(
    site: Site, operator: str, value: Any, source: str, message: str
) -> None:
    async with refused(site.functions, InvalidError, message):
        await rule(site, operator, value, source)


@pytest.mark.parametrize("value", [5, "x" * 257])
async def test_what_is_no_text_is_refused(site: Site, value: Any) -> None:
    async with refused(site.functions, InvalidError, "texts of at most 256 bytes"):
        await ingest(site, texts(site, {"7": value}))


async def test_bytes_that_are_no_utf8_are_refused(site: Site) -> None:
    document = orjson.dumps(texts(site, {"7": "@@"})).replace(b'"@@"', b'"\xc3("')
    async with refused(site.functions, InvalidError, "of UTF-8"):
        await ingest(site, document)


async def test_texts_are_stale_with_the_rest_and_go_with_their_point(site: Site) -> None:
    await ingest(site, texts(site, {"7": "a", "8": "b"}))
    await site.functions.json("channel_release", 1001, {"epoch": site.epoch, "now_ms": site.now})
    assert await site.hash("comsrv:1001:text:q") == {"7": "bad:stale", "8": "bad:stale"}
    points = {"T": [{"id": 7, "name": "a", "data_type": "string"}, {"id": 8, "name": "b", "data_type": "float32"}]}
    await site.functions.json("channel_upsert", 1001, {"name": "x", "protocol": "virtual", "points": points})
    assert await site.hash("comsrv:1001:text") == {"7": "a"}
    async with refused(site.functions, InvalidError, "is a text"):
        document = {"type": "T", "point": 7, "value": 1, "by": "me", "reason": "", "expires_ms": 1000}
        await site.functions.json("point_substitute", 1001, document)


async def test_a_heartbeat_is_published_and_recorded_and_is_no_change(site: Site) -> None:
    """Its instant of change stays, so that what is stuck is seen to be."""
    await ingest(site, block(site))
    site.now += 1000
    again = {"type": "T", "ids": ["1"], "values": ["1.500000"], "quality": {}, "again": True}
    pubsub = site.functions.client.pubsub()
    await pubsub.subscribe("comsrv:updates:1001")
    await pubsub.get_message(timeout=1)
    await ingest(site, block(site, sections=[again], counters={"polled": 1}))
    message = orjson.loads((await pubsub.get_message(timeout=1))["data"])
    await pubsub.aclose()
    assert (message["points"], message["at_ms"]) == ({"1": 1.5}, site.now)
    assert (await site.hash("comsrv:1001:T:ts"))["1"] == str(START)
    assert (await site.hash("voltage:ledger"))["queued"] == "3"
