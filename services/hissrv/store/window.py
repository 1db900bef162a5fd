"""The open window: SQLite rows of what is not in Parquet yet, and the catalog of what is.

One row is one instant of one queue entry: series numbers, values and quality
numbers as arrays. Appending such rows takes millions of points a second where a
row a point takes tens of thousands. The series numbers stand in the row itself:
only changed points arrive, so nearly every row names another set of series, and
a table of the sets would outgrow the rows.

WAL with synchronous=FULL: hissrv acknowledges a queue entry after the commit and
Redis then deletes the only other copy, so a commit has to survive a power cut.
Batches keep that to a few fsyncs a second.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.redis.queue import EntryId
from services.hissrv.store.catalog import File, Tier
from services.hissrv.store.contract import Entry, Samples, Written

FORMAT: Final = 3
MAX_REASONS: Final = 250
# A Redis that crashed may bring back entries whose deletion it lost: ids are known at least this long.
REMEMBER_MS: Final = 3_600_000
_FROM_1: Final = """
ALTER TABLE rows ADD COLUMN image INTEGER NOT NULL DEFAULT 0;
ALTER TABLE latest ADD COLUMN image INTEGER NOT NULL DEFAULT 0;
"""
_TIERS_OF: Final = """
CREATE TABLE IF NOT EXISTS tiers_of(
  raw TEXT PRIMARY KEY, day INTEGER NOT NULL, retention INTEGER NOT NULL, fine TEXT, coarse TEXT) WITHOUT ROWID;
"""
_FROM_2: Final = f"""
CREATE TABLE IF NOT EXISTS tier_days(day, retention, raw, fine, coarse);
{_TIERS_OF}
INSERT INTO tiers_of SELECT raw, day, retention, fine, coarse FROM tier_days;
DROP TABLE tier_days;
"""  # noqa: S608 - our own text
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS series(id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS reasons(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS windows(
  id INTEGER PRIMARY KEY AUTOINCREMENT, opened_ms INTEGER NOT NULL, points INTEGER NOT NULL, closed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows(
  arrival INTEGER PRIMARY KEY AUTOINCREMENT, window INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  retention INTEGER NOT NULL, series BLOB NOT NULL, value BLOB NOT NULL, quality BLOB,
  image INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS entries(
  ms INTEGER NOT NULL, seq INTEGER NOT NULL, written_ms INTEGER NOT NULL, PRIMARY KEY(ms, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files(
  name TEXT PRIMARY KEY, min_at_ms INTEGER NOT NULL, max_at_ms INTEGER NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL, retention INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS latest(
  series INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, value REAL, quality INTEGER NOT NULL,
  image INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS tiers(name TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
{_TIERS_OF}
CREATE TABLE IF NOT EXISTS numbers(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO reasons(id, text) VALUES (0, ''), (1, 'bad:other'), (2, 'uncertain:other');
"""  # noqa: S608 - our own text


class Newest:
    """The newest sample of each series, as arrays indexed by series number."""

    def __init__(self) -> None:
        self.at_ms = np.full(0, -1, np.int64)
        self.value = np.full(0, np.nan)
        self.quality = np.zeros(0, np.uint8)
        self.image = np.zeros(0, np.int64)

    def reserve(self, count: int) -> None:
        """Make room for series numbers below `count`."""
        grow = count - len(self.at_ms)
        if grow > 0:
            grow = max(grow, len(self.at_ms))
            self.at_ms = np.concatenate([self.at_ms, np.full(grow, -1, np.int64)])
            self.value = np.concatenate([self.value, np.full(grow, np.nan)])
            self.quality = np.concatenate([self.quality, np.zeros(grow, np.uint8)])
            self.image = np.concatenate([self.image, np.zeros(grow, np.int64)])

    def update(self, at_ms: int, series: NDArray[np.int32], value: bytes, quality: bytes | None, image: int) -> None:
        """Take the samples of a row that are not older than what is known; at one instant the higher image stays."""
        known = self.at_ms[series]
        fresh = (known < at_ms) | ((known == at_ms) & (self.image[series] <= image))
        where = series[fresh]
        self.at_ms[where] = at_ms
        self.value[where] = np.frombuffer(value)[fresh]
        self.quality[where] = 0 if quality is None else np.frombuffer(quality, np.uint8)[fresh]
        self.image[where] = image


