"""The ledger: no sample is lost without being counted."""

from __future__ import annotations

import orjson

from libs.redis.client import execute
from tests.support.site import Site


async def check_balance(site: Site) -> dict[str, int]:
    """Check queued = written + dead-lettered + dropped + pending, and return the ledger."""
    ledger = {name: int(value) for name, value in (await site.hash("voltage:ledger")).items()}
    size = {name: int(value) for name, value in (await site.hash("hissrv:queue:size")).items()}
    gone = sum(n for name, n in ledger.items() if name in {"written", "dead_lettered"} or name.startswith("dropped:"))
    assert ledger.get("queued", 0) == gone + size.get("samples", 0)
    entries = await site.entries("hissrv:queue")
    assert size.get("entries", 0) == len(entries)
    assert size.get("samples", 0) == sum(int(entry["n"]) for entry in entries)
    assert size.get("bytes", 0) == sum(int(entry["b"]) for entry in entries)
    return ledger


async def cap(site: Site, queue_bytes: int) -> None:
    """Cap the queue; the look at the memory is put off."""
    limits = ("queue_bytes", str(queue_bytes), "looked_at_ms", str(site.now))
    await execute(site.functions.client, "HSET", "voltage:limits", *limits)


async def test_at_its_cap_the_queue_drops_the_oldest_and_counts_them(site: Site) -> None:
    await cap(site, 5000)
    for number in range(60):
        await site.put({1: number, 2: number})
    ledger = await check_balance(site)
    assert ledger["stored"] == ledger["queued"] == 120
    assert ledger["dropped:queue_full"] > 0
    size = await site.hash("hissrv:queue:size")
    assert int(size["bytes"]) <= 5000
    newest = (await site.entries("hissrv:queue"))[-1]
    assert '"59.000000"' in newest["d"]
    events = await site.entries("voltage:events")
    assert [event["what"] for event in events] == ["history_queue_full"]
    assert int(events[0]["at_ms"]) == site.now


async def test_many_small_entries_make_room_for_large_ones(site: Site) -> None:
    for number in range(200):
        await site.put({1: number})
    size = await site.hash("hissrv:queue:size")
    await cap(site, int(size["bytes"]))
    await site.put(dict.fromkeys(range(1, 301), 7))
    size = await site.hash("hissrv:queue:size")
    assert int(size["bytes"]) <= int((await site.hash("voltage:limits"))["queue_bytes"])
    assert int(size["entries"]) > 1
    await check_balance(site)


async def test_what_is_written_and_what_is_dropped_meanwhile_are_counted_once(site: Site) -> None:
    for number in range(10):
        await site.put({1: number})
    collect = {"consumer": "h1", "limit": 5, "now_ms": site.now}
    batch, *_ = await execute(site.functions.client, "FCALL", "batch_collect", 0, orjson.dumps(collect))
    await cap(site, 600)
    for number in range(10):
        await site.put({1: number})
    await site.functions.call("batch_acknowledge", batch.decode(), {"now_ms": site.now})
    ledger = await check_balance(site)
    assert ledger["queued"] == 20
    assert ledger["dropped:queue_full"] > 0


async def test_the_queue_may_take_a_quarter_of_the_memory(site: Site) -> None:
    await execute(site.functions.client, "CONFIG", "SET", "maxmemory", str(64 * 1024 * 1024))
    try:
        await site.pass_ms(20_000)
        assert (await site.hash("voltage:limits"))["queue_bytes"] == str(16 * 1024 * 1024)
    finally:
        await execute(site.functions.client, "CONFIG", "SET", "maxmemory", "0")


async def test_a_queue_that_fills_up_is_an_alarm(site: Site) -> None:
    client = site.functions.client
    await execute(client, "HSET", "hissrv:queue:size", "bytes", str(250 * 1024 * 1024))
    for _ in range(2):
        await site.pass_ms(10_000)
    (alarm,) = await site.system_alarms()
    assert (alarm["source"], alarm["status"], alarm["count"]) == ("system:history_queue", "New", 1)
    await execute(client, "HSET", "hissrv:queue:size", "bytes", "0")
    await site.pass_ms(10_000)
    assert [a["status"] for a in await site.system_alarms()] == ["Returned"]


async def test_polling_alarms_and_commands_go_on_when_the_memory_is_full(site: Site) -> None:
    rule = {
        "name": "high", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 10}],
        "actions": [{"type": "create_alarm", "params": {"title": "high"}}],
    }  # fmt: skip
    await site.functions.call("rule_upsert", "r1", rule)
    client = site.functions.client
    await execute(client, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        await site.put({1: 50})
        await site.functions.call("command_submit", 1001, {"type": "A", "point": 1, "value": 1, "now_ms": site.now})
    finally:
        await execute(client, "CONFIG", "SET", "maxmemory", "0")
    assert len(await site.members("alarmsrv:alarms:active")) == 1
    assert await execute(client, "ZCARD", "comsrv:1001:queued") == 1


async def test_each_channel_has_counters_of_its_own(site: Site) -> None:
    """What is counted for a channel is counted in total; a deleted channel stays in the total."""
    rejected = {"timeout": 2}
    await site.put({1: 5, 2: 6}, counters={"polled": 5, "unchanged": 1, "rejected": rejected})
    own = await site.hash("comsrv:1001:ledger")
    expected = {"polled": "5", "stored": "2", "unchanged": "1", "rejected:timeout": "2", "queued": "2"}
    assert own == expected
    assert expected.items() <= (await site.hash("voltage:ledger")).items()
    await site.functions.call("channel_delete", 1001)
    assert await site.hash("comsrv:1001:ledger") == {}
    assert (await site.hash("voltage:ledger"))["polled"] == "5"
