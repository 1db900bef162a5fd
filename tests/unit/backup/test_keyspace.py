"""The keys of a namespace: there and back, of each type, and what must not come back to life."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.errors import InvalidError, StateError
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from services.backup import keyspace, settle
from services.backup.archive import Manifest
from tests.support.site import Site
from tests.support.site import keyspace as content


def nothing(_: int) -> None:
    """Show no progress."""


async def test_all_keys_come_back_as_they_were(functions: Functions, tmp_path: Path):
    site = await Site(functions).start()
    await site.put({1: 1.5, 2: 2.5}, {3: "bad:sentinel"})
    await execute(functions.client, "SET", "somebody:else", "1")
    await execute(functions.client, "SET", "voltage:job:1", "x", "PX", 600_000)
    taken = await keyspace.take(functions.client, "")
    before = await content(functions)
    keyspace.write_keys(tmp_path / "keys", taken.keys)
    await execute(functions.client, "FLUSHDB")
    await keyspace.put(functions.client, "", keyspace.read_keys(tmp_path / "keys"), nothing)
    after = await content(functions)
    # What is not of this site stays where it is.
    del before[b"somebody:else"]
    assert after == before
    assert 0 < await execute(functions.client, "PTTL", "voltage:job:1") <= 600_000
    assert taken.image > 0


async def test_a_namespace_is_copied_alone(redis: Client):
    await execute(redis, "SET", "{a}:voltage:image", "7")
    await execute(redis, "SET", "{b}:voltage:image", "8")
    taken = await keyspace.take(redis, "a")
    assert [one.name for one in taken.keys] == [b"voltage:image"]
    assert taken.image == 7
    with pytest.raises(StateError, match="holds nothing"):
        await keyspace.take(redis, "c")


async def test_a_key_of_a_newer_server_is_refused_with_the_remedy(redis: Client):
    # The last ten bytes are the version of the format and a checksum.
    await execute(redis, "SET", "voltage:image", "7")
    (one,) = (await keyspace.take(redis, "")).keys
    newer = one._replace(content=one.content[:-10] + b"\xff\x7f" + one.content[-8:])
    await execute(redis, "FLUSHDB")
    with pytest.raises(InvalidError, match="VOLTAGE_REDIS_SERVER"):
        await keyspace.put(redis, "", [newer], nothing)


async def test_a_restored_site_has_no_lease_no_selection_and_no_command_that_waits(
    functions: Functions, tmp_path: Path
):
    site = await Site(functions).start()
    await site.put({1: 1.5})
    for number in range(45):
        await functions.call(
            "command_submit", 1001, {"id": f"c{number}", "type": "A", "point": 1, "value": 1, "ttl_ms": 600_000}
        )
    await functions.call("command_select", 1001, {"type": "A", "point": 2, "user": "anna", "ttl_ms": 60_000})
    taken = await keyspace.take(functions.client, "")
    await execute(functions.client, "FLUSHDB")
    await keyspace.put(functions.client, "", taken.keys, nothing)
    manifest = Manifest(
        format=1, voltage="1", api=1, digest="d", schema_number=1, server="", namespace="", at_ms=taken.at_ms,
        image=taken.image, image_after=taken.image, copied_at_ms=0, keys=len(taken.keys), members=[],
    )  # fmt: skip
    assert await settle.settle(functions, manifest, tmp_path) >= 45
    assert await site.hash("comsrv:1001:selected") == {}
    status = await functions.read_json("comsrv_status", 1001)
    assert status["state"] == "stale"
    assert (await site.hash("comsrv:1001:T:q"))["1"] == "bad:stale"
    page = await functions.read_json("command_list", None, {"limit": 100})
    assert {one["state"] for one in page["items"]} == {"expired"}
    claimed = await functions.json("channel_claim", 1001, {"owner": "next", "interval_ms": 1000, "now_ms": site.now})
    assert await functions.json("command_claim", 1001, {"epoch": claimed["epoch"], "now_ms": site.now}) == []
