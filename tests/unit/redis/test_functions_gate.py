"""The gate to Redis Functions: errors become ours, and a write is never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.errors import InvalidError, NotFoundError, StateError, UnavailableError
from libs.redis import client, library
from libs.redis.client import Client, execute
from libs.redis.functions import Functions, encode


async def test_a_code_becomes_its_error_without_the_code(functions: Functions) -> None:
    with pytest.raises(NotFoundError, match=r"^rule r9$"):
        await functions.read("rule_get", "r9")
    with pytest.raises(InvalidError, match="is unknown"):
        await functions.call("rule_upsert", "r1", {"name": "x", "conditions": [], "colour": "red"})


async def test_a_missing_library_says_what_to_do(redis: Client, functions: Functions) -> None:
    await execute(redis, "FUNCTION", "FLUSH")
    try:
        assert await library.version(redis) is None
        with pytest.raises(UnavailableError, match="voltage functions load"):
            await functions.call("voltage_tick", None)
        with pytest.raises(StateError, match="voltage functions load"):
            await library.check(redis)
    finally:
        await library.load(redis)
    assert (await library.check(redis)).digest == (await library.load(redis)).digest


async def test_keys_of_a_newer_version_are_refused(redis: Client) -> None:
    await execute(redis, "SET", "voltage:schema", "99")
    for refuse in (library.load, library.check):
        with pytest.raises(StateError, match="schema 99, newer than"):
            await refuse(redis)


async def test_redis_away_is_unavailable(tmp_path: Path) -> None:
    connection = client.connect(f"unix://{tmp_path}/nobody.sock")
    functions = Functions(connection)
    for ask in (functions.call, functions.read, functions.durable):
        with pytest.raises(UnavailableError, match="Redis is away"):
            await ask("voltage_tick", None)
    await connection.aclose()


@asynccontextmanager
async def server(path: Path, reply: Callable[[int], bytes | None]) -> AsyncIterator[list[int]]:
    """Speak just enough RESP to count calls of functions; no reply cuts the connection."""
    calls: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if b"FCALL" in data:
                calls.append(len(calls) + 1)
                answer = reply(len(calls))
                if answer is None:
                    break
                writer.write(answer)
            else:
                writer.write(b"%0\r\n" if b"HELLO" in data else b"+OK\r\n" * max(1, data.count(b"CLIENT")))
        writer.close()

    listener = await asyncio.start_unix_server(serve, path)
    try:
        yield calls
    finally:
        listener.close()
        await listener.wait_closed()


async def test_a_write_whose_reply_is_lost_is_not_sent_again(tmp_path: Path) -> None:
    async with server(tmp_path / "s", lambda _: None) as calls:
        connection = client.connect(f"unix://{tmp_path}/s")
        with pytest.raises(UnavailableError):
            await Functions(connection).call("rule_upsert", "r1", {})
        assert calls == [1]
        await connection.aclose()


async def test_a_read_whose_reply_is_lost_is_tried_again(tmp_path: Path) -> None:
    async with server(tmp_path / "s", lambda number: None if number < 3 else b"$2\r\n{}\r\n") as calls:
        connection = client.connect(f"unix://{tmp_path}/s")
        assert await Functions(connection).read_json("rule_list", None) == {}
        assert calls == [1, 2, 3]
        await connection.aclose()


async def test_a_namespace_stands_before_every_key(redis: Client) -> None:
    plant = Functions(redis, "plant7")
    assert plant.key("comsrv:1001:T") == "{plant7}:comsrv:1001:T"
    await plant.call("rule_upsert", "r1", {
        "name": "x", "conditions": [{"source": "comsrv:1:T:1", "operator": ">", "value": 1}],
    })  # fmt: skip
    assert await execute(redis, "EXISTS", "{plant7}:rulesrv:rule:r1") == 1


def test_documents_become_json_and_the_rest_stays() -> None:
    assert encode({"a": [1, None]}) == b'{"a":[1,null]}'
    assert encode([1]) == b"[1]"
    assert encode(b"\x81") == b"\x81"
    assert encode("true") == "true"
    assert encode(5) == "5"
