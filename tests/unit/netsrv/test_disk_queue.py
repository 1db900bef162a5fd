"""The disk queue: in order, once, bounded, and still there after a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.errors import UnavailableError
from services.netsrv.disk_queue import ROW_BYTES, DiskQueue
from services.netsrv.router import ANSWERS, Message

PAYLOAD = b"x" * (1000 - ROW_BYTES - 1)


def message(number: int, **more: int) -> Message:
    """Return a message of a thousand bytes on disk."""
    return Message("r", "t", PAYLOAD, number, **more)


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[DiskQueue]:
    """Give an open queue of ten messages' size."""
    made = DiskQueue(tmp_path / "cloud.db", 10_000)
    await made.open()
    yield made
    await made.close()


async def waiting(queue: DiskQueue) -> list[int]:
    """Return the instants of what waits, in the order of sending."""
    return [stored.message.at_ms for stored in await queue.peek(100)]


def broken(folder: Path) -> list[Path]:
    """Return the files that were put aside."""
    return list(folder.glob("cloud.broken-*"))


async def test_an_entry_is_taken_once(queue: DiskQueue) -> None:
    """The same entries again (a lost acknowledgement) change nothing; new ones among them count."""
    await queue.take([((1, 0), [message(1)]), ((1, 1), [message(2), message(3)])])
    await queue.take([((1, 1), [message(2), message(3)]), ((2, 0), [message(4)])])
    assert await waiting(queue) == [1, 2, 3, 4]


async def test_it_outlives_the_process(queue: DiskQueue, tmp_path: Path) -> None:
    """What another process finds: messages, counters, size, identity."""
    await queue.take([((1, 0), [message(1), message(2)])])
    await queue.sent([stored.id for stored in await queue.peek(1)])
    again = DiskQueue(tmp_path / "cloud.db", 10_000)
    await again.open()
    assert (await waiting(again), again.counters(), again.name) == ([2], {"sent": 1}, queue.name)
    assert await again.size() == (1, 1000, 2, 0)
    await again.close()


async def test_at_the_cap_the_oldest_go(queue: DiskQueue) -> None:
    """They are counted; answers to commands go first and stay longest."""
    await queue.put([message(number) for number in range(8)])
    await queue.put([message(100, lane=ANSWERS), *(message(number) for number in range(8, 15))])
    assert await waiting(queue) == [100, *range(6, 15)]
    assert queue.counters() == {"dropped:queue_full": 6}
    assert (await queue.size()).bytes == 10_000
    for start in range(1000, 3000, 100):
        await queue.put([message(number) for number in range(start, start + 100)])
    assert queue.path.stat().st_size < 400_000


async def test_dead_letters(queue: DiskQueue) -> None:
    """They are kept with their reason, within a tenth of the cap, and can be queued again."""
    await queue.put([message(1), message(2)])
    for stored in await queue.peek(2):
        await queue.dead_letter(stored.id, "HTTP 400")
    (letter,) = await queue.dead_letters(10, None)
    assert (letter["at_ms"], letter["reason"]) == (2, "HTTP 400")
    assert queue.counters() == {"dead_lettered": 2, "dropped:dead_letters_full": 1}
    assert (await waiting(queue), await queue.retry_dead(), await waiting(queue)) == ([], 1, [2])
    assert await queue.size() == (1, 1000, 2, 0)


async def test_commands_that_wait(queue: DiskQueue) -> None:
    """A command and what is said about it are one step, so that a kill leaves neither alone."""
    await queue.ask("c1", 99, [message(1, lane=ANSWERS)])
    assert await queue.asked() == [("c1", 99)]
    await queue.answer("c1", [message(2, lane=ANSWERS)])
    assert (await queue.asked(), await waiting(queue)) == ([], [1, 2])


async def test_a_broken_file_is_put_aside(tmp_path: Path) -> None:
    """The service goes on with a new one; the broken one stays for who can read it."""
    (tmp_path / "cloud.db").write_bytes(b"no database at all" * 1000)
    queue = DiskQueue(tmp_path / "cloud.db", 10_000)
    await queue.open()
    await queue.put([message(1)])
    assert await waiting(queue) == [1]
    assert len(broken(tmp_path)) == 1
    await queue.close()


async def test_a_disk_that_is_away(queue: DiskQueue) -> None:
    """A refused write changes nothing, in the file and in what is counted."""
    queue._db.execute("PRAGMA query_only=1")
    with pytest.raises(UnavailableError, match="attempt to write a readonly database"):
        await queue.take([((1, 0), [message(1)])])
    queue._db.execute("PRAGMA query_only=0")
    assert (await waiting(queue), await queue.size(), queue.counters()) == ([], (0, 0, None, 0), {})
