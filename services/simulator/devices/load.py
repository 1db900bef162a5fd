"""The load of the site: a daily profile with noise, scaled by whoever writes `load_scale`."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Final

from pydantic import Field

from services.simulator.devices.base import W_PER_KW, Device, Energy, Instant, Parameters, Range

HOUR_MS: Final = 3_600_000
HOURS: Final = 24


class LoadParameters(Parameters):
    """A day in 24 hourly means, joined by straight lines."""

    profile_kw: tuple[float, ...] = Field(min_length=HOURS, max_length=HOURS)
    noise_percent: float = Field(default=2.0, ge=0, le=50)
    power_factor: float = Field(default=0.95, gt=0, le=1)
    max_scale_percent: float = Field(default=300.0, gt=0)


class Load(Device):
    """Consumption is positive: load = pv + battery + genset + grid."""

    POINTS: ClassVar[frozenset[str]] = Device.POINTS | {
        "reactive_power", "demand", "shed_power", "load_scale", "energy", "shedding",
    }  # fmt: skip
    WRITABLE: ClassVar[frozenset[str]] = frozenset({"load_scale"})

    def __init__(self, name: str, parameters: LoadParameters, random: Random) -> None:
        """Start with the whole profile and nothing shed."""
        super().__init__(name, random)
        self.parameters = parameters
        self.scale_percent = 100.0
        self.demand_w = 0
        self.energy = Energy()

    def profile_w(self, time_of_day_ms: int) -> float:
        """Return the profile between its two hourly values."""
        profile = self.parameters.profile_kw
        hour, rest = divmod(time_of_day_ms, HOUR_MS)
        start, end = profile[hour % HOURS], profile[(hour + 1) % HOURS]
        return (start + (end - start) * rest / HOUR_MS) * W_PER_KW

    def advance(self, instant: Instant) -> None:
        """Decide the power of this step."""
        noise = 1 + self.random.uniform(-1, 1) * self.parameters.noise_percent / 100
        wanted = self.profile_w(instant.time_of_day_ms) * noise * self.scale_percent / 100
        self.demand_w = max(round(wanted), 0)
        self.power_w = self.demand_w

    def settle(self, instant: Instant) -> None:
        """Integrate the energy."""
        super().settle(instant)
        self.energy.add(self.power_w, instant.simulated_ms)

    def readings(self) -> dict[str, float]:
        """Return every point's present value."""
        factor = self.parameters.power_factor
        return self.common() | {
            "reactive_power": self.power_w / W_PER_KW * (1 - factor**2) ** 0.5 / factor,
            "demand": self.demand_w / W_PER_KW,
            "shed_power": (self.demand_w - self.power_w) / W_PER_KW,
            "load_scale": self.scale_percent,
            "energy": self.energy.kwh,
            "shedding": float(self.power_w < self.demand_w),
        }

    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""
        return {"load_scale": Range(0, self.parameters.max_scale_percent)}

    def write(self, point: str, value: float) -> None:  # noqa: ARG002 - only one point
        """Take a checked value."""
        self.scale_percent = value
