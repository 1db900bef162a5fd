"""What every importer makes of its file: tags as our tables can say them, and what they can't."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.errors import ConfigurationError, Problem

# Code that reads a table of a device, by the first digit of its addresses.
TABLES: Final = {"0": 1, "1": 2, "3": 4, "4": 3}
COILS: Final = 1
INPUTS: Final = 2
HOLDING: Final = 3
LAST_ADDRESS: Final = 65535
MAX_BYTES: Final = 32 * 2**20


class Choices(NamedTuple):
    """What the command line says of what a file may leave open; None where it says nothing."""

    unit: int | None = None
    byte_order: str | None = None
    first_address: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class Tag:
    """One tag: where it stands in the file, where on the wire (addresses count from 0), and what it means."""

    line: int
    name: str
    unit_id: int
    table: int
    address: int
    wire_type: str
    order: str = ""
    bit: int | None = None
    registers: int | None = None
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    readable: bool = True
    writable: bool = False
    unit: str = ""
    description: str = ""
    group: str = ""
    interval_ms: int | None = None

    @property
    def is_bool(self) -> bool:
        """True for coils, inputs and bits of registers."""
        return self.wire_type == "bool"


class Lost(NamedTuple):
    """What could not be taken over: a tag, or a setting of one (of the file where `tag` is empty)."""

    line: int
    tag: str
    what: str
    reason: str


class RefusedError(Exception):
    """A tag can't be taken over, and why."""


@dataclass
class Import:
    """All that a file says, in our words."""

    path: Path
    tags: list[Tag] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    protocol: str = "modbus_tcp"
    parameters: dict[str, Any] = field(default_factory=dict)
    polling: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def lose(self, line: int, tag: str, what: str, reason: str) -> None:
        """Note a tag or a setting that is not taken over."""
        self.lost.append(Lost(line, tag, what, reason))


def read_text(path: Path, encodings: tuple[str, ...] = ("utf-8-sig",)) -> str:
    """Return a file's text, in the first encoding that fits.

    Raises:
        ConfigurationError: it can't be read, is too large, or is none of the encodings.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError([Problem(str(path), f"is larger than {MAX_BYTES} bytes")])
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError([Problem(str(path), f"can't be read: {error.strerror}")]) from None
    if data.startswith(b"PK\x03\x04"):
        raise ConfigurationError([Problem(str(path), "is a workbook (.xlsx); save the sheet as CSV UTF-8")])
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
    raise ConfigurationError([Problem(f"{path}:{line}", f"is not {encodings[0].removesuffix('-sig').upper()}")])


def wire_address(digits: str, first: int) -> int:
    """Return an address as sent, from the number of a register that counts from `first`.

    Raises:
        RefusedError: there is no such register.
    """
    address = int(digits) - first
    if address < 0:
        raise RefusedError("addresses count from 1 and this is 0; if they count from 0, say --first-address 0")
    if address > LAST_ADDRESS:
        raise RefusedError(f"{digits} is beyond the last address, {LAST_ADDRESS + first}")
    return address


def number(text: str, column: str) -> float:
    """Return a number of a cell.

    Raises:
        RefusedError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise RefusedError(f"{column}: {text!r} is no number") from None
    if not abs(value) < float("inf"):
        raise RefusedError(f"{column}: {text!r} is not finite")
    return value
