"""The journal: chained, on disk, whole after a kill, and tampering shows."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import hashlib
import io
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis

from libs.redis import client, library
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.app import create_app
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.journal import Archiver, Journal, Wanted
from services.alarmsrv.settings import AlarmsrvSettings
from tests.support.servers import BINARIES, RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

STREAM = "alarmsrv:journal"


async def happen(functions: Functions, *names: str) -> None:
    """Raise and acknowledge alarms by hand: two entries each."""
    for name in names:
        await functions.call("store_alarm", name, {"title": f"{name} é\x1f", "level": "Minor", "by": "anna"})
        await functions.call("acknowledge_alarm", name, "ben", "", f"seen {name}")


@pytest.fixture
def journal(functions: Functions, tmp_path: Path) -> Journal:
    return Journal(functions, Archive(tmp_path / "journal"))


async def moved(journal: Journal, keep: int = 0) -> None:
    """Move to disk what is there now."""
    archiver = Archiver(journal, keep, 3)
    await archiver.look()
    await archiver.look()


async def reason(journal: Journal) -> str:
    found = await journal.verify()
    assert found.broken is not None
    return f"{found.broken.number}: {found.broken.reason}"


async def test_each_entry_carries_the_hash_of_the_one_before(functions: Functions, journal: Journal) -> None:
    """SHA-1 over names and values joined by the unit separator, as a stranger would compute it."""
    await happen(functions, "a", "b")
    previous = ""
    for number, (_, fields) in enumerate(await execute(functions.client, "XRANGE", STREAM, "-", "+"), 1):
        assert (fields[b"number"].decode(), fields[b"previous"].decode()) == (str(number), previous)
        previous = hashlib.sha1(
            b"\x1f".join(part for pair in fields.items() for part in pair), usedforsecurity=False
        ).hexdigest()
    head = await execute(functions.client, "HMGET", "alarmsrv:journal:head", "number", "hash")
    assert head == [b"4", previous.encode()]
    found = await journal.verify()
    assert (found.entries, found.last, found.head, found.broken) == (4, 4, previous, None)


async def test_what_leaves_redis_is_on_disk_once_and_in_order(functions: Functions, journal: Journal) -> None:
    """Pages, filters and the chain go over both places; a second archiver writes nothing twice."""
    await happen(functions, "a", "b")
    await moved(journal)
    assert await execute(functions.client, "XLEN", STREAM) == 0
    await happen(functions, "c")
    await moved(Journal(functions, Archive(journal.archive.folder)), keep=1)
    await happen(functions, "d")
    journal = Journal(functions, Archive(journal.archive.folder))
    numbers, cursor = [], None
    while True:
        page = await journal.page(Wanted(), 3, cursor)
        numbers += [item["number"] for item in page["items"]]
        if (cursor := page["cursor"]) is None:
            break
    assert numbers == list(range(8, 0, -1))
    page = await journal.page(Wanted({"alarm": "a", "user": "ben"}), 10, None)
    assert [(item["event"], item["comment"]) for item in page["items"]] == [("acknowledged", "seen a")]
    found = await journal.verify()
    assert (found.entries, found.on_disk, found.broken) == (8, 6, None)


async def test_tampering_is_found_and_named(functions: Functions, journal: Journal) -> None:
    """In a file, in Redis, at the end, and by taking an entry away."""
    await happen(functions, "a", "b")
    await moved(journal, keep=2)
    (file,) = journal.archive.files()
    good = file.read_bytes()
    file.write_bytes(good.replace(b"seen a", b"seen z"))
    assert "entry 2 has the hash" in await reason(journal)
    lines = good.splitlines(keepends=True)
    file.write_bytes(lines[0] + b"".join(lines[2:]))
    assert (await reason(journal)).startswith("2: 2 missing before journal-")
    file.write_bytes(b"".join(lines[1:]))
    assert (await reason(journal)).startswith("1: 1 missing before")
    file.write_bytes(good[:-4] + b"\n")
    assert "no entry of the journal" in await reason(journal)
    file.write_bytes(good.replace(b'"number":"4"', b'"number":"4","more":""'))
    assert (await reason(journal)).startswith("4: journal-")
    file.write_bytes(good)
    await happen(functions, "c")
    assert (await journal.verify()).broken is None
    (entry_id, fields) = (await execute(functions.client, "XREVRANGE", STREAM, "+", "-", "COUNT", "1"))[0]
    await execute(functions.client, "XDEL", STREAM, entry_id)
    assert "head says 6 entries" in await reason(journal)
    fields[b"user"] = b"mallory"
    await execute(functions.client, "XADD", STREAM, "*", *[part for pair in fields.items() for part in pair])
    assert "it was changed" in await reason(journal)


async def test_a_walk_beside_writers_finds_no_break(functions: Functions, journal: Journal) -> None:
    """What is written, and moved to disk, while the walk goes on is the next walk's."""
    await happen(functions, *(f"a{n}" for n in range(40)))
    await moved(journal, keep=5)

    async def write() -> None:
        for number in range(40):
            await happen(functions, f"b{number}")
            await moved(Journal(functions, Archive(journal.archive.folder)), keep=200)

    writing = asyncio.create_task(write())
    walks = []
    while not writing.done():
        walks.append(await journal.verify())
    await writing
    assert [walk.broken for walk in walks if walk.broken] == []
    assert len({walk.last for walk in walks}) > 1


