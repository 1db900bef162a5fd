"""Networks and routes: what may be stored, and who reads the queue because of it."""

from __future__ import annotations

from typing import Any

import pytest

from libs.definitions import said_of
from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions

NETWORK = {"type": "mqtt", "host": "127.0.0.1"}
ROUTE = {"network": "cloud", "source": "comsrv:1001:*"}


async def keyspace(functions: Functions) -> dict[bytes, bytes]:
    """Return every key as Redis dumps it."""
    names = await execute(functions.client, "KEYS", "*")
    return {name: await execute(functions.client, "DUMP", name) for name in names}


async def groups(functions: Functions) -> list[str]:
    """Return the groups at the queue."""
    status = await functions.read_json("get_batch_status", None)
    return [group["name"] for group in status["groups"]]


async def fill(functions: Functions, count: int) -> None:
    """Queue documents as core/history.lua does."""
    for number in range(count):
        await execute(
            functions.client, "XADD", "hissrv:queue", "*",
            "i", number + 1, "c", "1001", "n", 2, "b", 100, "d", f'{{"number":{number}}}',
        )  # fmt: skip
        for field, amount in (("entries", 1), ("bytes", 100), ("samples", 2)):
            await execute(functions.client, "HINCRBY", "hissrv:queue:size", field, amount)
    await execute(functions.client, "HINCRBY", "voltage:ledger", "queued", count * 2)


async def store_takes_all(functions: Functions) -> None:
    """Collect and acknowledge as hissrv does, until nothing is new."""
    while True:
        reply: Any = await functions.call("batch_collect", None, {"consumer": "store"})
        if not reply[0]:
            return
        await functions.call("batch_acknowledge", reply[0].decode())


async def claim(functions: Functions, **options: Any) -> tuple[str, list[str]]:
    """Claim as netsrv does."""
    reply: Any = await functions.call("forward_claim", None, options)
    return reply[0].decode(), [entry[0].decode() for entry in reply[3]]


async def test_documents_are_kept_as_they_came(functions: Functions) -> None:
    stored = await functions.json("network_upsert", "cloud", NETWORK)
    assert stored == await functions.read_json("network_get", "cloud")
    assert said_of(stored) == {"id": "cloud", **NETWORK}
    route = await functions.json("route_upsert", "r1", ROUTE)
    assert said_of(route) == {"id": "r1", **ROUTE}
    assert await functions.read_json("route_list", None, {"network": "cloud"}) == {
        "items": [route],
        "cursor": None,
    }
    assert (await functions.read_json("route_list", None, {"network": "other"}))["items"] == []
    with pytest.raises(StateError, match="route r1 uses network cloud"):
        await functions.call("network_delete", "cloud")
    assert await functions.json("route_delete", "r1") == {"deleted": "r1"}
    assert await functions.json("network_delete", "cloud") == {"deleted": "cloud"}
    for name in ("network_get", "network_delete", "route_get", "route_delete"):
        with pytest.raises(NotFoundError):
            await functions.call(name, "cloud")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "carrier pigeon"}, "type must be one of mqtt, http"),
        ({"type": "mqtt"}, "host is missing"),
        ({**NETWORK, "password": "x"}, "password is unknown"),
        ({**NETWORK, "port": 0}, "port must be an integer from 1 to 65535"),
        ({**NETWORK, "url": "http://a"}, "url is unknown"),
        ({"type": "http", "url": "ftp://a"}, "url must start with http"),
        ({"type": "http", "url": "https://ann:secret@host/"}, "no password"),
        ({**NETWORK, "secret": "a b"}, "secret"),
    ],
)
async def test_a_wrong_network_changes_nothing(functions: Functions, document: dict[str, Any], said: str) -> None:
    await functions.call("network_upsert", "cloud", NETWORK)
    before = await keyspace(functions)
    with pytest.raises(InvalidError, match=said):
        await functions.call("network_upsert", "cloud", document)
    assert await keyspace(functions) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "comsrv:1001 T"}, "source must be a pattern"),
        ({"target": "site/{value}"}, r"target: \{value\} is no field"),
        ({"formatter": "ascii"}, "ascii needs a template"),
        ({"formatter": "ascii", "template": "{nonsense}={value}"}, r"template: \{nonsense\} is no field"),
        ({"template": {"v": "{value.real}"}}, r"template.v: \{value.real\} is no field"),
        ({"template": {"w": "{__class__}"}}, r"template.w: \{__class__\} is no field"),
        ({"trigger": "interval"}, "needs interval_ms"),
        ({"qos": 2}, "qos must be one of 0, 1"),
        ({"colour": "red"}, "colour is unknown"),
    ],
)
async def test_a_wrong_route_changes_nothing(functions: Functions, change: dict[str, Any], said: str) -> None:
    await functions.call("network_upsert", "cloud", NETWORK)
    before = await keyspace(functions)
    with pytest.raises(InvalidError, match=said):
        await functions.call("route_upsert", "r1", {**ROUTE, **change})
    with pytest.raises(NotFoundError, match="network other"):
        await functions.call("route_upsert", "r1", {**ROUTE, "network": "other"})
    assert await keyspace(functions) == before


