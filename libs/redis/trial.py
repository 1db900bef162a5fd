"""Calls tried in a Redis of their own: what the functions would refuse, before anything of the site is touched.

What only the functions know (a limit below another, a text with a name that is none, rules that come
back to themselves) stands in Lua alone. So whoever must know it beforehand has the functions say it: on an empty
server, or on one that holds the definitions that are stored now, with the calls that would be made.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hiredis
import orjson

from libs.definitions import Call
from libs.errors import CODES, NotFoundError, Problem
from libs.redis import bundle
from libs.redis.private import started
from libs.redis.refusals import joined
from libs.redis.resp import Connection, ReplyError
from libs.redis.server import Binary

CALL_S: Final = 60.0
# Calls whose answers are not read before the next one leaves.
AT_ONCE: Final = 100
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


class Refusal(NamedTuple):
    """A call that was refused, and why."""

    call: Call
    code: str
    text: str

    @property
    def problem(self) -> Problem:
        """The refusal as people read it."""
        return self.call.refused(self.code, self.text)


def tried(
    binary: Binary,
    stored: Iterable[Call],
    parts: Mapping[str, Sequence[Call]],
    unread: Mapping[str, frozenset[str]] | None = None,
) -> dict[str, list[Problem]]:
    """Make calls in a Redis of their own, and return what is refused of each part, in order.

    As where files are applied, what is refused is tried again after the rest of its part: what it is refused for
    may be what a later one changes.

    Args:
        binary: the server to start.
        stored: what is there before.
        parts: the calls of each service, in the order in which they would be made.
        unread: of each part the ids that have problems already: what needs them is not refused for it.

    Raises:
        UnavailableError: the server does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="voltage-") as folder,
        started("the Redis to try the files in", binary, Path(folder), "--appendonly", "no") as running,
        _Trial(running.url, CALL_S) as trial,
    ):
        trial.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
        # What was stored is not judged.
        trial.settle(stored)
        return {
            name: [refusal.problem for refusal in _own(trial.settle(calls), (unread or {}).get(name, frozenset()))]
            for name, calls in parts.items()
        }


class _Trial(Connection):
    """A connection to the server that things are tried in."""

    def settle(self, calls: Iterable[Call]) -> list[Refusal]:
        """Make calls, again those that were refused as long as any of them goes through; return what stays refused."""
        waiting = list(calls)
        while True:
            refused = self._make(waiting)
            if len(refused) in {0, len(waiting)}:
                return refused
            waiting = [refusal.call for refusal in refused]

    def _make(self, calls: Sequence[Call]) -> list[Refusal]:
        found = []
        for first in range(0, len(calls), AT_ONCE):
            batch = calls[first : first + AT_ONCE]
            self._socket.settimeout(CALL_S)
            self._socket.sendall(b"".join(hiredis.pack_command(_words(call)) for call in batch))  # type: ignore[arg-type]
            for call in batch:
                reply = self.next(CALL_S)
                if isinstance(reply, ReplyError):
                    code, _, text = joined(str(reply)).partition(" ")
                    found.append(Refusal(call, code, text) if code in CODES else Refusal(call, "", str(reply)))
        return found


def _words(call: Call) -> tuple[str | bytes | int, ...]:
    """Return the command, as it goes over the wire."""
    return ("FCALL", call.function, 1, call.key, *map(orjson.dumps, call.arguments))


def _own(refused: Sequence[Refusal], unread: frozenset[str]) -> list[Refusal]:
    """Return the refusals without those for what is only missing because it was refused itself."""
    ill = unread | {refusal.call.key for refusal in refused}
    return [
        one
        for one in refused
        if one.code != NotFoundError.code or not (ill - {one.call.key}).intersection(_WORD.findall(one.text))
    ]