async def test_a_half_line_that_a_kill_left_is_written_again(functions: Functions, journal: Journal) -> None:
    await happen(functions, "a", "b")
    await moved(journal, keep=10)
    (file,) = journal.archive.files()
    file.write_bytes(file.read_bytes()[:-30])
    again = Journal(functions, Archive(journal.archive.folder))
    await moved(again)
    assert len(file.read_bytes().splitlines()) == 4
    assert (await again.verify()).broken is None


async def written(gate: Redis) -> bool:
    """Say whether all that the server took is in its file."""
    return (await gate.info("persistence"))["aof_buffer_length"] == 0


@pytest.mark.parametrize("kind", sorted(BINARIES))
async def test_the_chain_goes_on_after_kills(kind: str, tmp_path: Path) -> None:
    """Redis is killed with -9 again and again; what the files have and Redis lost stays, and the chain holds."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(kind, tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "everysec")
    archive = Archive(tmp_path / "journal")
    try:
        for round_ in range(3):
            gate = client.connect(server.url)
            await library.load(gate)
            journal = Journal(Functions(gate), Archive(archive.folder))
            await Archiver(journal, 3, 3).resume()
            await happen(journal_functions := Functions(gate), *(f"r{round_}-{n}" for n in range(5)))
            await moved(journal, keep=3)
            await happen(journal_functions, f"r{round_}-late")
            # While the disk is busy the server keeps up to two seconds in memory; what is counted here is the chain.
            await wait_until(partial(written, gate), "the server's log is written")
            await gate.aclose()
            server.kill()
            server.start()
        gate = client.connect(server.url)
        found = await Journal(Functions(gate), Archive(archive.folder)).verify()
        # Eighteen alarms with two entries each, and one that says that they are a flood.
        assert (found.entries, found.on_disk, found.broken) == (37, 35, None)
        # Redis comes back without anything, as after a lost disk: the chain goes on from the files' end.
        await execute(gate, "FLUSHALL")
        journal = Journal(Functions(gate), Archive(archive.folder))
        await Archiver(journal, 0, 3).resume()
        await happen(Functions(gate), "after")
        await moved(journal)
        found = await journal.verify()
        assert (found.entries, found.last, found.broken) == (37, 37, None)
        await gate.aclose()
    finally:
        server.stop()


async def test_retention_stops_at_a_day_with_an_open_alarm(functions: Functions, journal: Journal) -> None:
    """What went was whole: the chain begins at the first day that is left."""
    await happen(functions, "a", "b")
    await moved(journal)
    (file,) = journal.archive.files()
    lines = file.read_bytes().splitlines(keepends=True)
    file.unlink()
    for day, line in enumerate(lines, 1):
        entry = orjson.loads(line)
        at = dt.datetime(2020, 1, day, tzinfo=dt.UTC).timestamp() * 1000
        entry["id"] = f"{at:.0f}-0"
        (journal.archive.folder / f"journal-2020-01-{day:02}.jsonl").write_bytes(orjson.dumps(entry) + b"\n")
    archive = Archive(journal.archive.folder)
    assert archive.retire(dt.date(2021, 1, 1), frozenset({"a"})) == []
    assert len(archive.retire(dt.date(2021, 1, 1), frozenset({"b"}))) == 2
    found = await Journal(functions, archive).verify()
    assert (found.first, found.entries, found.broken) == (3, 2, None)


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    del functions
    settings = AlarmsrvSettings.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    )
    async with running(create_app, settings) as started:
        yield started


async def test_routes_of_the_journal(service: Service, functions: Functions) -> None:
    """Filters by user and time, a CSV that runs no formula, and the walk over the chain."""
    await happen(functions, "a")
    await functions.call("resolve_alarm", "a", "=cmd()", "", 'done, "really"\nok')
    items = (await service.get("/api/alarms/journal?user=ben")).body["items"]
    assert [(item["number"], item["event"]) for item in items] == [(2, "acknowledged")]
    assert (await service.get("/api/alarms/journal?end=-1h")).body == {"items": [], "cursor": None}
    assert (await service.get("/api/alarms/journal?cursor=x")).status == 422
    headers = {"Authorization": f"Bearer {next(iter(service.tokens.values()))}"}
    async with service.client.get("/api/alarms/journal/export?alarm=a", headers=headers) as answer:
        assert answer.content_type == "text/csv"
        rows = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
    assert [row["event"] for row in rows] == ["raised", "acknowledged", "resolved"]
    assert (rows[2]["user"], rows[2]["comment"]) == ("'=cmd()", 'done, "really"\nok')
    verified = (await service.get("/api/alarms/journal/verify")).body
    assert (verified["whole"], verified["entries"], verified["broken"]) == (True, 3, None)
