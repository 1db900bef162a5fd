"""What is copied of the files, while they are written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from libs.redis.queue import EntryId
from services.backup import collect
from services.hissrv.store.contract import Entry, Part, Query
from services.hissrv.store.embedded import EmbeddedStore

HOUR = 3_600_000
SERIES = "comsrv:1001:T:1"


def entry(number: int, at_ms: int) -> Entry:
    return Entry(EntryId(number, 0), [Part(at_ms, [SERIES], np.array([float(number)]), None)])


async def test_history_is_copied_open_rows_and_parquet(tmp_path: Path):
    store = EmbeddedStore(tmp_path / "history", window_ms=1000)
    await store.open()
    try:
        await store.write([entry(1, 1000), entry(2, 2000)])
        await store.maintain(10**15)  # Far ahead: the window closes and becomes Parquet.
        await store.write([entry(3, 3000)])
        sources = collect.history(tmp_path / "history", tmp_path / "stage")
        assert sum(one.name.endswith(".parquet") for one in sources) == 1
        # What comes afterwards is not in the copy, and the copied files stay when the store drops its own.
        await store.write([entry(4, 4000)])
    finally:
        await store.close()
    for path in (tmp_path / "history" / "parquet").glob("*.parquet"):
        path.unlink()
    copy = tmp_path / "copy"
    for one in sources:
        target = copy / one.name.removeprefix("history/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(one.path.read_bytes())
    restored = EmbeddedStore(copy)
    await restored.open()
    try:
        query = Query(series=[SERIES], start_ms=0, end_ms=HOUR, now_ms=HOUR, limit=100)
        points = (await restored.query(query))[SERIES]
        assert [(point.at_ms, point.value) for point in points] == [(1000, 1), (2000, 2), (3000, 3)]
        # An entry that Redis still queued at the instant of the backup is no second sample.
        assert (await restored.write([entry(3, 3000)])).repeated == 1
    finally:
        await restored.close()


def test_databases_are_copied_while_open_and_what_a_process_holds_stays_behind(tmp_path: Path):
    data = tmp_path / "data"
    for folder in ("redis", "logs", "comsrv", "history"):
        (data / folder).mkdir(parents=True)
    for name in ("redis/password", "logs/up.log", "comsrv/0.owner", "comsrv/0.sent", "token.key", "voltage.lock"):
        (data / name).write_text("x")
    database = sqlite3.connect(data / "gateway.db", isolation_level=None)
    try:
        database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE users(name); INSERT INTO users VALUES ('anna')")
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO users VALUES ('not yet')")
        sources = collect.data(data, tmp_path / "stage", without=[data / "history"])
    finally:
        database.close()
    assert {one.name for one in sources} == {"data/comsrv/0.sent", "data/gateway.db", "data/token.key"}
    copy = sqlite3.connect(next(one.path for one in sources if one.name == "data/gateway.db"))
    assert copy.execute("SELECT name FROM users").fetchall() == [("anna",)]
    copy.close()
