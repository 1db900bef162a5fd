"""Users, sessions and one-time links, in a file that only its owner reads.

They are not in Redis on purpose: whoever may call Redis (every service, an engineer
with redis-cli) could otherwise make himself an administrator. Who can read the data
directory can already sign tokens, so this file adds no new way in.

Sessions and links are kept as SHA-256 hashes: they are 256 random bits, so a slow
hash would add nothing. Each call opens the file, so that the command line and the
gateway may use it at once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from libs.clock import now_ms
from libs.errors import ConflictError, NotFoundError, StateError, UnauthorizedError
from libs.http.tokens import Role

FILE: Final = "gateway.db"
BUSY_TIMEOUT_S: Final = 5.0
MAX_SESSIONS: Final = 50
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS users (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT, disabled INTEGER NOT NULL DEFAULT 0,
  created_at_ms INTEGER NOT NULL, changed_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  hash BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
  created_at_ms INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS links (
  hash BLOB PRIMARY KEY, user TEXT NOT NULL, role TEXT NOT NULL, expires_at_ms INTEGER NOT NULL
) STRICT;
"""
_COLUMNS: Final = "name, role, password, disabled, created_at_ms, changed_at_ms"


class Account(NamedTuple):
    """A user as stored; `password` is an argon2 hash, or None when none was set."""

    name: str
    role: Role
    password: str | None
    disabled: bool
    created_at_ms: int
    changed_at_ms: int


