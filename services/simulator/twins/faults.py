"""What can go wrong with a device, and what its answers are then.

Faults of an answer spoil the next `count` answers of a unit. Faults of the link concern every
unit behind it, for a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

from pydantic import Field

from libs.validation import Model
from services.simulator.twins.frames import Framing, Request
from services.simulator.twins.unit import Asked

# Exception codes as the specification has them, of which a random exception takes one.
EXCEPTIONS: Final = (1, 2, 3, 4, 5, 6, 10, 11)


class Kind(StrEnum):
    """Names of faults, as the file has them."""

    LATENCY = "latency"
    SILENCE = "silence"
    EXCEPTION = "exception"
    HALF = "half"
    SPLIT = "split"
    STALE = "stale"
    DUPLICATED = "duplicated"
    WRONG_TRANSACTION = "wrong_transaction"
    WRONG_UNIT = "wrong_unit"
    WRONG_FUNCTION = "wrong_function"
    SHORT = "short"
    GARBAGE = "garbage"
    RESET = "reset"
    IGNORED_WRITE = "ignored_write"
    HALF_WRITE = "half_write"
    REVERTED_WRITE = "reverted_write"
    BYTE_ORDER = "byte_order"
    HANG = "hang"
    REFUSE = "refuse"
    ONE_CLIENT = "one_client"
    RESTART = "restart"

    @property
    def of_writes(self) -> bool:
        """True for what concerns writes, which are acknowledged all the same."""
        return self in {Kind.IGNORED_WRITE, Kind.HALF_WRITE, Kind.REVERTED_WRITE}

    @property
    def of_link(self) -> bool:
        """True for what concerns every unit behind the link."""
        return self in {Kind.HANG, Kind.REFUSE, Kind.ONE_CLIENT, Kind.RESTART}


class Fault(Model):
    """One fault."""

    kind: Kind
    for_s: float = Field(5.0, gt=0, le=86_400, description="how long; faults of answers end sooner by `count`")
    count: int | None = Field(None, ge=1, description="answers it spoils; all during `for_s` without it")
    ms: int = Field(500, ge=0, le=600_000, description="of latency; of split in all; until a write is reverted")
    parts: int = Field(3, ge=2, le=16, description="of split")
    code: int = Field(4, ge=1, le=255, description="of exception")
    addresses: tuple[int, int] | None = Field(None, description="of exception: only requests that touch these")
    then_answer: bool = Field(default=True, description="after a foreign or stale frame the right one follows")


@dataclass
class Active:
    """A fault that is under way."""

    number: int
    fault: Fault
    since_ms: int
    left: int | None
    hits: int = 0
    until_ms: int = 0
    # Set once it has spoiled all the answers it may.
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def concerns(self, asked: Asked | None) -> bool:
        """Say whether a request is spoiled."""
        if self.left == 0:
            return False
        if self.fault.kind.of_writes:
            return asked is not None and asked.is_write
        span = self.fault.addresses if self.fault.kind is Kind.EXCEPTION else None
        return span is None or (asked is not None and asked.touches(*span))

    def hit(self) -> None:
        """Count a spoiled answer."""
        self.hits += 1
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.over.set()


class Part(NamedTuple):
    """Bytes to send, so long after the part before. `reset` drops the connection instead."""

    after_s: float
    data: bytes
    reset: bool = False


class Answer(NamedTuple):
    """A right answer that is about to be spoiled: `before` is the frame sent last on the connection."""

    framing: Framing
    request: Request
    pdu: bytes
    before: bytes
    random: Random

    def frame(self, pdu: bytes, *, transaction: int = 0, unit: int | None = None) -> bytes:
        """Return a frame; `transaction` is how far its number is off."""
        named = self.request.unit if unit is None else unit
        return self.framing.frame(self.request.transaction + transaction, named, pdu)

    @property
    def right(self) -> bytes:
        """The frame of a device that is well."""
        return self.frame(self.pdu)

    @property
    def foreign(self) -> bytes:
        """An answer of the same form whose values nobody holds, so that one that is taken shows."""
        if self.pdu[0] & 0x80 or len(self.pdu) < 3:
            return self.pdu
        return self.pdu[:2] + bytes(byte ^ 0xA5 for byte in self.pdu[2:])


def spoil(fault: Fault, answer: Answer) -> list[Part]:
    """Return what is sent instead of an answer."""
    if fault.kind in _BESIDE:
        first = Part(0.0, _BESIDE[fault.kind](answer))
        return [first, Part(0.0, answer.right)] if fault.then_answer else [first]
    return _INSTEAD[fault.kind](fault, answer)


def _exception(fault: Fault, answer: Answer) -> list[Part]:
    return [Part(0.0, answer.frame(bytes((answer.request.pdu[0] | 0x80, fault.code))))]


def _split(fault: Fault, answer: Answer) -> list[Part]:
    frame, gap_s = answer.right, fault.ms / 1000 / fault.parts
    size = max(1, -(-len(frame) // fault.parts))
    return [Part(gap_s if at else 0.0, frame[at : at + size]) for at in range(0, len(frame), size)]


def _short(_: Fault, answer: Answer) -> list[Part]:
    pdu, foreign = answer.pdu, answer.foreign
    cut = bytes((pdu[0], max(pdu[1] - 2, 0))) + foreign[2:-2] if len(pdu) > 4 else pdu[:-1]
    return [Part(0.0, answer.frame(cut))]


def _garbage(_: Fault, answer: Answer) -> list[Part]:
    return [Part(0.0, answer.random.randbytes(answer.random.randint(1, 300)))]


def _reset(_: Fault, answer: Answer) -> list[Part]:
    return [Part(0.0, answer.right[: answer.random.randrange(len(answer.right))], reset=True)]


def _byte_order(_: Fault, answer: Answer) -> list[Part]:
    """Turn the bytes of each register round. No master can tell."""
    if answer.pdu[0] not in {3, 4}:
        return [Part(0.0, answer.right)]
    data = bytearray(answer.pdu[2:])
    data[::2], data[1::2] = data[1::2], data[::2]
    return [Part(0.0, answer.frame(answer.pdu[:2] + bytes(data)))]


# A frame that is no answer to the request; the right one may follow.
_BESIDE: Final[dict[Kind, Callable[[Answer], bytes]]] = {
    Kind.STALE: lambda answer: answer.before,
    Kind.WRONG_TRANSACTION: lambda answer: answer.frame(
        answer.foreign, transaction=answer.random.choice((-1, 1, 0x100))
    ),
    Kind.WRONG_UNIT: lambda answer: answer.frame(answer.foreign, unit=answer.request.unit % 247 + 1),
    Kind.WRONG_FUNCTION: lambda answer: answer.frame(bytes((answer.pdu[0] ^ 0x07,)) + answer.foreign[1:]),
}
_INSTEAD: Final[dict[Kind, Callable[[Fault, Answer], list[Part]]]] = {
    Kind.SILENCE: lambda _, __: [],
    Kind.LATENCY: lambda fault, answer: [Part(fault.ms / 1000, answer.right)],
    Kind.EXCEPTION: _exception,
    Kind.HALF: lambda _, answer: [Part(0.0, answer.right[: len(answer.right) // 2])],
    Kind.SPLIT: _split,
    Kind.DUPLICATED: lambda _, answer: [Part(0.0, answer.right), Part(0.0, answer.right)],
    Kind.SHORT: _short,
    Kind.GARBAGE: _garbage,
    Kind.RESET: _reset,
    Kind.BYTE_ORDER: _byte_order,
    # What becomes of the write is up to the device.
    **{kind: lambda _, answer: [Part(0.0, answer.right)] for kind in Kind if kind.of_writes},
}
