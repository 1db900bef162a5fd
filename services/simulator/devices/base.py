"""What every simulated device is: readings, writable points with their range, a step.

Power is whole watts, time whole milliseconds and energy whole watt-milliseconds, so the
balance of the site and the energy counters are exact, not merely close.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, Final, NamedTuple

from libs.errors import InvalidError
from libs.validation import Model

WATT_MS_PER_KWH: Final = 3_600_000_000
W_PER_KW: Final = 1000


class Range(NamedTuple):
    """The values a writable point accepts, ends included."""

    low: float
    high: float


SWITCH: Final = Range(0, 1)


class Instant(NamedTuple):
    """One step: its length in simulated time, in the master's time, and the time of day at its end."""

    step: int
    simulated_ms: int
    real_ms: int
    time_of_day_ms: int


class Parameters(Model):
    """Base of the parameters of a device class; an unknown one is an error."""


class Energy:
    """A counter that never falls: the exact integral of a power."""

    def __init__(self) -> None:
        """Start at zero."""
        self.watt_ms = 0

    def add(self, power_w: int, duration_ms: int) -> None:
        """Add a power held for a time; a negative power adds nothing."""
        self.watt_ms += max(power_w, 0) * duration_ms

    @property
    def kwh(self) -> float:
        """The counter as a meter shows it."""
        return self.watt_ms / WATT_MS_PER_KWH


class Device(ABC):
    """A device of the site.

    What it measures changes only in `advance` and `settle`, so all registers of all
    devices belong to one step whenever they are read. What a master writes shows at once
    in the register it wrote and takes effect with the next step.
    """

    # Every point a register may carry; the subclass adds its own.
    POINTS: ClassVar[frozenset[str]] = frozenset({"step", "active_power"})
    WRITABLE: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, name: str, random: Random) -> None:
        """Keep the name (for errors) and the device's own random stream."""
        self.name = name
        self.random = random
        self.power_w = 0
        self.step = 0

    @abstractmethod
    def advance(self, instant: Instant) -> None:
        """Decide the power of this step from the device's own state."""

    def settle(self, instant: Instant) -> None:
        """Integrate, once the power balance of the site has fixed the step's power."""
        self.step = instant.step

    @abstractmethod
    def readings(self) -> dict[str, float]:
        """Return every point's present value in engineering units."""

    @abstractmethod
    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""

    @abstractmethod
    def write(self, point: str, value: float) -> None:
        """Take a value that `check` let through."""

    def check(self, point: str, value: float) -> None:
        """Refuse a value outside the point's range.

        Raises:
            InvalidError: the message names device, point, value and range.
        """
        low, high = self.ranges()[point]
        if not low <= value <= high:
            msg = f"{self.name}: {point} takes {low:g} to {high:g}, not {value:g}"
            raise InvalidError(msg)

    def common(self) -> dict[str, float]:
        """Return the readings all devices have."""
        return {"step": self.step, "active_power": self.power_w / W_PER_KW}


def approach(now_w: int, target_w: int, rate_kw_per_s: float, duration_ms: int) -> int:
    """Move a power toward its target by no more than the ramp allows, and by at least 1 W."""
    limit_w = max(int(rate_kw_per_s * duration_ms), 1)
    return min(max(target_w, now_w - limit_w), now_w + limit_w)
