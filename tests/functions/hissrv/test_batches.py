"""Batches: every entry reaches every group, and the ledger counts each sample once."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions

LEDGER = "voltage:ledger"
SIZE = "hissrv:queue:size"


async def fill(functions: Functions, count: int, samples: int = 2) -> None:
    """Queue documents as core/history.lua does."""
    for number in range(count):
        document = f'{{"number":{number}}}'
        await execute(
            functions.client, "XADD", functions.key("hissrv:queue"), "*",
            "i", number + 1, "c", "1001", "n", samples, "b", len(document) + 96, "d", document,
        )  # fmt: skip
        for field, amount in (("entries", 1), ("bytes", len(document) + 96), ("samples", samples)):
            await execute(functions.client, "HINCRBY", functions.key(SIZE), field, amount)
    await execute(functions.client, "HINCRBY", functions.key(LEDGER), "queued", count * samples)


async def collect(functions: Functions, consumer: str = "one", **options: object) -> tuple[str, list[str]]:
    """Collect a batch; return its id and its entries' ids."""
    reply = await functions.call("batch_collect", None, {"consumer": consumer, **options})
    return reply[0].decode(), [entry[0].decode() for entry in reply[3]]  # type: ignore[attr-defined]


async def counters(functions: Functions, key: str = LEDGER) -> dict[str, int]:
    """Return a hash of counters without its zeros and texts."""
    found = await execute(functions.client, "HGETALL", functions.key(key))
    return {name.decode(): int(value) for name, value in found.items() if value.isdigit() and int(value)}


async def balance(functions: Functions) -> None:
    """The ledger's promise: queued = written + dead-lettered + dropped + pending."""
    ledger, size = await counters(functions), await counters(functions, SIZE)
    dropped = sum(amount for name, amount in ledger.items() if name.startswith("dropped"))
    assert ledger["queued"] == sum(
        (ledger.get("written", 0), ledger.get("dead_lettered", 0), dropped, size.get("samples", 0))
    )
    assert size.get("entries", 0) == await execute(functions.client, "XLEN", functions.key("hissrv:queue"))


async def test_collect_acknowledge(functions: Functions) -> None:
    """A batch is taken, acknowledged, gone; again is a repeat without effect."""
    assert await collect(functions) == ("", [])
    await fill(functions, 3)
    batch, entries = await collect(functions, limit=2, now_ms=1000)
    assert len(entries) == 2
    status = await functions.read_json("get_batch_status", batch)
    assert status == {
        "id": batch, "status": "collected", "group": "hissrv", "consumer": "one", "entries": 2, "samples": 4,
        "bytes": status["bytes"], "failed": 0, "created_at_ms": 1000, "done_at_ms": None,
    }  # fmt: skip
    for _ in range(2):
        done = await functions.json("batch_acknowledge", batch, {"filtered": 1, "now_ms": 2000})
        assert (done["status"], done["done_at_ms"]) == ("written", 2000)
        assert await counters(functions) == {"queued": 6, "written": 3, "dropped:mapping": 1}
    await balance(functions)
    queue = await functions.read_json("get_batch_status", None)
    assert queue["groups"] == [{"name": "hissrv", "consumers": 1, "pending": 0, "lag": 1}]
    assert (queue["entries"], queue["samples"], queue["dead_letters"]) == (1, 2, 0)
    with pytest.raises(StateError, match="was acknowledged"):
        await functions.call("batch_fail", batch, {"reason": "late"})


async def test_refused_samples(functions: Functions) -> None:
    """Samples the store refused are dead letters, counted once; one that is written later counts as written."""
    await fill(functions, 2)
    batch, entries = await collect(functions)
    letter = {"entry": entries[0], "channel": "1001", "reason": "type conflict", "document": "{}"}
    for wrong in ({**letter, "reason": 5}, {"entry": "1-1"}, "text"):
        with pytest.raises(InvalidError, match=r"letters\[0\]"):
            await functions.call("batch_acknowledge", batch, {"refused": 1, "letters": [wrong]})
    for _ in range(2):
        await functions.call("batch_acknowledge", batch, {"refused": 1, "letters": [letter]})
        assert await counters(functions) == {"queued": 4, "written": 3, "dead_lettered": 1}
    await balance(functions)
    ((found, _),) = await execute(functions.client, "XRANGE", functions.key("hissrv:dead_letters"), "-", "+")
    assert await functions.json("dead_letter_resolve", None, {"id": found.decode()}) == {
        "id": found.decode(), "samples": 1,
    }  # fmt: skip
    assert await counters(functions) == {"queued": 4, "written": 4}
    with pytest.raises(NotFoundError):
        await functions.call("dead_letter_resolve", None, {"id": found.decode()})
    with pytest.raises(InvalidError):
        await functions.call("dead_letter_resolve", None, {"id": "x"})


