"""The embedded store keeps each sample once: killed at any point, written twice, opened twice."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from libs import clock
from libs.errors import UnavailableError
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Entry, Part, Query
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.window import REMEMBER_MS

SERIES = [f"comsrv:1001:T:{number}" for number in range(1, 6)]

# Maintains copies of a store, and dies as by a power cut at the first step, the second, ... until one run ends.
# A step is each file opened for writing, renamed or removed, and each transaction of the catalog, before and after.
# argv: folder, folder of the copies, instant.
CHILD = """
import asyncio, itertools, os, shutil, signal, sys
from pathlib import Path
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.window import Window

left = None

def step(*_):
    global left
    if left is not None:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    opened = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
    if opened or event in {"os.rename", "os.remove"}:
        step()

def around(method):
    def run(*arguments, **more):
        step()
        done = method(*arguments, **more)
        step()
        return done
    return run

async def maintain(folder, now_ms, number):
    global left
    store = EmbeddedStore(folder)
    await store.open()
    store.window.close_due(0, force=True)
    left = number
    await store.maintain(now_ms)
    left = None
    await store.close()

source, target, now_ms = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
Window.switch = around(Window.switch)
sys.addaudithook(audit)
for number in itertools.count():
    folder = target / str(number)
    shutil.copytree(source, folder)
    pid = os.fork()
    if pid == 0:
        asyncio.run(maintain(folder, now_ms, number))
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(number)
        break
"""


def entries(first: int, count: int) -> list[Entry]:
    """Return entries of one sample a series each, at one instant a millisecond."""
    return [
        Entry(EntryId(1, number), [Part(1000 + number, SERIES, np.full(len(SERIES), float(number)))])
        for number in range(first, first + count)
    ]


async def values(store: EmbeddedStore) -> dict[str, list[float | None]]:
    """Return all raw values by series."""
    answer = await store.query(Query(SERIES, 0, 10_000, 10_000))
    return {ref: [point.value for point in points] for ref, points in answer.items()}


async def test_killed_at_each_step(tmp_path: Path) -> None:
    """Kill -9 at each step of compacting, merging and making tiers loses and doubles nothing; the next run ends it."""
    day = tmp_path / "store"
    store = EmbeddedStore(day)
    await store.open()
    await store.write(entries(0, 10))
    store.window.close_due(0, force=True)
    await store.maintain(DAY_MS * 3)
    await store.write(entries(10, 5))
    store.window.close_due(0, force=True)
    await store.maintain(0)
    await store.write(entries(15, 5))
    late = [Entry(EntryId(3, 0), [Part(40 * DAY_MS, SERIES, np.zeros(5))])]
    await store.write(late)
    await store.close()
    now_ms = DAY_MS * 80
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(day), str(tmp_path / "copies"), str(now_ms),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await child.communicate()
    assert child.returncode == 0, errors.decode()
    steps = int(output)
    assert steps > 20
    expected = {ref: [float(number) for number in range(20)] for ref in SERIES}
    for number in range(steps + 1):
        folder = tmp_path / "copies" / str(number)
        store = EmbeddedStore(folder)
        await store.open()
        assert await values(store) == expected, f"killed at step {number}"
        await store.maintain(now_ms)
        assert await values(store) == expected, f"killed at step {number}, then maintained"
        assert (await store.write(entries(0, 20))) == (0, 20, []), "a redelivery after compaction is known"
        newest = await store.latest(None, limit=10)
        assert [(one.point.at_ms, one.point.value) for one in newest] == [(40 * DAY_MS, 0.0)] * 5
        status = await store.status()
        assert (status.files, status.open_points) == (2, 0)
        known = {file.name for file in store.window.files()}
        assert {path.name for path in (folder / "parquet").iterdir()} == known
        assert {path.name for path in (folder / "tiers").iterdir()} == set(store.window.tier_files())
        manifest = json.loads((folder / "manifest.json").read_text())
        assert {file["name"] for file in manifest["files"]} == {f"parquet/{name}" for name in known}
        await store.close()


async def test_redelivery_in_one_write(tmp_path: Path) -> None:
    """An entry counts once, in the same write or a later one, until the queue can't bring it again."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    assert await store.write(entries(0, 3) + entries(1, 3)) == (20, 2, [])
    assert await store.write(entries(2, 3), forget_before=EntryId(1, 3)) == (5, 2, [])
    assert await store.write(entries(0, 1)) == (0, 1, []), "known for an hour: a Redis may lose its last seconds"
    store.window.write([], EntryId(1, 3), clock.now_ms() + REMEMBER_MS + 60_000)
    assert await store.write(entries(0, 5)) == (15, 2, [])
    await store.close()


async def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """A write that fails halfway takes none of its entries, and the store goes on."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    bad = Entry(EntryId(2, 0), [Part(1, ["comsrv:1:T:1"], np.zeros(2))])
    with pytest.raises(ValueError, match="entry 2-0"):
        await store.write([*entries(0, 2), bad])
    assert await store.latest(None, limit=10) == []
    assert await store.write(entries(0, 2)) == (10, 0, [])
    await store.close()


async def test_two_processes(tmp_path: Path) -> None:
    """The folder's second opener is refused; a closed store is unavailable, not wrong."""
    store, second = EmbeddedStore(tmp_path), EmbeddedStore(tmp_path)
    await store.open()
    with pytest.raises(UnavailableError, match="in use"):
        await second.open()
    await second.close()
    await store.close()
    with pytest.raises(UnavailableError, match="not open"):
        await store.query(Query(SERIES, 0, 1, 1))


async def test_full_disk(tmp_path: Path) -> None:
    """On a disk fuller than allowed nothing is written."""
    store = EmbeddedStore(tmp_path, max_disk_percent=0)
    await store.open()
    with pytest.raises(UnavailableError, match="disk"):
        await store.write(entries(0, 1))
    await store.close()


async def test_window_limits(tmp_path: Path) -> None:
    """A window closes by points; many qualities fit their byte."""
    store = EmbeddedStore(tmp_path, window_points=10)
    await store.open()
    for number in range(4):
        await store.write(entries(number, 1))
    assert store.window.closed_windows() == [1, 2]
    reasons = [f"bad:exception_{number}" for number in range(300)] + ["uncertain:x"]
    refs = [f"comsrv:2:T:{number}" for number in range(1, 302)]
    await store.write([Entry(EntryId(9, 9), [Part(5000, refs, np.full(301, np.nan), reasons)])])
    newest = {one.series: one.point for one in await store.latest(refs, limit=400)}
    assert newest["comsrv:2:T:5"].reason == "bad:exception_4"
    assert newest["comsrv:2:T:300"] == (5000, None, 0, "bad:other", 1.0)
    assert newest["comsrv:2:T:301"].reason == "uncertain:other"
    await store.close()