async def test_the_group_stands_while_a_route_wants_changes(functions: Functions) -> None:
    """Only an enabled route on change, of an enabled network, makes the queue wait for netsrv."""
    await functions.call("network_upsert", "cloud", NETWORK)
    await functions.call("route_upsert", "r1", {**ROUTE, "trigger": "interval", "interval_ms": 1000})
    assert await groups(functions) == []
    await functions.call("route_upsert", "r1", ROUTE)
    assert await groups(functions) == ["hissrv", "netsrv"]
    await functions.call("network_upsert", "cloud", {**NETWORK, "enabled": False})
    assert await groups(functions) == ["hissrv"]
    await functions.call("network_upsert", "cloud", NETWORK)
    assert await groups(functions) == ["hissrv", "netsrv"]
    await functions.call("route_upsert", "r1", {**ROUTE, "enabled": False})
    assert await groups(functions) == ["hissrv"]


async def test_an_entry_waits_for_store_and_netsrv(functions: Functions) -> None:
    """Whoever comes last takes it out; what was there before the route is not forwarded."""
    await fill(functions, 1)
    await functions.call("network_upsert", "cloud", NETWORK)
    await functions.call("route_upsert", "r1", ROUTE)
    await fill(functions, 3)
    await store_takes_all(functions)
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 3
    batch, entries = await claim(functions, limit=2)
    assert len(entries) == 2
    assert await claim(functions, limit=2) != (batch, entries)
    with pytest.raises(NotFoundError, match="of netsrv"):
        await functions.call("forward_complete", "1-1")
    for _ in range(2):
        done = await functions.json("forward_complete", batch)
        assert (done["status"], done["group"]) == ("written", "netsrv")
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 1
    batch, _ = await claim(functions)
    await functions.call("forward_complete", batch)
    assert await execute(functions.client, "HGET", "voltage:ledger", "written") == b"8"


async def test_what_the_mappings_left_out(functions: Functions) -> None:
    """It is counted once, whichever group is the last to acknowledge."""
    await functions.call("network_upsert", "cloud", NETWORK)
    await functions.call("route_upsert", "r1", ROUTE)
    await fill(functions, 3)
    reply: Any = await functions.call("batch_collect", None, {"consumer": "store"})
    await functions.call("batch_acknowledge", reply[0].decode(), {"filtered": 4})
    batch, _ = await claim(functions)
    await functions.call("forward_complete", batch)
    counted = await execute(functions.client, "HMGET", "voltage:ledger", "written", "dropped:mapping", "queued")
    assert counted == [b"2", b"4", b"6"]
    assert await execute(functions.client, "HGET", "hissrv:queue:size", "filtered") is None


async def test_the_queue_drains_when_the_last_route_goes(functions: Functions) -> None:
    """What only netsrv still waited for leaves with the next collect, and is counted once."""
    await functions.call("network_upsert", "cloud", NETWORK)
    await functions.call("route_upsert", "r1", ROUTE)
    await fill(functions, 5)
    await claim(functions, limit=2)
    await store_takes_all(functions)
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 5
    await functions.call("route_delete", "r1")
    assert await claim(functions) == ("", [])
    await store_takes_all(functions)
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 0
    assert await execute(functions.client, "HGET", "voltage:ledger", "written") == b"10"
    size = await functions.read_json("get_batch_status", None)
    assert (size["entries"], size["samples"], size["bytes"]) == (0, 0, 0)


async def test_the_token_is_new_at_each_change(functions: Functions) -> None:
    seen = set()
    for name, key, document in (
        ("network_upsert", "cloud", NETWORK),
        ("route_upsert", "r1", ROUTE),
        ("route_upsert", "r1", {**ROUTE, "description": "another"}),
        ("template_upsert", "t1", {"name": "t", "class": "load", "data_points": {}, "actions": {}}),
    ):
        await functions.call(name, key, document)
        reply: Any = await functions.call("forward_claim", None, {})
        seen.add(reply[2])
    assert len(seen) >= 3
