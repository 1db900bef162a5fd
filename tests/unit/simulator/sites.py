"""Small sites for tests: no noise where a test counts, plain numbers everywhere."""

from __future__ import annotations

from random import Random

from services.simulator.devices import (
    Battery,
    BatteryParameters,
    Genset,
    GensetParameters,
    GridMeter,
    GridMeterParameters,
    Load,
    LoadParameters,
    PvInverter,
    PvInverterParameters,
)
from services.simulator.site import Site, random_of

STEP_MS = 100
HOUR_MS = 3_600_000


class Plant:
    """A site with one device of each class, and names for them."""

    def __init__(self, *, acceleration: int = 60, start_h: float = 12, seed: int = 1) -> None:
        """Build it; `start_h` is the time of day in hours."""
        self.grid = GridMeter("grid", GridMeterParameters(), random_of(seed, "grid"))
        self.pv = PvInverter("pv", PvInverterParameters(rated_kw=120, peak_kw=140), random_of(seed, "pv"))
        self.battery = Battery("battery", battery_parameters(), random_of(seed, "battery"))
        self.genset = Genset(
            "genset",
            GensetParameters(rated_kw=80, min_load_kw=20, set_point_kw=50, start_delay_s=30, ramp_kw_per_s=1),
            random_of(seed, "genset"),
        )
        self.load = Load("load", LoadParameters(profile_kw=(90.0,) * 24), random_of(seed, "load"))
        self.devices = (self.grid, self.pv, self.battery, self.genset, self.load)
        self.site = Site(self.devices, step_ms=STEP_MS, acceleration=acceleration, start_ms=round(start_h * HOUR_MS))

    def run(self, steps: int) -> None:
        """Step it."""
        for _ in range(steps):
            self.site.step()

    def readings(self) -> list[dict[str, float]]:
        """Return all readings of all devices."""
        return [device.readings() for device in self.devices]


def battery_parameters(**changes: float) -> BatteryParameters:
    """Return a 100 kW, 200 kWh battery with 90 % efficiency each way."""
    values = {
        "rated_kw": 100, "capacity_kwh": 200, "initial_soc": 50, "charge_efficiency": 0.9,
        "discharge_efficiency": 0.9, "ramp_kw_per_s": 50, "watchdog_s": 0,
    }  # fmt: skip
    return BatteryParameters.model_validate(values | changes)


def lone_battery(**changes: float) -> tuple[Battery, Site]:
    """Return a battery on a grid and nothing else; a step is 6 simulated seconds."""
    battery = Battery("battery", battery_parameters(**changes), Random(1))
    grid = GridMeter("grid", GridMeterParameters(), Random(1))
    return battery, Site((grid, battery), step_ms=STEP_MS, acceleration=60, start_ms=0)