class Accounts:
    """The file. Calls block for a disk write, so the service makes them in a thread."""

    def __init__(self, data_dir: Path) -> None:
        """Keep where it is; nothing is opened yet."""
        self._path = data_dir / FILE

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file, made with mode 0600 on first use; commit at the end or undo all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            database.execute("PRAGMA foreign_keys = ON")
            database.executescript(_SCHEMA)
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
        finally:
            database.close()

    def users(self) -> list[Account]:
        """Return all users by name."""
        with self._open() as database:
            return [_account(row) for row in database.execute(f"SELECT {_COLUMNS} FROM users ORDER BY name")]  # noqa: S608 - a constant

    def find(self, name: str) -> Account | None:
        """Return a user, or None."""
        with self._open() as database:
            return _find(database, name)

    def get(self, name: str) -> Account:
        """Return a user, or raise NOTFOUND."""
        account = self.find(name)
        if account is None:
            raise NotFoundError(f"no user {name}")
        return account

    def create(self, name: str, role: Role, password: str | None) -> Account:
        """Add a user. `password` is a hash.

        Raises:
            ConflictError: the name is taken.
        """
        with self._open() as database:
            if _find(database, name):
                raise ConflictError(f"there is a user {name} already")
            _insert(database, name, role, password)
            return _known(database, name)

    def change(
        self,
        name: str,
        *,
        role: Role | None = None,
        password: str | None = None,
        disabled: bool | None = None,
        keep_session: str | None = None,
    ) -> Account:
        """Change a user. A new role or password, and disabling, end the user's sessions but the one kept.

        Raises:
            NotFoundError: no such user.
            StateError: no administrator would be left.
        """
        with self._open() as database:
            before = _known(database, name)
            after = before._replace(
                role=role or before.role,
                password=password or before.password,
                disabled=before.disabled if disabled is None else disabled,
                changed_at_ms=now_ms(),
            )
            database.execute(
                "UPDATE users SET role = ?, password = ?, disabled = ?, changed_at_ms = ? WHERE name = ?",
                (after.role.value, after.password, after.disabled, after.changed_at_ms, name),
            )
            _keep_an_admin(database, before)
            if (after.role, after.password) != (before.role, before.password) or after.disabled:
                kept = _hash(keep_session or "")
                database.execute("DELETE FROM sessions WHERE user = ? AND hash <> ?", (name, kept))
            return after

    def delete(self, name: str) -> None:
        """Remove a user and the user's sessions and links.

        Raises:
            NotFoundError: no such user.
            StateError: no administrator would be left.
        """
        with self._open() as database:
            before = _known(database, name)
            database.execute("DELETE FROM links WHERE user = ?", (name,))
            database.execute("DELETE FROM users WHERE name = ?", (name,))
            _keep_an_admin(database, before)

    def start_session(self, name: str, ttl_s: int) -> str:
        """Return a new refresh token for a user; the oldest sessions beyond the bound end."""
        token = secrets.token_urlsafe(32)
        now = now_ms()
        with self._open() as database:
            database.execute("DELETE FROM sessions WHERE expires_at_ms <= ?", (now,))
            database.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (_hash(token), name, now, now + ttl_s * 1000))
            database.execute(
                "DELETE FROM sessions WHERE user = ? AND hash NOT IN"
                " (SELECT hash FROM sessions WHERE user = ? ORDER BY created_at_ms DESC LIMIT ?)",
                (name, name, MAX_SESSIONS),
            )
        return token

    def use_session(self, token: str, ttl_s: int) -> Account:
        """Return the user of a refresh token and prolong the session.

        Raises:
            UnauthorizedError: it is unknown, has ended or was revoked.
        """
        now = now_ms()
        with self._open() as database:
            row = database.execute(
                "SELECT user FROM sessions WHERE hash = ? AND expires_at_ms > ?", (_hash(token), now)
            ).fetchone()
            account = _find(database, row[0]) if row else None
            if account is None or account.disabled:
                raise UnauthorizedError("the session has ended; log in again")
            database.execute("UPDATE sessions SET expires_at_ms = ? WHERE hash = ?", (now + ttl_s * 1000, _hash(token)))
            return account

    def end_session(self, token: str) -> None:
        """Revoke a refresh token; one that is unknown is no error."""
        with self._open() as database:
            database.execute("DELETE FROM sessions WHERE hash = ?", (_hash(token),))

    def create_link(self, user: str, role: Role, ttl_s: int) -> str:
        """Return a token that logs a user in once; the user is made with the role if there is none."""
        token = secrets.token_urlsafe(32)
        now = now_ms()
        with self._open() as database:
            database.execute("DELETE FROM links WHERE expires_at_ms <= ?", (now,))
            database.execute(
                "INSERT INTO links VALUES (?, ?, ?, ?)", (_hash(token), user, role.value, now + ttl_s * 1000)
            )
        return token

    def redeem_link(self, token: str) -> Account:
        """Use a one-time link up and return its user.

        Raises:
            UnauthorizedError: it is unknown, was used, has expired, or the user is disabled.
        """
        with self._open() as database:
            row = database.execute(
                "DELETE FROM links WHERE hash = ? RETURNING user, role, expires_at_ms", (_hash(token),)
            ).fetchone()
            if row is None or row[2] <= now_ms():
                raise UnauthorizedError("this link was used already or has expired")
            if _find(database, row[0]) is None:
                _insert(database, row[0], Role(row[1]), None)
            account = _known(database, row[0])
            if account.disabled:
                raise UnauthorizedError(f"the user {account.name} is disabled")
            return account


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _account(row: tuple[str, str, str | None, int, int, int]) -> Account:
    name, role, password, disabled, created_at_ms, changed_at_ms = row
    return Account(name, Role(role), password, bool(disabled), created_at_ms, changed_at_ms)


def _find(database: sqlite3.Connection, name: str) -> Account | None:
    row = database.execute(f"SELECT {_COLUMNS} FROM users WHERE name = ?", (name,)).fetchone()  # noqa: S608 - a constant
    return _account(row) if row else None


def _known(database: sqlite3.Connection, name: str) -> Account:
    account = _find(database, name)
    if account is None:
        raise NotFoundError(f"no user {name}")
    return account


def _insert(database: sqlite3.Connection, name: str, role: Role, password: str | None) -> None:
    now = now_ms()
    database.execute("INSERT INTO users VALUES (?, ?, ?, 0, ?, ?)", (name, role.value, password, now, now))


def _keep_an_admin(database: sqlite3.Connection, before: Account) -> None:
    """Refuse a change of an administrator that would leave none; nobody could undo it."""
    if before.role is not Role.ADMIN or before.disabled:
        return
    (left,) = database.execute("SELECT count(*) FROM users WHERE role = 'admin' AND disabled = 0").fetchone()
    if left == 0:
        raise StateError(f"{before.name} is the last administrator; make another one first")
