"""What waits for a network: a SQLite file (WAL), bounded in bytes, that survives kill -9 and power cuts.

A queue entry of Redis is put in once: the file remembers the ids it took, in the same
transaction as the messages. Messages leave in the order they came; answers to commands
(another lane) go first. At the cap the oldest values go and are counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from libs.clock import now_ms
from libs.errors import UnavailableError
from libs.redis.queue import EntryId
from services.netsrv.router import ANSWERS, VALUES, Message

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

# What a message costs beside its payload and target.
ROW_BYTES: Final = 64
# Ids are remembered longer than a crash of Redis can make it forget an acknowledgement.
REMEMBER_MS: Final = 600_000
MAX_DEAD: Final = 1000
PEEK_BYTES: Final = 1_000_000
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, at_ms INTEGER NOT NULL, route TEXT NOT NULL,
    target TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL, text INTEGER NOT NULL,
    size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS in_order ON messages (lane, id);
CREATE TABLE IF NOT EXISTS dead AS SELECT *, '' AS reason, 0 AS dead_at_ms FROM messages WHERE 0;
CREATE TABLE IF NOT EXISTS taken (ms INTEGER, seq INTEGER, at_ms INTEGER, PRIMARY KEY (ms, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked (command TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_COLUMNS: Final = "lane, at_ms, route, target, payload, qos, retain, text, size"


class Stored(NamedTuple):
    """A message in the queue."""

    id: int
    message: Message


class Size(NamedTuple):
    """How much waits."""

    messages: int
    bytes: int
    oldest_at_ms: int | None
    dead_letters: int


class DiskQueue:
    """One network's queue. Every method but `wait` works on a thread of the queue's own.

    Raises:
        UnavailableError: from every method, when the file can't be read or written.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._filled = asyncio.Event()
        self._db: sqlite3.Connection
        self._bytes = 0
        self._counters: dict[str, int] = {}
        self.name = ""

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(f"{self.path}: {error}") from error

    async def open(self) -> None:
        """Open or make the file; one that is no database any more is put aside."""
        await self._run(self._open)

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = self.path.with_suffix(f".broken-{now_ms()}")
            _LOG.error("%s is broken (%s) and is now %s", self.path, error, aside.name)
            self.path.rename(aside)
            self._connect()

    def _connect(self) -> None:
        self._db = db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=4000000")
        db.executescript(SCHEMA)
        # An identity of the file's own: two sites at one broker must not throw each other out.
        db.execute("INSERT OR IGNORE INTO facts VALUES ('name', ?)", (secrets.token_hex(4),))
        (self.name,) = db.execute("SELECT value FROM facts WHERE name = 'name'").fetchone()
        (self._bytes,) = db.execute("SELECT COALESCE(SUM(size), 0) FROM messages").fetchone()
        self._counters = dict(db.execute("SELECT name, value FROM counters"))
        self._filled.set()

    async def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_db"):
            await self._run(self._db.close)
        self._thread.shutdown(wait=False)

    def _transaction(self, work: Callable[[sqlite3.Connection], T], *, durable: bool) -> T:
        """Do some work whole or not at all; `durable`: it is on disk when this returns."""
        before = self._bytes, dict(self._counters)
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            answer = work(self._db)
            changed = [(name, value) for name, value in self._counters.items() if before[1].get(name) != value]
            self._db.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", changed)
            self._db.execute("COMMIT")
        except BaseException:
            self._bytes, self._counters = before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return answer

    def _count(self, name: str, amount: int = 1) -> None:
        if amount:
            self._counters[name] = self._counters.get(name, 0) + amount

    # Filling

    async def take(self, entries: Sequence[tuple[EntryId, list[Message]]]) -> None:
        """Put in the messages of queue entries, each entry once; on disk when this returns."""

        def work(db: sqlite3.Connection) -> None:
            at_ms = now_ms()
            for entry, messages in entries:
                known = db.execute("SELECT 1 FROM taken WHERE ms = ? AND seq = ?", entry).fetchone()
                if not known:
                    self._insert(db, messages)
                db.execute("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", (*entry, at_ms))
            db.execute("DELETE FROM taken WHERE at_ms < ?", (at_ms - REMEMBER_MS,))
            self._shrink(db)

        await self._run(lambda: self._transaction(work, durable=True))
        self._filled.set()

    async def put(self, messages: list[Message]) -> None:
        """Put in messages that come from no queue entry."""

        def work(db: sqlite3.Connection) -> None:
            self._insert(db, messages)
            self._shrink(db)

        await self._run(lambda: self._transaction(work, durable=True))
        self._filled.set()

    def _insert(self, db: sqlite3.Connection, messages: Iterable[Message]) -> None:
        rows = []
        for one in messages:
            size = len(one.payload) + len(one.target.encode()) + ROW_BYTES
            rows.append((one.lane, one.at_ms, one.route, one.target, one.payload, one.qos, one.retain, one.text, size))
            self._bytes += size
        db.executemany(f"INSERT INTO messages ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Let the oldest values go until the rest fits."""
        if self._bytes <= self.max_bytes:
            return
        gone: list[tuple[int]] = []
        # A lane at a time, so that the index gives the order: a full queue must not be sorted at each message.
        for lane in (VALUES, ANSWERS):
            for row, size in db.execute("SELECT id, size FROM messages WHERE lane = ? ORDER BY id", (lane,)):
                if self._bytes <= self.max_bytes:
                    break
                gone.append((row,))
                self._bytes -= size
        db.executemany("DELETE FROM messages WHERE id = ?", gone)
        self._count("dropped:queue_full", len(gone))

    # Emptying

    async def wait(self) -> None:
        """Return when there may be something to send."""
        await self._filled.wait()

    async def peek(self, limit: int) -> list[Stored]:
        """Return the next messages to send, few enough to hold in memory."""
        self._filled.clear()
        found = await self._run(lambda: self._peek(limit))
        if found:
            self._filled.set()
        return found

    def _peek(self, limit: int) -> list[Stored]:
        found: list[Stored] = []
        size = 0
        query = f"SELECT id, {_COLUMNS} FROM messages ORDER BY lane, id LIMIT ?"  # noqa: S608 - our own columns
        for row in self._db.execute(query, (limit,)):
            size += row[-1]
            if found and size > PEEK_BYTES:
                break
            found.append(Stored(row[0], _message(row[1:])))
        return found

    async def sent(self, ids: Sequence[int]) -> None:
        """Take out messages that took effect."""
        if ids:
            await self._run(
                lambda: self._transaction(lambda db: self._count("sent", self._out(db, ids)), durable=False)
            )

    def _out(self, db: sqlite3.Connection, ids: Sequence[int]) -> int:
        """Delete messages; return how many were still there."""
        there = 0
        for one in ids:
            row = db.execute("DELETE FROM messages WHERE id = ? RETURNING size", (one,)).fetchone()
            if row:
                there += 1
                self._bytes -= row[0]
        return there

    async def check(self) -> None:
        """Refuse a disk that takes nothing."""
        note = "INSERT OR REPLACE INTO facts VALUES ('checked_at_ms', ?)"

        def work(db: sqlite3.Connection) -> None:
            db.execute(note, (str(now_ms()),))

        await self._run(lambda: self._transaction(work, durable=False))

    async def failed(self) -> None:
        """Count an attempt that did not succeed."""
        await self._run(lambda: self._transaction(lambda _: self._count("failed"), durable=False))

    async def dropped(self, reason: str, amount: int) -> None:
        """Count what could not become messages."""
        await self._run(lambda: self._transaction(lambda _: self._count(f"dropped:{reason}", amount), durable=False))

    # Dead letters

    async def dead_letter(self, one: int, reason: str) -> None:
        """Put a message aside that will never be accepted. The newest are kept, the cap bounds them."""

        def work(db: sqlite3.Connection) -> None:
            moved = f"INSERT INTO dead SELECT id, {_COLUMNS}, ?, ? FROM messages WHERE id = ?"  # noqa: S608
            db.execute(moved, (reason[:500], now_ms(), one))
            if self._out(db, [one]):
                self._count("dead_lettered")
            room, kept = self.max_bytes // 10, 0
            for row, size in db.execute("SELECT id, size FROM dead ORDER BY id DESC").fetchall():
                kept, room = kept + 1, room - size
                if kept > MAX_DEAD or room < 0:
                    db.execute("DELETE FROM dead WHERE id = ?", (row,))
                    self._count("dropped:dead_letters_full")

        await self._run(lambda: self._transaction(work, durable=True))

    async def dead_letters(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        """Return dead letters, newest first, older than an id."""

        def work() -> list[dict[str, Any]]:
            found = self._db.execute(
                "SELECT id, dead_at_ms, at_ms, route, target, reason, payload FROM dead"
                " WHERE id < ? ORDER BY id DESC LIMIT ?",
                (before or 2**62, limit),
            )
            names = ("id", "dead_at_ms", "at_ms", "route", "target", "reason", "payload")
            return [
                dict(zip(names, (str(row[0]), *row[1:-1], row[-1].decode(errors="replace")), strict=True))
                for row in found
            ]

        return await self._run(work)

    async def retry_dead(self) -> int:
        """Queue all dead letters again, behind what waits; return how many."""

        def work(db: sqlite3.Connection) -> int:
            back = f"INSERT INTO messages ({_COLUMNS}) SELECT {_COLUMNS} FROM dead ORDER BY id"  # noqa: S608
            (size,) = db.execute("SELECT COALESCE(SUM(size), 0) FROM dead").fetchone()
            count = db.execute(back).rowcount
            db.execute("DELETE FROM dead")
            self._bytes += size
            self._count("retried", count)
            self._shrink(db)
            return count

        count = await self._run(lambda: self._transaction(work, durable=True))
        self._filled.set()
        return count

    # Commands whose outcome a network waits for

    async def ask(self, command: str, until_ms: int, answers: list[Message]) -> None:
        """Remember a command to be answered later, together with what is said about it now."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (command, until_ms))
            self._insert(db, answers)

        await self._run(lambda: self._transaction(work, durable=True))
        self._filled.set()

    async def asked(self) -> list[tuple[str, int]]:
        """Return the commands that wait for their outcome, and until when."""
        return await self._run(lambda: self._db.execute("SELECT command, until_ms FROM asked").fetchall())

    async def answer(self, command: str, answers: list[Message]) -> None:
        """Queue a command's outcome and forget the command."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM asked WHERE command = ?", (command,))
            self._insert(db, answers)

        await self._run(lambda: self._transaction(work, durable=True))
        self._filled.set()

    # Looking

    def counters(self) -> dict[str, int]:
        """Return what was counted since the file was made: sent, failed, dead_lettered, dropped:<reason>."""
        return dict(self._counters)

    async def size(self) -> Size:
        """Return how much waits."""

        def work() -> Size:
            count, oldest = self._db.execute("SELECT COUNT(*), MIN(at_ms) FROM messages").fetchone()
            (dead,) = self._db.execute("SELECT COUNT(*) FROM dead").fetchone()
            return Size(count, self._bytes, oldest, dead)

        return await self._run(work)


def _message(row: tuple[Any, ...]) -> Message:
    lane, at_ms, route, target, payload, qos, retain, text, _ = row
    return Message(route, target, payload, at_ms, qos, bool(retain), bool(text), lane)
