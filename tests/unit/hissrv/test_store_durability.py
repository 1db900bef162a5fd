"""The embedded store keeps each sample once: killed at any point, written twice, opened twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from libs import clock
from libs.errors import UnavailableError
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Entry, Part, Query
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.window import REMEMBER_MS

SERIES = [f"comsrv:1001:T:{number}" for number in range(1, 6)]

# Runs compaction or a merge up to a step, then dies as by a power cut. argv: folder, step.
CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from services.hissrv.store.compact import Compactor
from services.hissrv.store.embedded import EmbeddedStore

async def main(folder, step):
    store = EmbeddedStore(Path(folder))
    await store.open()
    window = store.window
    compactor = Compactor(Path(folder) / "open.sqlite", Path(folder) / "parquet")
    what, _, until = step.partition("-")
    if what == "window":
        window.close_due(0, force=True)
        number = window.closed_windows()[0]
        files, remove = compactor.write_window(number), []
    else:
        number, remove = None, [file.name for file in window.files()]
        files = [compactor.write_merged(window.files())]
    if until != "written":
        compactor.publish(files)
    if until == "switched":
        window.switch(add=files, remove=remove, window=number)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
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


@pytest.mark.parametrize(
    "step",
    ["window-written", "window-published", "window-switched", "merge-written", "merge-published", "merge-switched"],
)
async def test_killed_in_compaction(tmp_path: Path, step: str) -> None:
    """Kill -9 after each step of compacting or merging loses and doubles nothing, and the next run ends the work."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    for first in (0, 10):
        await store.write(entries(first, 10))
        if step.startswith("merge"):
            store.window.close_due(0, force=True)
            await store.maintain(0)
    await store.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), step, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await child.communicate()
    assert child.returncode == -signal.SIGKILL, errors.decode()

    store = EmbeddedStore(tmp_path)
    await store.open()
    expected = {ref: [float(number) for number in range(20)] for ref in SERIES}
    assert await values(store) == expected
    store.window.close_due(0, force=True)
    await store.maintain(10 * 86_400_000)
    assert await values(store) == expected
    assert (await store.write(entries(0, 20))) == (0, 20, []), "a redelivery after compaction is known"
    assert [one.point.value for one in await store.latest(None, limit=10)] == [19.0] * 5
    status = await store.status()
    assert (status.files, status.open_points) == (1, 0)
    assert sorted(path.name for path in (tmp_path / "parquet").iterdir()) == [store.window.files()[0].name]
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
