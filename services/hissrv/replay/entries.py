"""One entry of the replay log: a call that changed something, and what it wrote to the journals."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgpack

from libs.errors import InternalError

SEPARATOR: Final = "\x1f"
# What redis_functions/core/replay.lua counts beside the fields.
ENTRY_BYTES: Final = 96
_HEAD: Final = re.compile(rb"(\d*)\|(\d+)(!?)\|(\d+)\|(\w+)\|(.*)\|([0-9a-f]+)", re.DOTALL)


class StreamId(NamedTuple):
    """The id of an entry of a stream, in order."""

    ms: int
    number: int

    @classmethod
    def parse(cls, text: str) -> StreamId:
        """Read `1763707000000-0`."""
        ms, _, number = text.partition("-")
        return cls(int(ms), int(number))

    def __str__(self) -> str:
        """Render as Redis does."""
        return f"{self.ms}-{self.number}"


class Output(NamedTuple):
    """An entry of a journal: of which one, and its names and values in their order."""

    journal: str
    fields: dict[str, str]


class Entry(NamedTuple):
    """A call as it stands in the log; the texts are bytes as they came."""

    id: StreamId
    head: bytes
    one: bytes
    many: bytes
    facts: bytes
    outputs: bytes
    # The image number before the call (None where it asked for none), and after it.
    before: int | None
    after: int | None
    at_ms: int
    function: str
    key: str
    digest: str

    @property
    def refused(self) -> bool:
        """Whether the call was refused; timers that it fired stand."""
        return b"!|" in self.head[:64]

    def packed(self) -> list[bytes]:
        """Return it as replay_apply takes it."""
        return [self.head, self.one, self.many, self.facts, self.outputs]

    def stored(self) -> list[bytes]:
        """Return it as it stands in a file."""
        return [str(self.id).encode(), *self.packed()]

    def arguments(self) -> list[bytes]:
        """Return the call's arguments."""
        return [self.one] if self.one else list(msgpack.unpackb(self.many, raw=True))


def of_fields(entry_id: bytes, fields: Any) -> tuple[Entry, int]:
    """Return an entry as a stream gives it, and the bytes the log counts for it."""
    pairs = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    size = ENTRY_BYTES + sum(len(value) for value in pairs.values())
    return of_stored([entry_id, *(pairs.get(name, b"") for name in (b"h", b"a", b"m", b"x", b"o"))]), size


def of_stored(parts: list[bytes]) -> Entry:
    """Return an entry as it stands in a file."""
    entry_id, head, one, many, facts, outputs = parts
    found = _HEAD.fullmatch(head)
    if found is None:
        raise InternalError(f"entry {entry_id.decode()} of the replay log reads {head[:80]!r}")
    before = int(found[1]) if found[1] else None
    return Entry(
        StreamId.parse(entry_id.decode()),
        head,
        one,
        many,
        facts,
        outputs,
        before,
        None if before is None else before + int(found[2]),
        int(found[4]),
        found[5].decode(),
        found[6].decode(errors="replace"),
        found[7].decode(),
    )


def made(function: str, key: str, argument: bytes, at_ms: int) -> list[bytes]:
    """Return a call that was never made, which puts a definition in the place of the one that was."""
    facts: bytes = msgpack.packb({"changed": True})
    return [f"|1|{at_ms}|{function}|{key}|0".encode(), argument, b"", facts, b""]


def outputs_of(packed: bytes) -> list[Output]:
    """Read what a call wrote to the journals."""
    if not packed:
        return []
    found = []
    for text in msgpack.unpackb(packed, raw=True):
        journal, *rest = text.decode(errors="replace").split(SEPARATOR)
        found.append(Output(journal, dict(zip(rest[::2], rest[1::2], strict=False))))
    return found