async def test_document_is_untouched(functions: Functions) -> None:
    """A msgpack document arrives byte for byte."""
    document = bytes(range(256))
    await execute(functions.client, "XADD", "hissrv:queue", "*", "i", 1, "c", "7", "n", 1, "b", 300, "d", document)
    reply = await functions.call("batch_collect", None, {"consumer": "one"})
    assert reply[3][0][1] == [b"i", b"1", b"c", b"7", b"n", b"1", b"b", b"300", b"d", document]  # type: ignore[index]


async def test_own_and_abandoned_entries_come_again(functions: Functions) -> None:
    """What a consumer left comes back to it at once, and to others when it was idle."""
    await fill(functions, 3)
    _, entries = await collect(functions, "dead", limit=2)
    assert (await collect(functions, "dead", limit=1))[1] == entries[:1]
    assert (await collect(functions, "alive", limit=10))[1] != entries, "not idle yet: only the third"
    assert sorted((await collect(functions, "alive", limit=10, idle_ms=0))[1])[:2] == entries
    batch, taken = await collect(functions, "alive", limit=10)
    assert len(taken) == 3
    await functions.call("batch_acknowledge", batch)
    assert await collect(functions, "dead", idle_ms=0) == ("", [])
    await balance(functions)


async def test_two_groups(functions: Functions) -> None:
    """An entry goes when both groups acknowledged it, whoever is first, and counts as what the store said."""
    await fill(functions, 4)
    net, entries = await collect(functions, "n", group="netsrv", limit=3)
    assert (await functions.json("batch_acknowledge", net))["status"] == "written"
    assert (await counters(functions, SIZE))["entries"] == 4, "the store has seen none of them"
    batch, _ = await collect(functions, limit=4)
    await functions.call("batch_fail", batch, {"entries": {entries[0]: "bad"}})
    rest = await functions.json("batch_acknowledge", batch)
    assert (rest["status"], rest["failed"]) == ("written", 1)
    assert await counters(functions) == {"queued": 8, "written": 4, "dead_lettered": 2}
    await balance(functions)
    net, entries = await collect(functions, "n", group="netsrv")
    assert len(entries) == 1
    await functions.call("batch_acknowledge", net)
    assert await counters(functions) == {"queued": 8, "written": 6, "dead_lettered": 2}
    await balance(functions)


async def test_dead_letter_waits_for_the_other_group(functions: Functions) -> None:
    """An entry the store gave up stays for the network, and counts as dead-lettered when it goes."""
    await fill(functions, 1)
    net, _ = await collect(functions, "n", group="netsrv")
    batch, _ = await collect(functions)
    await functions.call("batch_fail", batch, {"reason": "no document"})
    assert await counters(functions) == {"queued": 2}
    await balance(functions)
    await functions.call("batch_acknowledge", net)
    assert await counters(functions) == {"queued": 2, "dead_lettered": 2}
    assert await execute(functions.client, "EXISTS", "hissrv:queue:failed") == 0
    await balance(functions)


async def test_dead_letters(functions: Functions) -> None:
    """A dead letter keeps entry, reason and document; the refusals change nothing."""
    await fill(functions, 2)
    batch, entries = await collect(functions)
    with pytest.raises(InvalidError, match="reason or entries"):
        await functions.call("batch_fail", batch, {})
    with pytest.raises(InvalidError, match="not of batch"):
        await functions.call("batch_fail", batch, {"entries": {entries[0]: "bad", "1-1": "bad"}})
    assert await execute(functions.client, "XLEN", "hissrv:dead_letters") == 0
    status = await functions.json("batch_fail", batch, {"reason": "no JSON", "now_ms": 5})
    assert (status["status"], status["failed"]) == ("failed", 2)
    letters = await execute(functions.client, "XRANGE", "hissrv:dead_letters", "-", "+")
    assert letters[0][1] == {
        b"entry": entries[0].encode(), b"group": b"hissrv", b"reason": b"no JSON", b"at_ms": b"5", b"image": b"1",
        b"channel": b"1001", b"samples": b"2", b"document": b'{"number":0}',
    }  # fmt: skip
    assert await counters(functions) == {"queued": 4, "dead_lettered": 4}
    await balance(functions)
    with pytest.raises(StateError, match="dead-lettered"):
        await functions.call("batch_acknowledge", batch)


async def test_entry_dropped_on_its_way(functions: Functions) -> None:
    """An entry that the cap dropped while a batch held it is not counted twice."""
    await fill(functions, 2)
    batch, entries = await collect(functions)
    await execute(functions.client, "XDEL", "hissrv:queue", entries[0])
    for field, amount in (("entries", 1), ("samples", 2), ("bytes", 108)):
        await execute(functions.client, "HINCRBY", SIZE, field, -amount)
    await execute(functions.client, "HINCRBY", LEDGER, "dropped:queue_full", 2)
    assert (await collect(functions))[1] == entries[1:], "taken again, without the dropped one"
    await functions.call("batch_acknowledge", batch)
    assert await counters(functions) == {"queued": 4, "written": 2, "dropped:queue_full": 2}
    await balance(functions)


