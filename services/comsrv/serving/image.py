"""The mapped points as registers and bits: whole arrays in, bytes out.

A register that has nothing to show (no value yet, or one that its type can't hold) reads
as the pattern SunSpec calls "not implemented": NaN, 0x8000 for signed, 0xFFFF for unsigned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.comsrv.serving.settings import Mirrors
from services.comsrv.serving.table import ADDRESSES, TYPES, Served

# Quality as OPC numbers it.
GOOD, UNCERTAIN, BAD = 192, 64, 0
MAX_AGE_S: Final = 65535
# Modbus exception codes (MODBUS Application Protocol V1.1b3, section 7).
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, ACKNOWLEDGE, BUSY = 1, 2, 3, 4, 5, 6
GATEWAY_PATH, GATEWAY_TARGET = 10, 11


class RefusedRequest(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is answered with an exception code."""

    def __init__(self, code: int) -> None:
        """Keep the code."""
        super().__init__(f"exception {code}")
        self.code = code


class Readings(NamedTuple):
    """What the mapped points are at one instant, in the order of the table.

    values: NaN where there is none; quality: 192, 64 or 0; age_s: seconds since the device last
    answered with the value.
    """

    values: NDArray[np.float64]
    quality: NDArray[np.int64]
    age_s: NDArray[np.float64]


class _Group(NamedTuple):
    """Points of one data type: which they are, where their bytes go, and how to make them."""

    dtype: np.dtype[np.generic]
    points: NDArray[np.intp]
    targets: NDArray[np.intp]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


class Sheet:
    """One table of one unit."""

    def __init__(self, rows: Sequence[tuple[int, Served]], mirrors: Mirrors) -> None:
        """Prepare the index arrays for the rows (position in the whole table, row)."""
        self.bits = rows[0][1].bits
        self.data: NDArray[np.uint8] = np.zeros(ADDRESSES * (1 if self.bits else 2), np.uint8)
        # Which point stands at an address; -1 for none.
        self.owner: NDArray[np.int32] = np.full(ADDRESSES, -1, np.int32)
        self.mirror: NDArray[np.bool_] = np.zeros(ADDRESSES, np.bool_)
        self._groups: list[_Group] = []
        spans = [(point, served.address + step) for point, served in rows for step in range(served.width)]
        addresses = np.array([address for _, address in spans], np.intp)
        self._owners = np.array([point for point, _ in spans], np.intp)
        self.owner[addresses] = self._owners
        self._quality_at = self._mirrored(addresses, mirrors.quality)
        self._age_at = self._mirrored(addresses, None if self.bits else mirrors.age)
        self._bit_at = addresses
        if not self.bits:
            for dtype in dict.fromkeys(TYPES[served.type][0] for _, served in rows):
                self._groups.append(_group(dtype, [row for row in rows if TYPES[row[1].type][0] == dtype]))

    def _mirrored(self, addresses: NDArray[np.intp], distance: int | None) -> NDArray[np.intp] | None:
        if distance is None:
            return None
        self.mirror[addresses + distance] = True
        return addresses + distance

    def update(self, readings: Readings) -> NDArray[np.intp]:
        """Show readings; return the points whose value the registers can't hold."""
        if self.bits:
            values = readings.values[self._owners]
            self.data[self._bit_at] = np.nan_to_num(values) != 0
            if self._quality_at is not None:
                self.data[self._quality_at] = readings.quality[self._owners] == GOOD
            return self._owners[np.isnan(values)]
        lost = [self._show(group, readings.values) for group in self._groups]
        if self._quality_at is not None:
            self._put(self._quality_at, readings.quality[self._owners].astype(np.float64))
        if self._age_at is not None:
            self._put(self._age_at, np.minimum(np.floor(readings.age_s[self._owners]), MAX_AGE_S))
        return np.concatenate(lost)

    def _show(self, group: _Group, values: NDArray[np.float64]) -> NDArray[np.intp]:
        with np.errstate(all="ignore"):
            raw = (values[group.points] - group.offset) / group.scale
            if group.dtype.kind == "f":
                packed = raw.astype(group.dtype)
                lost = ~np.isfinite(packed.astype(np.float64))
                packed[lost] = np.nan
            else:
                limits = np.iinfo(group.dtype.str)
                raw = np.copysign(np.floor(np.round(np.abs(raw), 9) + 0.5), raw)
                # The largest 64-bit integers have no float of their own: below the limit is within it.
                lost = ~((raw >= float(limits.min)) & (raw < float(limits.max) + 1.0))
                packed = np.where(lost, 0.0, raw).astype(group.dtype)
                packed[lost] = limits.max if limits.min == 0 else limits.min
        self.data[group.targets] = packed.view(np.uint8).reshape(group.targets.shape)
        return group.points[lost]

    def _put(self, addresses: NDArray[np.intp], numbers: NDArray[np.float64]) -> None:
        words = numbers.astype(np.uint16)
        self.data[2 * addresses] = words >> 8
        self.data[2 * addresses + 1] = words & 0xFF


