"""Passwords: argon2id in a thread, at most two at once, because each takes 64 MB and 50 ms."""

from __future__ import annotations

import asyncio
from typing import Final

import argon2

from libs.errors import LimitError

AT_ONCE: Final = 2
MAX_WAITING: Final = 20
# argon2-cffi's defaults follow RFC 9106 (low-memory profile).
_HASHER: Final = argon2.PasswordHasher()
# Checked when there is no such user, so that the time of the answer does not tell.
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$dFXY7L3DE6iSrhA9GAdSPQ$a4QA/0Wg3nQsWiKUMc9sguW1GIUjuciiMMbdlGCMY2M"


class Passwords:
    """Hashes and checks passwords, a few at a time."""

    def __init__(self) -> None:
        """Start idle."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password."""
        async with self._slots:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def check(self, stored: str | None, password: str) -> bool:
        """Say whether a password fits the hash; without a hash it takes as long and does not fit.

        Raises:
            LimitError: too many log-ins wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise LimitError("too many log-ins at once; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._slots:
                fits = await asyncio.to_thread(_fits, stored or _NOBODY, password)
        finally:
            self._waiting -= 1
        return fits and stored is not None


def _fits(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
