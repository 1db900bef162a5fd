"""From raw numbers to engineering units: value = raw * scale + offset.

The scale is the point's own, times what another register of the same answer says: a power of
ten, as SunSpec's scale factors, or the factor itself. Value and scale come from one answer, so a
device that changes both at once is never read half and half. Scales too far away for that stand
behind the answer's bytes, as `far` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.comsrv.contract import Values, quality_code
from services.comsrv.plugins.modbus.mapping import MAX_READ, ScaleRegister, Wire
from services.comsrv.plugins.modbus.wiretypes import TYPES, byte_places, from_wire

# SunSpec allows -10 to 10, and 0x8000 for a scale factor that the device does not have.
MAX_POWER: Final = 10
NO_SCALE: Final = quality_code("bad:no_scale")

Mark = Callable[[NDArray[np.intp], int], None]


class Stretch(NamedTuple):
    """Registers one after the other."""

    address: int
    registers: int


class _Factors(NamedTuple):
    """Scale registers of one type: their bytes, the points that use each, and which it is for them."""

    dtype: str
    power: bool
    gather: NDArray[np.intp]
    points: NDArray[np.intp]
    which: NDArray[np.intp]


class Scaling:
    """Scales the values of a block."""

    def __init__(self, wires: Sequence[Wire], address: int, count: int = 0, far: Sequence[Stretch] = ()) -> None:
        """Prepare the arrays; a reversed bit is 1 - bit."""
        self._scale = np.array([-1.0 if wire.point.reverse else wire.point.scale for wire in wires])
        self._offset = np.array([1.0 if wire.point.reverse else wire.point.offset for wire in wires])
        self._factors = _factors(wires, address, _far_places(count, far))
        self._linear = bool((self._scale != 1.0).any() or (self._offset != 0.0).any() or self._factors)

    def apply(self, raw: Values, octets: NDArray[np.uint8], mark: Mark) -> Values:
        """Return the values in engineering units; points without a scale are marked."""
        if not self._linear:
            return raw
        scale = self._scale
        if self._factors:
            scale = scale.copy()
            for group in self._factors:
                numbers = octets[group.gather].view(group.dtype)[:, 0].astype(np.float64)
                factors = np.power(10.0, numbers) if group.power else numbers
                wrong = ~_usable(numbers, power=group.power)[group.which]
                if wrong.any():
                    mark(group.points[wrong], NO_SCALE)
                scale[group.points] *= np.where(wrong, 0.0, factors[group.which])
        scaled: Values = raw * scale + self._offset
        return scaled


def factor_of(scale: ScaleRegister, data: bytes) -> float | None:
    """Return the factor that a scale register's bytes stand for, None where they stand for none."""
    kind = TYPES[scale.type]
    number = np.frombuffer(from_wire(scale.order, data, kind.size), kind.numpy).astype(np.float64)
    if not _usable(number, power=scale.power)[0]:
        return None
    return float(10.0 ** number[0] if scale.power else number[0])


def _usable(numbers: Values, *, power: bool) -> NDArray[np.bool_]:
    return np.asarray(np.abs(numbers) <= MAX_POWER if power else np.isfinite(numbers) & (numbers != 0))


def far_scales(wires: Sequence[Wire]) -> tuple[Stretch, ...]:
    """Return the registers of scales that have requests of their own, neighbors together."""
    scales = sorted({(wire.scale.address, wire.scale.end) for wire in wires if wire.scale and wire.scale.far})
    found: list[Stretch] = []
    for start, end in scales:
        if found and end - found[-1].address <= MAX_READ and start <= found[-1].address + found[-1].registers:
            found[-1] = found[-1]._replace(registers=max(found[-1].registers, end - found[-1].address))
        else:
            found.append(Stretch(start, end - start))
    return tuple(found)


def _far_places(count: int, far: Sequence[Stretch]) -> dict[int, int]:
    """Return register -> where its bytes stand behind those of the block's `count` registers."""
    registers = [stretch.address + offset for stretch in far for offset in range(stretch.registers)]
    return {register: 2 * (count + index) for index, register in enumerate(registers)}


def _factors(wires: Sequence[Wire], address: int, far: dict[int, int]) -> list[_Factors]:
    groups: dict[tuple[str, bool], list[tuple[int, ScaleRegister]]] = {}
    for index, wire in enumerate(wires):
        if wire.scale is not None:
            groups.setdefault((wire.scale.type, wire.scale.power), []).append((index, wire.scale))
    found = []
    for (name, power), members in groups.items():
        kind = TYPES[name]
        # Dozens of points share a scale factor.
        registers = list(dict.fromkeys(scale for _, scale in members))
        gather = [
            [
                (far[scale.address] if scale.far else 2 * (scale.address - address)) + place
                for place in byte_places(scale.order, kind.size)
            ]
            for scale in registers
        ]
        found.append(
            _Factors(
                kind.numpy,
                power,
                np.array(gather, np.intp),
                np.array([index for index, _ in members], np.intp),
                np.array([registers.index(scale) for _, scale in members], np.intp),
            )
        )
    return found
