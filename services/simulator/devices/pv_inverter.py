"""A photovoltaic inverter: irradiance by time of day, clouds, a power limit."""

from __future__ import annotations

import math
from random import Random
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from services.simulator.devices.base import (
    SWITCH,
    W_PER_KW,
    Device,
    Energy,
    Instant,
    Parameters,
    Range,
)

HOUR_MS: Final = 3_600_000
# Irradiance of the standard test conditions (IEC 60904-3), at which modules are rated.
STANDARD_IRRADIANCE: Final = 1000.0
# Exponent that makes the sine's flanks as flat as a clear day's measured curve.
CLEAR_SKY_EXPONENT: Final = 1.2
DEEPEST_CLOUD: Final = 0.15
MODULE_HEATING_C: Final = 25.0
AMBIENT_C: Final = 20.0


class PvInverterParameters(Parameters):
    """Ratings, the day's length, and how the clouds behave."""

    rated_kw: float = Field(gt=0)
    peak_kw: float = Field(gt=0, description="modules at 1000 W/m2")
    efficiency: float = Field(default=0.97, gt=0, le=1)
    ramp_kw_per_s: float = Field(default=25.0, gt=0)
    sunrise_h: float = Field(default=6.0, ge=0, lt=24)
    sunset_h: float = Field(default=20.0, gt=0, le=24)
    cloud_depth: float = Field(default=0.25, ge=0, le=1, description="spread of the cloud factor")
    cloud_period_s: float = Field(default=600.0, gt=0, description="how long a cloud lasts")

    @model_validator(mode="after")
    def _day_has_a_length(self) -> Self:
        if self.sunset_h <= self.sunrise_h:
            msg = f"sunset_h {self.sunset_h:g} must be after sunrise_h {self.sunrise_h:g}"
            raise ValueError(msg)
        return self


class PvInverter(Device):
    """Production is positive. `power_limit` (percent of the rating) and `enable` curtail it."""

    POINTS: ClassVar[frozenset[str]] = Device.POINTS | {
        "available_power", "irradiance", "temperature", "power_limit", "enable",
        "running", "curtailed", "energy", "status_word", "dc_power",
    }  # fmt: skip
    WRITABLE: ClassVar[frozenset[str]] = frozenset({"power_limit", "enable"})

    def __init__(self, name: str, parameters: PvInverterParameters, random: Random) -> None:
        """Start enabled, without a limit, under a clear sky."""
        super().__init__(name, random)
        self.parameters = parameters
        self.limit_percent = 100.0
        self.enabled = True
        self.cloud = 0.0
        self.irradiance = 0.0
        self.available_w = 0
        self.energy = Energy()

    def clear_sky(self, time_of_day_ms: int) -> float:
        """Return the irradiance without clouds, W/m2."""
        parameters = self.parameters
        day_h = parameters.sunset_h - parameters.sunrise_h
        position = (time_of_day_ms / HOUR_MS - parameters.sunrise_h) / day_h
        if not 0 < position < 1:
            return 0.0
        return STANDARD_IRRADIANCE * math.pow(math.sin(math.pi * position), CLEAR_SKY_EXPONENT)

    def _cloud_factor(self, simulated_ms: int) -> float:
        # An Ornstein-Uhlenbeck process in its exact discrete form, so that its spread
        # doesn't depend on the length of a step.
        keep = math.exp(-simulated_ms / 1000 / self.parameters.cloud_period_s)
        spread = self.parameters.cloud_depth * math.sqrt(1 - keep * keep)
        self.cloud = self.cloud * keep + self.random.gauss(0, 1) * spread
        return min(max(1 - abs(self.cloud), DEEPEST_CLOUD), 1.0)

    def advance(self, instant: Instant) -> None:
        """Decide the power of this step."""
        parameters = self.parameters
        clouds = self._cloud_factor(instant.simulated_ms)
        self.irradiance = self.clear_sky(instant.time_of_day_ms) * clouds
        dc_kw = parameters.peak_kw * self.irradiance / STANDARD_IRRADIANCE
        ac_kw = min(dc_kw * parameters.efficiency, parameters.rated_kw)
        self.available_w = int(ac_kw * W_PER_KW)
        limit_w = int(parameters.rated_kw * self.limit_percent * W_PER_KW / 100)
        target_w = min(self.available_w, limit_w) if self.enabled else 0
        # The ramp holds on the way up only: no inverter gives more than the sun does.
        rise_w = max(int(parameters.ramp_kw_per_s * instant.simulated_ms), 1)
        self.power_w = min(target_w, self.power_w + rise_w)

    def settle(self, instant: Instant) -> None:
        """Integrate the energy."""
        super().settle(instant)
        self.energy.add(self.power_w, instant.simulated_ms)

    def readings(self) -> dict[str, float]:
        """Return every point's present value."""
        running = self.power_w > 0
        curtailed = self.power_w < self.available_w
        heating = MODULE_HEATING_C * self.irradiance / STANDARD_IRRADIANCE
        return self.common() | {
            "available_power": self.available_w / W_PER_KW,
            "dc_power": self.power_w / W_PER_KW / self.parameters.efficiency,
            "irradiance": self.irradiance,
            "temperature": AMBIENT_C + heating,
            "power_limit": self.limit_percent,
            "enable": float(self.enabled),
            "running": float(running),
            "curtailed": float(curtailed),
            "energy": self.energy.kwh,
            "status_word": running | curtailed << 1 | (not self.enabled) << 2,
        }

    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""
        return {"power_limit": Range(0, 100), "enable": SWITCH}

    def write(self, point: str, value: float) -> None:
        """Take a checked value."""
        if point == "power_limit":
            self.limit_percent = value
        else:
            self.enabled = bool(value)
