"""The meter at the grid connection: its power is what closes the site's balance."""

from __future__ import annotations

import math
from random import Random
from typing import ClassVar, Final

from pydantic import Field

from services.simulator.devices.base import (
    SWITCH,
    W_PER_KW,
    Device,
    Energy,
    Instant,
    Parameters,
    Range,
)

PHASES: Final = ("l1", "l2", "l3")
# Shares of the three phases; they sum to one.
PHASE_SHARES: Final = (0.34, 0.33, 0.33)
FREQUENCY_SPREAD_HZ: Final = 0.015
VOLTAGE_SPREAD: Final = 0.002


class GridMeterParameters(Parameters):
    """Nominal values of the connection."""

    nominal_v: float = Field(default=230.0, gt=0, description="phase to neutral")
    nominal_hz: float = Field(default=50.0, gt=0)
    power_factor: float = Field(default=0.95, gt=0, le=1)


class GridMeter(Device):
    """Import is positive. `breaker` opens and closes the connection.

    Voltage and frequency are those of the grid's side, so they stay while it is open.
    """

    POINTS: ClassVar[frozenset[str]] = Device.POINTS | {
        "breaker", "breaker_closed", "reactive_power", "frequency", "power_factor",
        "import_energy", "export_energy", "status_word", "time_of_day",
        *(f"voltage_{phase}" for phase in PHASES),
        *(f"current_{phase}" for phase in PHASES),
    }  # fmt: skip
    WRITABLE: ClassVar[frozenset[str]] = frozenset({"breaker"})

    def __init__(self, name: str, parameters: GridMeterParameters, random: Random) -> None:
        """Start connected."""
        super().__init__(name, random)
        self.parameters = parameters
        self.breaker = True
        self.closed = True
        self.frequency = parameters.nominal_hz
        self.voltages = [parameters.nominal_v] * len(PHASES)
        self.time_of_day_ms = 0
        self.imported = Energy()
        self.exported = Energy()

    def advance(self, instant: Instant) -> None:
        """Move the breaker and the grid's voltage and frequency; the site sets the power."""
        self.closed = self.breaker
        self.time_of_day_ms = instant.time_of_day_ms
        parameters = self.parameters
        self.frequency = parameters.nominal_hz + self.random.gauss(0, FREQUENCY_SPREAD_HZ)
        self.voltages = [parameters.nominal_v * (1 + self.random.gauss(0, VOLTAGE_SPREAD)) for _ in PHASES]

    def settle(self, instant: Instant) -> None:
        """Count import and export apart."""
        super().settle(instant)
        self.imported.add(self.power_w, instant.simulated_ms)
        self.exported.add(-self.power_w, instant.simulated_ms)

    def readings(self) -> dict[str, float]:
        """Return every point's present value."""
        factor = self.parameters.power_factor
        importing = self.power_w > 0
        readings = self.common() | {
            "breaker": float(self.breaker),
            "breaker_closed": float(self.closed),
            "reactive_power": self.power_w / W_PER_KW * math.tan(math.acos(factor)),
            "frequency": self.frequency,
            "power_factor": math.copysign(factor, self.power_w) if self.power_w else 1.0,
            "import_energy": self.imported.kwh,
            "export_energy": self.exported.kwh,
            "status_word": self.closed | importing << 1 | (self.power_w < 0) << 2,
            "time_of_day": self.time_of_day_ms / 1000,
        }
        for phase, share, voltage in zip(PHASES, PHASE_SHARES, self.voltages, strict=True):
            readings[f"voltage_{phase}"] = voltage
            readings[f"current_{phase}"] = abs(self.power_w) * share / factor / voltage
        return readings

    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""
        return {"breaker": SWITCH}

    def write(self, point: str, value: float) -> None:  # noqa: ARG002 - only one point
        """Order the breaker closed (1) or open (0)."""
        self.breaker = bool(value)