@pytest.mark.parametrize(
    ("document", "error"),
    [({}, "consumer"), ({"consumer": "a:b"}, "consumer"), ({"consumer": "a", "limit": 1001}, "limit")],
)
async def test_bad_collect(functions: Functions, document: dict[str, object], error: str) -> None:
    """A wrong field is named."""
    with pytest.raises(InvalidError, match=error):
        await functions.call("batch_collect", None, document)


async def test_unknown_batch(functions: Functions) -> None:
    """A batch nobody collected is NOTFOUND, in every namespace on its own."""
    for name in ("batch_acknowledge", "batch_fail"):
        with pytest.raises(NotFoundError):
            await functions.call(name, "1-1", {"reason": "x"})
    plant = Functions(functions.client, "plant7")
    await fill(plant, 1)
    batch, _ = await collect(plant)
    with pytest.raises(NotFoundError):
        await functions.read("get_batch_status", batch)
    await plant.call("batch_acknowledge", batch)
    await balance(plant)


steps = st.lists(
    st.sampled_from(["fill", "collect hissrv a", "collect hissrv b", "collect netsrv n", "ack", "fail", "fail one"]),
    max_size=30,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_any_sequence_balances(functions: Functions, steps: list[str]) -> None:
    """Whatever the order of calls, the ledger balances and at the end the queue is empty."""
    await execute(functions.client, "FLUSHALL")
    open_batches: list[tuple[str, list[str]]] = []
    await fill(functions, 1)
    for step in [*steps, "collect hissrv a", "ack", "collect netsrv n", "ack"]:
        words = step.split()
        if words[0] == "fill":
            await fill(functions, 2)
        elif words[0] == "collect":
            batch, entries = await collect(functions, words[2], group=words[1], limit=3, idle_ms=0)
            if batch:
                open_batches.append((batch, entries))
        elif open_batches:
            batch, entries = open_batches.pop()
            if step == "ack":
                await functions.call("batch_acknowledge", batch)
            elif step == "fail":
                await functions.call("batch_fail", batch, {"reason": "why"})
            else:
                await functions.call("batch_fail", batch, {"entries": {entries[0]: "why"}})
        await balance(functions)
    for group in ("hissrv", "netsrv") * 40:
        batch, _ = await collect(functions, "end", group=group, idle_ms=0)
        if batch:
            await functions.call("batch_acknowledge", batch)
    await balance(functions)
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 0


async def by_store(functions: Functions, pending: int) -> dict[str, dict[str, int]]:
    """Return each store's counters; each must account for what was queued since it joined."""
    queued, found = (await counters(functions))["queued"], {}
    for store in ("embedded", "server"):
        own = await counters(functions, f"hissrv:ledger:{store}")
        own.pop("since_ms", None)
        if own:
            assert queued - own.pop("before", 0) - pending == sum(own.values()), (store, own)
        found[store] = own
    return found


async def test_two_stores_have_counters_of_their_own(functions: Functions) -> None:
    """What one refused the other has; a store that joins later accounts for what comes after it."""
    await fill(functions, 1)
    batch, _ = await collect(functions)
    await functions.call("batch_acknowledge", batch, {"stores": {"embedded": 0}})
    await fill(functions, 2)
    # A reader of its own holds the entries: what the store said waits until they leave.
    await collect(functions, group="netsrv")
    other = (await collect(functions, group="netsrv"))[0]
    batch, entries = await collect(functions, limit=2)
    letter = {"entry": entries[0], "channel": "1", "reason": "conflict", "document": "{}", "stores": "server"}
    stores = {"embedded": 0, "server": 1}
    document = {"filtered": 1, "refused": 1, "letters": [letter], "stores": stores}
    await functions.call("batch_acknowledge", batch, document)
    assert await by_store(functions, pending=4) == {"embedded": {"written": 2}, "server": {}}
    await functions.call("batch_acknowledge", other)
    assert await by_store(functions, pending=0) == {
        "embedded": {"written": 5, "dropped:mapping": 1},
        "server": {"written": 2, "dead_lettered": 1, "dropped:mapping": 1},
    }
    await balance(functions)
    ((found, _),) = await execute(functions.client, "XRANGE", functions.key("hissrv:dead_letters"), "-", "+")
    await functions.call("dead_letter_resolve", None, {"id": found.decode()})
    assert (await by_store(functions, 0))["server"] == {"written": 3, "dropped:mapping": 1}
    assert (await by_store(functions, 0))["embedded"]["written"] == 5
    # One that was left out for a while does not answer for what left the queue meanwhile.
    await execute(functions.client, "XGROUP", "DESTROY", functions.key("hissrv:queue"), "netsrv")
    for stores in ({"embedded": 0}, {"embedded": 0, "server": 0}):
        await fill(functions, 1)
        batch, _ = await collect(functions)
        await functions.call("batch_acknowledge", batch, {"stores": stores})
    assert {name: own["written"] for name, own in (await by_store(functions, 0)).items()} == {
        "embedded": 9, "server": 5,
    }  # fmt: skip
    with pytest.raises(InvalidError, match="stores"):
        await functions.call("batch_acknowledge", batch, {"stores": {"no name": 0}})