class Image:
    """Every table of every unit."""

    def __init__(self, rows: Sequence[Served], mirrors: Mirrors) -> None:
        """Lay out the rows; nothing has a value yet."""
        self.rows = tuple(rows)
        self.sheets: dict[tuple[int, str], Sheet] = {}
        for place in dict.fromkeys((served.unit, served.table) for served in rows):
            members = [(index, served) for index, served in enumerate(rows) if (served.unit, served.table) == place]
            self.sheets[place] = Sheet(members, mirrors)
        self.units = frozenset(unit for unit, _ in self.sheets)
        # Which points may be read where stale values are refused.
        self.fresh: NDArray[np.bool_] = np.zeros(len(rows), np.bool_)

    def update(self, readings: Readings, stale_after_s: float) -> None:
        """Show readings; what is bad, too old or can't be held is not fresh."""
        self.fresh = (readings.quality != BAD) & (readings.age_s <= stale_after_s) & ~np.isnan(readings.values)
        for sheet in self.sheets.values():
            self.fresh[sheet.update(readings)] = False

    def unit(self, asked: int) -> int:
        """Return the unit that a request means.

        0 and 255 stand for "this device" on TCP (MODBUS Messaging on TCP/IP V1.0b, section 4.4.2.2),
        which is clear where there is only one.
        """
        if asked in self.units:
            return asked
        if asked in {0, 255} and len(self.units) == 1:
            return next(iter(self.units))
        raise RefusedRequest(GATEWAY_PATH)

    def read(self, unit: int, table: str, address: int, count: int, *, hold: bool) -> bytes:
        """Return the data bytes of an answer.

        Raises:
            RefusedRequest: 2 for an address that shows nothing, 11 for a value that is not fresh.
        """
        sheet = self.sheets.get((unit, table))
        if sheet is None or address + count > ADDRESSES:
            raise RefusedRequest(ILLEGAL_ADDRESS)
        owners, mirrored = sheet.owner[address : address + count], sheet.mirror[address : address + count]
        if not ((owners >= 0) | mirrored).all():
            raise RefusedRequest(ILLEGAL_ADDRESS)
        if not hold and not (self.fresh[owners] | mirrored).all():
            raise RefusedRequest(GATEWAY_TARGET)
        if sheet.bits:
            return np.packbits(sheet.data[address : address + count], bitorder="little").tobytes()
        return sheet.data[2 * address : 2 * (address + count)].tobytes()

    def covered(self, unit: int, table: str, address: int, count: int) -> list[Served]:
        """Return the rows that a write to a span means, in the order of their addresses.

        Raises:
            RefusedRequest: 2 where the span holds an address that can't be written, or a part of a value.
        """
        sheet = self.sheets.get((unit, table))
        if sheet is None or address + count > ADDRESSES:
            raise RefusedRequest(ILLEGAL_ADDRESS)
        owners = sheet.owner[address : address + count]
        if (owners < 0).any():
            raise RefusedRequest(ILLEGAL_ADDRESS)
        found = [self.rows[index] for index in dict.fromkeys(owners.tolist())]
        whole = sum(served.width for served in found) == count
        if not whole or not all(served.writable for served in found):
            raise RefusedRequest(ILLEGAL_ADDRESS)
        return found


def _group(dtype: str, rows: Sequence[tuple[int, Served]]) -> _Group:
    targets = [[2 * served.address + place for place in _places(served)] for _, served in rows]
    return _Group(
        np.dtype(dtype),
        np.array([index for index, _ in rows], np.intp),
        np.array(targets, np.intp),
        np.array([served.scale for _, served in rows]),
        np.array([served.offset for _, served in rows]),
    )


def _places(served: Served) -> list[int]:
    """Return where each byte of the value goes, most significant first, from the start of its registers."""
    words = list(range(served.width))
    if served.byte_order in {"CDAB", "DCBA"}:
        words.reverse()
    swapped = served.byte_order in {"BADC", "DCBA"}
    return [2 * word + (1 - byte if swapped else byte) for word in words for byte in (0, 1)]


def decode(served: Served, data: bytes) -> float:
    """Return the value that written register bytes stand for, in engineering units; NaN where there is none."""
    packed = bytes(data[place] for place in _places(served))
    raw = np.frombuffer(packed, TYPES[served.type][0])[0]
    return float(raw) * served.scale + served.offset
