"""What unknown registers may mean: every type in every order, the plausible ones first.

A wrong reading gives itself away: a float of wrong order has an absurd exponent, a wrong word
order turns a small change into a jump, text is printable. How plausible a guess is, is a number
from 0 to 1 made of three things: whether the value has a size that devices measure in, whether it
moves smoothly over several reads, and whether it is a counter that only rises. A device keeps to
one order, so what the other registers say about it counts too.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.comsrv.plugins.modbus.wiretypes import ORDERS, TYPES, WIDTHS, from_wire, related_order

# Numbers that are worth guessing; a byte or a bit of a register says too little.
NUMBERS: Final = tuple(name for name, kind in TYPES.items() if kind.size > 1 and name not in {"bool", "double_point"})
MIN_TEXT: Final = 4
MAX_FILLING: Final = 16
# How much the order that the registers agree on counts. No number is as sure as a long text.
AGREED, OTHER, SUREST = 1.15, 0.7, 0.97
# No counter of a device came so far.
LARGEST_COUNT: Final = 1e13
# Of integers: (up to this size, how plausible), by bits.
_INTEGERS: Final = {
    16: ((10_000, 0.5), (33_000, 0.35), (math.inf, 0.2)),
    32: ((10_000, 0.2), (1e9, 0.55), (math.inf, 0.1)),
    64: ((10_000, 0.05), (2**32, 0.15), (LARGEST_COUNT, 0.5), (math.inf, 0.01)),
}
# Of floats: random bits seldom are a number of such a size.
_FLOATS: Final = ((1e-6, 0.05), (1e-3, 0.4), (1e6, 0.9), (1e9, 0.4), (math.inf, 0.02))
# Swapped bytes are rare in the field.
_PRIOR: Final = {"ABCD": 1.0, "CDAB": 1.0, "BADC": 0.9, "DCBA": 0.95}
# Two small numbers side by side seldom are one large one.
SMALL_WORD: Final = 10_000


@dataclass
class Guess:
    """What registers from an address on may be: type, order, the values of all reads, how plausible, and why."""

    address: int
    type: str
    order: str
    width: int
    values: list[float] | list[str]
    score: float
    why: str


def guesses(address: int, reads: Sequence[Sequence[int]]) -> list[list[Guess]]:
    """Return the guesses for each register, the most plausible first.

    Args:
        address: of the first register.
        reads: the registers as they were read, once or several times.
    """
    length = len(reads[0])
    found: list[list[Guess]] = []
    for place in range(length):
        here = [
            _number(address + place, name, order, [_part(read, place, WIDTHS[name]) for read in reads])
            for name in NUMBERS
            if place + WIDTHS[name] <= length
            for order in ORDERS[TYPES[name].size]
        ]
        found.append([*here, *_texts(address + place, [_part(read, place, length - place) for read in reads])])
    _agree(found)
    for here in found:
        here.sort(key=lambda guess: -guess.score)
    return found


def layout(found: list[list[Guess]]) -> list[Guess]:
    """Return guesses that follow one another and together are the most plausible."""
    best: list[tuple[float, Guess | None]] = [(0.0, None)] * (len(found) + 1)
    for place in range(len(found) - 1, -1, -1):
        best[place] = max(
            ((guess.score * guess.width + best[place + guess.width][0], guess) for guess in found[place]),
            key=lambda each: each[0],
        )
    chosen: list[Guess] = []
    place = 0
    while place < len(found) and (guess := best[place][1]) is not None:
        chosen.append(guess)
        place += guess.width
    return chosen


def _part(read: Sequence[int], place: int, width: int) -> bytes:
    return b"".join(register.to_bytes(2, "big") for register in read[place : place + width])


def _number(address: int, name: str, order: str, parts: list[bytes]) -> Guess:
    values = [_value(name, order, part) for part in parts]
    score, why = _plausible(name, values)
    moves, how = _movement(name, values)
    reasons = ", ".join(text for text in (why, how) if text)
    return Guess(address, name, order, WIDTHS[name], values, score * moves, reasons)


def _value(name: str, order: str, data: bytes) -> float:
    """Return the value, an integer exactly."""
    kind = TYPES[name]
    packed = from_wire(order, data, kind.size)
    if kind.digits:
        text = packed.hex()
        return int(text) if text.isdecimal() else math.nan
    number: float = struct.unpack(kind.packing, packed)[0]
    return number


def _plausible(name: str, values: list[float]) -> tuple[float, str]:
    """Return how plausible the sizes of the values are."""
    kind = TYPES[name]
    if not all(map(math.isfinite, values)):
        return 0.0, "no number"
    size = max(map(abs, values))
    if size == 0:
        # Nothing can be said of it; a short type leaves the most open.
        return 0.1 / kind.size, "zero"
    if "f" in kind.numpy:
        score = next(score for limit, score in _FLOATS if size <= limit)
        # Half floats are rare, and most bits are one.
        return (score / 5 if kind.size == 2 else score), ""
    if kind.digits:
        score = {4: 0.1, 8: 0.3, 16: 0.4}[kind.digits]
        fits = 10 ** (kind.digits // 2) <= size <= LARGEST_COUNT and not _is_reversed(kind.size, 10_000, values)
        return (score if fits else score / 10), ""
    score = next(score for limit, score in _INTEGERS[8 * kind.size] if size <= limit)
    if _is_reversed(kind.size, 0x10000, values):
        score *= 0.2
    if kind.size == 4 and all(_is_small(int(value) & 0xFFFF) for value in values):
        score *= 0.6
    # A value that needs no sign is taken for one that has none.
    return (score * 0.95 if kind.numpy[1] == "i" and min(values) >= 0 else score), ""


def _is_reversed(size: int, word: int, values: list[float]) -> bool:
    """Say whether the lowest register of 64 bits is always 0: a smaller number in a wrong order has that."""
    return size == 8 and all(int(value) % word == 0 for value in values)


def _is_small(word: int) -> bool:
    """Say whether a register is a small number of its own, a negative one too."""
    return min(word, 0x10000 - word) < SMALL_WORD


def _movement(name: str, values: list[float]) -> tuple[float, str]:
    """Return how much more or less plausible the values are for how they move."""
    steps = [after - before for before, after in itertools.pairwise(values)]
    size = max(map(abs, values))
    if not any(steps) or not all(map(math.isfinite, values)) or size == 0:
        return 1.0, ""
    largest = max(map(abs, steps)) / size
    if min(steps) >= 0 and largest < 0.05 and "f" not in TYPES[name].numpy and TYPES[name].size > 2:
        return 1.5, "only rises"
    if largest < 0.2:
        return 1.1, "moves smoothly"
    return (0.7, "moves") if largest < 0.6 else (0.3, "jumps")


def _texts(address: int, parts: list[bytes]) -> list[Guess]:
    """Return the text that begins here, in each packing of two characters a register."""
    found = []
    for order in ("AB", "BA"):
        texts = []
        for part in parts:
            data = part if order == "AB" else b"".join(part[at : at + 2][::-1] for at in range(0, len(part), 2))
            texts.append(_printable(data))
        shortest = min(map(len, texts))
        if shortest >= MIN_TEXT and any(text.strip() for text in texts):
            width = (shortest + 1) // 2
            filling = min(_zeros(part[2 * width :]) for part in parts)
            letters = sum(character.isalnum() or character in " -_./" for character in texts[0]) / len(texts[0])
            score = min(0.5 + shortest / 16 + (0.2 if filling else 0), 1.0) * letters
            # The NULs that fill up a text belong to it, and say less than its characters.
            shared = score * (width + 0.4 * filling) / (width + filling)
            why = f"{shortest} characters" + (", filled up" if filling else "")
            found.append(Guess(address, "string", order, width + filling, texts, shared, why))
    return found


def _zeros(data: bytes) -> int:
    """Return how many registers of 0 come first, at most as many as fill a text of 32 characters."""
    registers = [data[at : at + 2] for at in range(0, len(data), 2)]
    first = next((place for place, register in enumerate(registers) if any(register)), len(registers))
    return min(first, MAX_FILLING)


def _printable(data: bytes) -> str:
    """Return the printable characters at the beginning, with the one NUL that fills a register left out."""
    end = next((place for place, octet in enumerate(data) if not 0x20 <= octet <= 0x7E), len(data))
    return data[:end].decode("ascii")


def _agree(found: list[list[Guess]]) -> None:
    """Weigh the guesses by the one order in which all registers together make the most sense."""

    def sense(family: str) -> float:
        own = [[guess for guess in here if _is_of(guess, family)] for here in found]
        return _PRIOR[family] * sum(guess.score * guess.width for guess in layout(own))

    agreed = max(ORDERS[4], key=sense)
    for here in found:
        for guess in here:
            if guess.type != "string":
                guess.score = min(guess.score * (AGREED if _is_of(guess, agreed) else OTHER), SUREST)


def _is_of(guess: Guess, family: str) -> bool:
    return guess.type == "string" or guess.order == related_order(family, guess.type)
