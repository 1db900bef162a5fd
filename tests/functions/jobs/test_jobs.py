"""Jobs: claimed once at a time, by priority then age, taken back when their holder goes silent."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError, StateError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.site import START, keyspace


@pytest.fixture
async def queue(functions: Functions) -> Functions:
    """Give functions whose clock stands at START."""
    await execute(functions.client, "HSET", "voltage:clock", "simulation", "1", "last", str(START))
    return functions


async def submit(functions: Functions, name: str = "a", **options: Any) -> dict[str, Any]:
    job: dict[str, Any] = await functions.json("job_submit", "q", options, {"name": name})
    return job


async def claim(functions: Functions, owner: str = "w1", **options: Any) -> Any:
    return await functions.json("job_claim", "q", {"owner": owner, "lease_ms": 1000, **options})


async def test_life_of_a_job(queue: Functions) -> None:
    text = b'{"from":"-1d", "rows":[]}'
    await queue.call("job_submit", "q", {"kind": "csv"}, text)
    taken = await claim(queue)
    assert (taken["id"], taken["state"], taken["fence"], taken["attempts"]) == ("q-1", "running", 1, 1)
    assert await claim(queue) is None
    moved = await queue.json(
        "job_progress", "q-1", {"fence": 1, "progress": 0.5, "message": "half", "now_ms": START + 900}
    )
    assert (moved["progress"], moved["message"], moved["lease_until_ms"]) == (0.5, "half", START + 1900)
    done = await queue.call("job_complete", "q-1", {"fence": 1}, b'{"file":  "a.csv"}')
    assert b'"input":' + text in done
    assert b'"result":{"file":  "a.csv"}' in done
    assert await queue.call("job_complete", "q-1", {"fence": 1}, b"{}") == done, "twice is a repeat"
    assert await queue.read("job_get", "q-1") == done
    assert 3_590_000 < await execute(queue.client, "PTTL", "voltage:job:q-1") <= 3_600_000, "the result expires"
    left = {name for name in await keyspace(queue) if name.startswith(b"voltage:job")}
    assert left == {b"voltage:job:q-1", b"voltage:jobs:q:number"}


async def test_priority_then_age(queue: Functions) -> None:
    for name, priority in (("a", 50), ("b", 90), ("c", 50), ("d", 0)):
        await submit(queue, name, priority=priority)
    assert [(await claim(queue))["input"]["name"] for _ in range(4)] == ["b", "a", "c", "d"]


async def test_the_same_input_is_the_same_job_until_it_is_finished(queue: Functions) -> None:
    first = await submit(queue)
    before = await keyspace(queue)
    assert await submit(queue) == {**first, "duplicate": True}
    assert await keyspace(queue) == before
    assert (await submit(queue, kind="other"))["id"] == "q-2"
    assert (await submit(queue, dedupe=False))["id"] == "q-3"
    await claim(queue)
    assert (await submit(queue))["id"] == "q-1", "also while it runs"
    await queue.call("job_complete", "q-1", {"fence": 1})
    assert (await submit(queue))["id"] == "q-4"


async def test_not_before(queue: Functions) -> None:
    assert (await submit(queue, not_before_ms=START + 100))["state"] == "delayed"
    assert await claim(queue) is None
    assert (await claim(queue, now_ms=START + 100))["id"] == "q-1"


async def test_a_lapsed_lease_is_taken_over_and_its_holder_refused(queue: Functions) -> None:
    await submit(queue)
    await claim(queue)
    assert await claim(queue, "w2", now_ms=START + 999) is None
    assert await queue.json("job_reap", "q", {"now_ms": START + 1000}) == {"reaped": 1, "failed": 0}
    taken = await claim(queue, "w2")
    assert (taken["owner"], taken["fence"], taken["attempts"]) == ("w2", 2, 2)
    before = await keyspace(queue)
    for name, document in (
        ("job_progress", {"fence": 1, "progress": 1}),
        ("job_complete", {"fence": 1}),
        ("job_fail", {"fence": 1, "error": "x"}),
    ):
        with pytest.raises(ConflictError):
            await queue.call(name, "q-1", document)
    assert await keyspace(queue) == before
    assert (await queue.json("job_complete", "q-1", {"fence": 2}))["state"] == "done"


async def test_attempts_are_used_up(queue: Functions) -> None:
    await submit(queue, max_attempts=3)
    await claim(queue)
    failed = await queue.json("job_fail", "q-1", {"fence": 1, "error": "disk full"})
    assert (failed["state"], failed["error"], failed["not_before_ms"]) == ("delayed", "disk full", START + 1000)
    await claim(queue, now_ms=START + 1000)
    failed = await queue.json("job_fail", "q-1", {"fence": 2, "error": "disk full"})
    assert failed["not_before_ms"] == START + 3000, "doubled at each attempt"
    await claim(queue, now_ms=START + 3000)
    assert await queue.json("job_reap", "q", {"now_ms": START + 4000}) == {"reaped": 1, "failed": 1}
    last = await queue.read_json("job_get", "q-1")
    assert (last["state"], last["error"]) == ("failed", "the lease of w1 ran out")
    assert await claim(queue) is None
    assert (await submit(queue))["id"] == "q-2", "a finished job is no duplicate"
    await claim(queue)
    assert (await queue.json("job_fail", "q-2", {"fence": 1, "error": "bad input", "retry": False}))[
        "state"
    ] == "failed"


REFUSALS: tuple[tuple[str, str, tuple[Any, ...], type[VoltageError]], ...] = (
    ("job_submit", "a:b", ({},), InvalidError),
    ("job_submit", "q" * 49, ({},), InvalidError),
    ("job_submit", "q", ({"priority": 101},), InvalidError),
    ("job_submit", "q", ({"kind": 5},), InvalidError),
    ("job_submit", "q", ({}, "no json"), InvalidError),
    ("job_submit", "q", ({}, '{"x":"' + "x" * 65536 + '"}'), LimitError),
    ("job_claim", "q", ({},), InvalidError),
    ("job_claim", "q", ({"owner": "w", "lease_ms": 0},), InvalidError),
    ("job_progress", "q-1", ({"progress": 0.5},), InvalidError),
    ("job_progress", "q-1", ({"fence": 1, "progress": 1.5},), InvalidError),
    ("job_progress", "q-2", ({"fence": 1, "progress": 0.5},), StateError),
    ("job_progress", "q-9", ({"fence": 1, "progress": 0.5},), NotFoundError),
    ("job_complete", "q-2", ({"fence": 1},), StateError),
    ("job_complete", "q-9", ({"fence": 1},), NotFoundError),
    ("job_complete", "q-1", ({"fence": 1}, "[1"), InvalidError),
    ("job_complete", "q-1", ({"fence": 1}, '{"x":"' + "x" * 65536 + '"}'), LimitError),
    ("job_fail", "q-1", ({"fence": 1},), InvalidError),
    ("job_fail", "q-2", ({"fence": 1, "error": "x"},), StateError),
    ("job_fail", "q-9", ({"fence": 1, "error": "x"},), NotFoundError),
    ("job_reap", "q", ({"limit": 0},), InvalidError),
    ("job_get", "q-9", (), NotFoundError),
)


@pytest.mark.parametrize(("name", "key", "arguments", "error"), REFUSALS)
async def test_a_refusal_changes_nothing(
    queue: Functions, name: str, key: str, arguments: tuple[Any, ...], error: type[VoltageError]
) -> None:
    await submit(queue, "a")
    await submit(queue, "b")
    await claim(queue)
    before = await keyspace(queue)
    with pytest.raises(error):
        await queue.call(name, key, *arguments)
    assert await keyspace(queue) == before


async def test_a_queue_is_bounded(queue: Functions) -> None:
    for number in range(1000):
        await submit(queue, f"n{number}", not_before_ms=START + number % 2)
    with pytest.raises(LimitError):
        await submit(queue, "one more")


async def test_listed_newest_first(queue: Functions) -> None:
    for name in "abc":
        await submit(queue, name)
    page = await queue.read_json("job_list", "q", {"limit": 2})
    assert [job["id"] for job in page["items"]] == ["q-3", "q-2"]
    rest = await queue.read_json("job_list", "q", {"limit": 2, "cursor": int(page["cursor"])})
    assert ([job["id"] for job in rest["items"]], rest["cursor"]) == (["q-1"], None)
    assert (await queue.read_json("job_list", "none", {}))["items"] == []


async def test_cancelled(queue: Functions) -> None:
    """One that waits is never claimed, one that runs is told at its next progress; done work can't be cancelled."""
    for name in "ab":
        await submit(queue, name)
    running = await claim(queue)
    for number in (1, 2):
        job = await queue.json("job_cancel", f"q-{number}", {"by": "ann"})
        assert (job["state"], job["error"]) == ("failed", "cancelled by ann")
        assert await queue.json("job_cancel", f"q-{number}", {"by": "bob"}) == job, "twice is a repeat"
    with pytest.raises(StateError, match="is failed"):
        await queue.call("job_progress", "q-1", {"fence": running["fence"], "progress": 0.5})
    assert await claim(queue) is None
    assert (await submit(queue, "a")).get("duplicate") is None, "the same work may be asked for again"
    done = await claim(queue)
    await queue.call("job_complete", done["id"], {"fence": done["fence"]})
    with pytest.raises(StateError, match="is done"):
        await queue.call("job_cancel", done["id"], {"by": "ann"})
    with pytest.raises(NotFoundError):
        await queue.call("job_cancel", "q-9", {"by": "ann"})