class LoadedNames(NamedTuple):
    """Numbers of loaded samples' series and qualities, the references by number, the quality texts."""

    series: NDArray[np.int32]
    quality: NDArray[np.uint8]
    refs: dict[int, str]
    reasons: list[str]


_Row = tuple[int, int, int, bytes, bytes, bytes | None, int]


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database for one thread at a time; transactions are explicit."""
    mode = "ro" if read_only else "rwc"
    db = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA busy_timeout=10000")
    return db


def catalog(db: sqlite3.Connection) -> tuple[list[File], list[Tier]]:
    """Return the files of samples, and their tiers."""
    files = [File(*row) for row in db.execute("SELECT name, min_at_ms, max_at_ms, rows, bytes, retention FROM files")]
    return sorted(files), [
        Tier(*row)
        for row in db.execute("SELECT raw, day, retention, fine, coarse FROM tiers_of ORDER BY day, retention, raw")
    ]


def next_number(path: Path) -> int:
    """Return a number no file's name had before; on a connection of its own, for another thread than the writer's."""
    db = connect(path)
    try:
        row = db.execute(
            "INSERT INTO numbers VALUES ('files', 1) ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value"
        ).fetchone()
    finally:
        db.close()
    return int(row[0])


class Window:
    """The writing side of the database. Its methods run in the store's one writing thread."""

    def __init__(self, path: Path, *, window_ms: int, window_points: int) -> None:
        self.path = path
        self.newest = Newest()
        self.series: dict[str, int] = {}
        self.reasons: list[str] = []
        self._reason_ids: dict[str, int] = {}
        self._window_ms = window_ms
        self._window_points = window_points
        self._window = 0
        self._points = 0
        self._db = connect(path)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > FORMAT:
            self._db.close()
            raise sqlite3.DatabaseError(f"{path} has format {version}, this version knows {FORMAT}")
        if version == 1:
            self._db.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version=2; COMMIT;")
        if version in {1, 2}:
            self._db.executescript(f"BEGIN; {_FROM_2} PRAGMA user_version=3; COMMIT;")
        self._db.executescript(_SCHEMA + f"PRAGMA user_version={FORMAT};")
        self._load_names()
        self._load_newest()

    def _load_names(self) -> None:
        """Read dictionaries and the open window; also undoes what a rolled back write put in them."""
        self.series = dict(self._db.execute("SELECT ref, id FROM series"))
        self.reasons = [text for (text,) in self._db.execute("SELECT text FROM reasons ORDER BY id")]
        self._reason_ids = {text: number for number, text in enumerate(self.reasons)}
        row = self._db.execute("SELECT id, points FROM windows WHERE closed = 0").fetchone()
        self._window, self._points = row or (0, 0)

    def _load_newest(self) -> None:
        """Take the newest samples as of the last compaction, then the rows since."""
        self.newest.reserve(len(self.series) + 1)
        for series, at_ms, value, quality, image in self._db.execute(
            "SELECT series, at_ms, value, quality, image FROM latest"
        ):
            self.newest.at_ms[series], self.newest.image[series] = at_ms, image
            self.newest.value[series] = np.nan if value is None else value
            self.newest.quality[series] = quality
        for at_ms, series, value, quality, image in self._db.execute(
            "SELECT at_ms, series, value, quality, image FROM rows ORDER BY arrival"
        ):
            self.newest.update(at_ms, np.frombuffer(series, np.int32), value, quality, image)

    def write(self, entries: list[Entry], forget_before: EntryId | None, now_ms: int) -> Written:
        """Append the entries that are new, in one transaction."""
        rows: list[_Row] = []
        repeated = 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if not self._window:
                self._open_window(now_ms)
            for entry in entries:
                if not self._db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", (*entry.id, now_ms)).rowcount:
                    repeated += 1
                    continue
                rows.extend(self._encode(entry))
            samples = sum(len(row[3]) for row in rows) // 4
            self._db.executemany(
                "INSERT INTO rows(window, at_ms, retention, series, value, quality, image) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.execute("UPDATE windows SET points = points + ? WHERE id = ?", (samples, self._window))
            if forget_before is not None:
                self._db.execute(
                    "DELETE FROM entries WHERE (ms, seq) < (?, ?) AND written_ms < ?",
                    (*forget_before, now_ms - REMEMBER_MS),
                )
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            self._load_names()
            raise
        for _, at_ms, _, series, value, quality, image in rows:
            self.newest.update(at_ms, np.frombuffer(series, np.int32), value, quality, image)
        self._points += samples
        self.close_due(now_ms)
        return Written(samples, repeated)

    def _encode(self, entry: Entry) -> list[_Row]:
        rows: list[_Row] = []
        for part in entry.parts:
            if not part.series:
                continue
            numbers = np.fromiter((self._series_id(ref) for ref in part.series), np.int32, len(part.series))
            quality = None
            if part.quality is not None and any(part.quality):
                quality = bytes(self._reason_id(text) for text in part.quality)
            values = np.ascontiguousarray(part.values, np.float64)
            if len(values) != len(numbers) or (quality is not None and len(quality) != len(numbers)):
                raise ValueError(f"entry {entry.id}: {len(numbers)} series, {len(values)} values")
            found = (self._window, part.at_ms, part.retention_days, numbers.tobytes(), values.tobytes(), quality)
            rows.append((*found, entry.image))
        return rows

    def names_of(self, samples: Samples) -> LoadedNames:
        """Return the numbers of samples' series and qualities; new ones are kept."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            series = {ref: self._series_id(ref) for ref in dict.fromkeys(samples.series)}
            reasons = {text: self._reason_id(text) for text in dict.fromkeys(samples.reason)}
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            self._load_names()
            raise
        return LoadedNames(
            np.fromiter(map(series.__getitem__, samples.series), np.int32, len(samples.series)),
            np.fromiter(map(reasons.__getitem__, samples.reason), np.uint8, len(samples.reason)),
            {number: ref for ref, number in series.items()},
            list(self.reasons),
        )

    def newest_of(self, samples: Samples, names: LoadedNames) -> None:
        """Take the newest sample of each series of loaded ones."""
        order = np.lexsort((samples.image, samples.at_ms, names.series))
        last = np.append(names.series[order][1:] != names.series[order][:-1], [True])
        for at in order[last].tolist():
            self.newest.update(
                int(samples.at_ms[at]),
                names.series[at : at + 1],
                samples.value[at : at + 1].tobytes(),
                names.quality[at : at + 1].tobytes(),
                int(samples.image[at]),
            )

    def _series_id(self, ref: str) -> int:
        number = self.series.get(ref)
        if number is None:
            number = len(self.series) + 1
            self._db.execute("INSERT INTO series VALUES (?, ?)", (number, ref))
            self.series[ref] = number
            self.newest.reserve(number + 1)
        return number

    def _reason_id(self, text: str) -> int:
        number = self._reason_ids.get(text)
        if number is None:
            if len(self.reasons) >= MAX_REASONS:  # A quality is one byte in a row.
                return 2 if text.startswith("uncertain") else 1
            number = len(self.reasons)
            self._db.execute("INSERT INTO reasons VALUES (?, ?)", (number, text))
            self.reasons.append(text)
            self._reason_ids[text] = number
        return number

    def _open_window(self, now_ms: int) -> None:
        cursor = self._db.execute("INSERT INTO windows(opened_ms, points, closed) VALUES (?, 0, 0)", (now_ms,))
        self._window, self._points = int(cursor.lastrowid or 0), 0

    def close_due(self, now_ms: int, *, force: bool = False) -> None:
        """Close the open window when it is old or large enough; the next write opens another."""
        if not self._window:
            return
        opened_ms = self._db.execute("SELECT opened_ms FROM windows WHERE id = ?", (self._window,)).fetchone()[0]
        # abs: after a backward step of the clock the window would otherwise stay open for the length of the step.
        due = abs(now_ms - opened_ms) >= self._window_ms or self._points >= self._window_points
        if due or force:
            self._db.execute("UPDATE windows SET closed = 1 WHERE id = ?", (self._window,))
            self._window = 0

    def closed_windows(self) -> list[int]:
        """Return the closed windows whose rows wait for compaction, oldest first."""
        return [number for (number,) in self._db.execute("SELECT id FROM windows WHERE closed = 1 ORDER BY id")]

    def switch(
        self,
        *,
        add: list[File],
        remove: list[str] | None = None,
        window: int | None = None,
        tiers: list[tuple[str, int, int]] | None = None,
        tiers_of: list[Tier] | None = None,
        keep_newest: bool = False,
    ) -> list[str]:
        """Change the catalog and drop a compacted window's rows, in one transaction: the moment of truth.

        tiers: name, rows and bytes of new files of tiers. Returns the tiers' files that nothing points to any more.
        """
        gone = [(name,) for name in remove or []]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM files WHERE name = ?", gone)
            self._db.executemany("DELETE FROM tiers_of WHERE raw = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", add)
            self._db.executemany("INSERT OR REPLACE INTO tiers VALUES (?, ?, ?)", tiers or [])
            self._db.executemany("INSERT OR REPLACE INTO tiers_of VALUES (?, ?, ?, ?, ?)", tiers_of or [])
            unused = self._db.execute(
                "DELETE FROM tiers WHERE name NOT IN (SELECT coarse FROM tiers_of WHERE coarse IS NOT NULL) "
                "AND name NOT IN (SELECT fine FROM tiers_of WHERE fine IS NOT NULL) RETURNING name"
            ).fetchall()
            if window is not None or keep_newest:
                self._keep_newest()
            if window is not None:
                self._db.execute("DELETE FROM rows WHERE window = ?", (window,))
                self._db.execute("DELETE FROM windows WHERE id = ?", (window,))
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        return [name for (name,) in unused]

    def forget_tiers(self, raw: list[str]) -> None:
        """Forget the tiers of some files; those of days are made again."""
        self._db.executemany("DELETE FROM tiers_of WHERE raw = ?", [(name,) for name in raw])
        self.switch(add=[])

    def _keep_newest(self) -> None:
        known = np.flatnonzero(self.newest.at_ms >= 0)
        values = [None if np.isnan(value) else float(value) for value in self.newest.value[known]]
        self._db.executemany(
            "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?)",
            zip(
                known.tolist(),
                self.newest.at_ms[known].tolist(),
                values,
                self.newest.quality[known].tolist(),
                self.newest.image[known].tolist(),
                strict=True,
            ),
        )

    def _rollback(self) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on a full disk.
            self._db.execute("ROLLBACK")

    def files(self) -> list[File]:
        """Return the catalog."""
        return catalog(self._db)[0]

    def tiers(self) -> list[Tier]:
        """Return the tiers of the files."""
        return catalog(self._db)[1]

    def tier_files(self) -> list[str]:
        """Return the names of the tiers' files."""
        return [name for (name,) in self._db.execute("SELECT name FROM tiers ORDER BY name")]

    def open_points(self) -> int:
        """Return how many samples are not in Parquet yet."""
        return int(self._db.execute("SELECT coalesce(sum(points), 0) FROM windows").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._db.close()
