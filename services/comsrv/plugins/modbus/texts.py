"""Strings in registers, both ways.

Four packings: two characters a register, the first in the high byte (AB) or in the low byte (BA),
and one character a register, in the low byte (0A) or in the high byte (A0). A text ends at its
first NUL; blanks behind it are filling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidError
from services.comsrv.contract import GOOD, SENTINEL, Codes, quality_code
from services.comsrv.plugins.modbus.mapping import Wire

# Bytes that are no text of the declared encoding.
NO_TEXT: Final = quality_code("bad:no_text")


class TextDecoder:
    """Decodes the strings of a block, once for the same bytes."""

    def __init__(self, wires: Sequence[Wire], address: int) -> None:
        """Prepare one index array over all strings, and where each ends in what it gathers."""
        self.texts: tuple[str, ...] = ()
        self._wires = tuple(wires)
        places = [[2 * (wire.address - address) + place for place in text_places(wire)] for wire in wires]
        self._gather = np.array([place for found in places for place in found], np.intp)
        self._ends = np.cumsum([len(found) for found in places]).tolist()
        self._last: bytes | None = None
        self._codes: Codes = np.zeros(len(wires), np.uint8)

    def decode(self, octets: NDArray[np.uint8]) -> Codes:
        """Return the quality codes; the texts are in `texts`."""
        data = octets[self._gather].tobytes()
        if data != self._last:
            starts = [0, *self._ends[:-1]]
            parts = (data[start:end] for start, end in zip(starts, self._ends, strict=True))
            read = [read_text(wire, part) for wire, part in zip(self._wires, parts, strict=True)]
            self.texts = tuple(text for text, _ in read)
            self._codes = np.array([code for _, code in read], np.uint8)
            self._last = data
        return self._codes


def read_text(wire: Wire, characters: bytes) -> tuple[str, int]:
    """Return the text that characters spell, and its quality code."""
    ended = characters.split(b"\0", 1)[0].rstrip(b" ")
    if not ended and wire.sentinels:
        return "", SENTINEL
    try:
        return ended.decode(wire.encoding), GOOD
    except UnicodeDecodeError:
        return "", NO_TEXT


def text_places(wire: Wire) -> list[int]:
    """Return where the characters of a string stand among the bytes of its registers, in their order."""
    one = [wire.order.index(letter) for letter in "AB" if letter in wire.order]
    return [2 * register + place for register in range(wire.width) for place in one]


def encode_text(wire: Wire, text: str) -> bytes:
    """Return the register bytes of a text, filled up with NUL.

    Raises:
        InvalidError: the encoding lacks a character, or the registers are too few.
    """
    try:
        characters = text.encode(wire.encoding)
    except UnicodeEncodeError as error:
        raise InvalidError(f"{text[error.start]!r} is not in {wire.encoding}") from None
    if b"\0" in characters:
        raise InvalidError("a text has no NUL; it would end there")
    places = text_places(wire)
    if len(characters) > len(places):
        raise InvalidError(f"{len(characters)} bytes of text do not fit into {len(places)}")
    data = bytearray(2 * wire.width)
    for place, character in zip(places, characters, strict=False):
        data[place] = character
    return bytes(data)


def decode_text(wire: Wire, data: bytes) -> str:
    """Return the text of register bytes, empty where they are none."""
    return read_text(wire, bytes(data[place] for place in text_places(wire)))[0]
