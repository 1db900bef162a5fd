"""The chain of the journal: each entry carries the hash of the one before (redis_functions/alarmsrv/journal.lua)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

SEPARATOR: Final = "\x1f"


class Entry(NamedTuple):
    """An entry as it stands in the stream or in a file: its stream id, and its fields in their order."""

    id: str
    fields: Mapping[str, str]

    @property
    def number(self) -> int:
        """The entry's place in the chain; 0 for one of before the chain began."""
        text = self.fields.get("number", "")
        return int(text) if text.isdecimal() else 0

    @property
    def hash(self) -> str:
        """What the next entry must carry as `previous`."""
        text = SEPARATOR.join(part for pair in self.fields.items() for part in pair)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @property
    def order(self) -> tuple[int, int]:
        """The id as it sorts."""
        return order_of(self.id)


def order_of(entry_id: str) -> tuple[int, int]:
    """Return a stream id as it sorts; one without its second half is the first of its millisecond."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class Break(NamedTuple):
    """Where the chain does not hold, and why."""

    number: int
    reason: str


class Chain:
    """Walks entries in their order and keeps the first place where the chain does not hold."""

    def __init__(self, number: int = 0, last_hash: str = "") -> None:
        """Begin after an entry; without arguments at the very first."""
        self.number = number
        self.hash = last_hash
        self.entries = 0
        self.unchained = 0
        self.broken: Break | None = None

    def take(self, entry: Entry, where: str) -> None:
        """Take the next entry."""
        number = entry.number
        if not number and not self.number:
            self.unchained += 1
            return
        self.entries += 1
        place = f"{where}, entry {entry.id} (alarm {entry.fields.get('alarm')}, {entry.fields.get('event')})"
        if not number:
            self._note(self.number + 1, f"{place} has no number")
            return
        if number != self.number + 1:
            self._note(min(number, self.number + 1), self._jump(number, place))
        elif entry.fields.get("previous") != self.hash:
            self._note(
                max(self.number, 1),
                f"entry {self.number} has the hash {self.hash}, but {place} says {entry.fields.get('previous')}: "
                "one of the two was changed"
                if self.number
                else f"{place} says there was an entry before it, and there is none",
            )
        self.number, self.hash = number, entry.hash

    def end(self, number: int, last_hash: str) -> None:
        """Compare the last entry with what Redis keeps as the head of the chain."""
        if (number, last_hash) == (self.number, self.hash):
            return
        if number != self.number:
            reason = f"the head says {number} entries were written, the last one here is {self.number}"
        else:
            reason = f"entry {number} has the hash {self.hash}, but the head says {last_hash}: it was changed"
        self._note(min(number, self.number) + (number != self.number), reason)

    def differ(self, entry: Entry, other: str, where: str) -> None:
        """Note that an entry in two places has two hashes."""
        self._note(entry.number, f"{where}, entry {entry.id}: its hash is {entry.hash}, in Redis it is {other}")

    def _jump(self, number: int, place: str) -> str:
        if number > self.number + 1:
            missing = f"{self.number + 1}" if number == self.number + 2 else f"{self.number + 1} to {number - 1}"
            return f"{missing} missing before {place}"
        return f"{place} is number {number} again, after {self.number}"

    def _note(self, number: int, reason: str) -> None:
        if self.broken is None:
            self.broken = Break(number, reason)
