"""Keys of an older version come up to this one, in order, each step once; keys of a newer one are left alone."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest

from libs.clock import now_ms
from libs.errors import StateError
from libs.redis import keys, library, migrations
from libs.redis.client import Client, execute
from tests.support.audit import strangers

# As version 1 wrote them.
VERSION_1 = (
    ("SET", "voltage:schema", "1"),
    ("SET", "voltage:image", "41"),
    ("HSET", "comsrv:1001:T", "1", "1.500000"),
    ("HSET", "comsrv:1001:T:ts", "1", "1700000000000"),
)


def test_the_steps_lead_from_the_first_schema_to_this_one():
    numbers = [migrations.FIRST, *(step.schema for step in migrations.MIGRATIONS)]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    assert numbers[-1] == keys.SCHEMA


@pytest.mark.parametrize("prefix", ["", "{plant7}:"])
async def test_keys_of_version_1_are_migrated_and_the_record_says_so(redis: Client, prefix: str):
    for command, key, *rest in VERSION_1:
        await execute(redis, command, prefix + key, *rest)
    namespace = prefix.strip("{}:")
    with pytest.raises(StateError, match="schema 1, this is schema 5; run: voltage functions load"):
        await library.check(redis, namespace)
    await library.load(redis, namespace)
    await library.check(redis, namespace)
    assert await execute(redis, "GET", prefix + "voltage:schema") == str(keys.SCHEMA).encode()
    record = await execute(redis, "HGETALL", prefix + "voltage:migrations")
    assert orjson.loads(record[b"1"])["name"] == "as first written"
    assert orjson.loads(record[b"2"])["at_ms"] > 1_700_000_000_000
    assert await execute(redis, "HGET", prefix + "comsrv:1001:T", "1") == b"1.500000"
    assert await strangers(redis) == []
    # Once is once.
    assert await migrations.migrate(redis, namespace) == []
    assert await execute(redis, "HGETALL", prefix + "voltage:migrations") == record


async def test_a_step_that_was_cut_short_is_done_again(redis: Client):
    await execute(redis, "SET", "voltage:schema", "1")
    await migrations.MIGRATIONS[0].run(redis, "")
    assert (await migrations.migrate(redis))[0] == "2: migrations are recorded"


async def test_alarms_of_version_2_are_listed_by_status(redis: Client):
    await execute(redis, "SET", "voltage:schema", "2")
    for alarm, status, created in (("a", "New", 1), ("b", "Resolved", 2), ("c", "New", 3)):
        record = {"id": alarm, "status": status, "level": "Major", "source": "manual", "created_at_ms": created}
        await redis.hset(f"alarmsrv:alarm:{alarm}", mapping=record)
        await redis.zadd("alarmsrv:alarms:all", {alarm: created})
        await redis.sadd(f"alarmsrv:alarms:by_status:{status}", alarm)
        await redis.sadd("alarmsrv:alarms:by_level:Major", alarm)
    # What the new functions wrote meanwhile is there already.
    await redis.zadd("alarmsrv:alarms:in:New", {"c": 3})
    assert await library.load(redis)
    page = orjson.loads(await execute(redis, "FCALL_RO", "query_alarms", 0, '{"status":"New"}'))
    assert [alarm["id"] for alarm in page["items"]] == ["c", "a"]
    assert await strangers(redis) == []


async def test_alarms_of_version_3_are_found_by_area_and_counted(redis: Client):
    await execute(redis, "SET", "voltage:schema", "3")
    more = {"a": {"area": "Hall 1", "shelved_by": "anna"}, "b": {"equipment": "pump", "area": "Hall 1"}, "c": {}}
    for created, (alarm, fields) in enumerate(more.items()):
        status = "Resolved" if alarm == "b" else "New"
        record = {"id": alarm, "status": status, "level": "Major", "source": "manual", "created_at_ms": created}
        await redis.hset(f"alarmsrv:alarm:{alarm}", mapping=record | fields)
        await redis.zadd(f"alarmsrv:alarms:in:{status}", {alarm: created})
        await redis.sadd("alarmsrv:alarms:by_level:Major", alarm)
        if status == "New":
            await redis.sadd("alarmsrv:alarms:active", alarm)
    assert await library.load(redis)
    for query, found in (
        ({"area": "Hall 1"}, ["b", "a"]), ({"equipment": "pump"}, ["b"]), ({"shelved": True}, ["a"]),
    ):  # fmt: skip
        page = orjson.loads(await execute(redis, "FCALL_RO", "query_alarms", 0, orjson.dumps(query)))
        assert [alarm["id"] for alarm in page["items"]] == found
    assert await execute(redis, "HGET", "alarmsrv:alarms:counts", "Major") == b"2"
    assert await strangers(redis) == []


async def test_definitions_of_version_4_keep_what_they_said(redis: Client):
    """One whose alarm stands goes on standing: no second alarm, and it returns when its point does."""
    assert await library.load(redis)
    hot = {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 90, "level": "Major", "message": "hot"}
    await execute(redis, "FCALL", "alarm_define", 1, "hot", orjson.dumps(hot))
    epoch = orjson.loads(await execute(redis, "FCALL", "channel_claim", 1, "1001", '{"owner":"a"}'))["epoch"]

    async def polled(seq: int, value: str) -> None:
        section = {"type": "T", "ids": ["1"], "values": [value]}
        document = {"epoch": epoch, "seq": seq, "block": "b", "at_ms": now_ms(), "sections": [section]}
        await execute(redis, "FCALL", "comsrv_ingest", 1, "1001", orjson.dumps(document))

    await polled(1, "95.000000")
    assert await execute(redis, "HGETALL", "alarmsrv:conditions") == {b"hot": b"11"}
    # As version 4 had it, for whom nothing was read yet.
    await execute(redis, "DEL", "alarmsrv:conditions")
    await redis.hset("alarmsrv:definition:hot:state", mapping={"truth": "1", "active": "1"})
    await execute(redis, "SET", "voltage:schema", "4")
    assert await library.load(redis)
    assert await execute(redis, "EXISTS", "alarmsrv:definition:hot:state") == 0
    await polled(2, "96.000000")
    await polled(3, "50.000000")
    journal = [fields[b"event"] for _, fields in await execute(redis, "XRANGE", "alarmsrv:journal", "-", "+")]
    assert journal == [b"raised", b"returned"]
    assert await strangers(redis) == []


async def test_new_keys_need_no_migration(redis: Client):
    await execute(redis, "FLUSHALL")
    assert await migrations.migrate(redis) == []
    assert await execute(redis, "GET", "voltage:schema") == str(keys.SCHEMA).encode()
    assert await execute(redis, "EXISTS", "voltage:migrations") == 0


async def test_keys_of_a_newer_version_keep_their_functions(redis: Client):
    other = '#!lua name=voltage\nredis.register_function{function_name="newer", callback=function() return 1 end}\n'
    await execute(redis, "FUNCTION", "LOAD", "REPLACE", other)
    await execute(redis, "SET", "voltage:schema", "99")
    try:
        with pytest.raises(StateError, match="newer than"):
            await library.load(redis)
        assert await execute(redis, "FCALL", "newer", 0) == 1
    finally:
        await execute(redis, "DEL", "voltage:schema")
        await library.load(redis)
