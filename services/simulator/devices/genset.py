"""A diesel generator: a start and stop coil, a starting delay, a ramp, a minimum load."""

from __future__ import annotations

from enum import IntEnum
from random import Random
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from services.simulator.devices.base import (
    SWITCH,
    W_PER_KW,
    WATT_MS_PER_KWH,
    Device,
    Energy,
    Instant,
    Parameters,
    Range,
    approach,
)

HOUR_MS: Final = 3_600_000
COLD_C: Final = 30.0
HOT_C: Final = 88.0
RATED_RPM: Final = 1500
CRANKING_RPM: Final = 250
LOW_FUEL_PERCENT: Final = 15.0


class State(IntEnum):
    """What the set is doing; the numbers are those of its state register."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3


class GensetParameters(Parameters):
    """Ratings, times and fuel. The fuel rate is a straight line over the power."""

    rated_kw: float = Field(gt=0)
    min_load_kw: float = Field(default=0.0, ge=0)
    start_delay_s: float = Field(default=15.0, ge=0)
    ramp_kw_per_s: float = Field(default=10.0, gt=0)
    set_point_kw: float = Field(default=0.0, ge=0, description="before anybody writes one")
    tank_l: float = Field(default=500.0, gt=0)
    idle_l_per_h: float = Field(default=4.0, ge=0)
    l_per_kwh: float = Field(default=0.25, ge=0)

    @model_validator(mode="after")
    def _set_point_in_range(self) -> Self:
        if not self.min_load_kw <= self.set_point_kw <= self.rated_kw:
            msg = (
                f"set_point_kw {self.set_point_kw:g} must be between "
                f"min_load_kw {self.min_load_kw:g} and rated_kw {self.rated_kw:g}"
            )
            raise ValueError(msg)
        return self


class Genset(Device):
    """Production is positive. Running, it never gives less than its minimum load."""

    POINTS: ClassVar[frozenset[str]] = Device.POINTS | {
        "start", "set_point", "refuel", "state", "running", "starting", "out_of_fuel", "low_fuel",
        "speed", "coolant_temperature", "fuel_level", "fuel_used", "run_hours", "energy",
        "status_word",
    }  # fmt: skip
    WRITABLE: ClassVar[frozenset[str]] = frozenset({"start", "set_point", "refuel"})

    def __init__(self, name: str, parameters: GensetParameters, random: Random) -> None:
        """Start at standstill with a full tank."""
        super().__init__(name, random)
        self.parameters = parameters
        self.state = State.STOPPED
        self.start = False
        self.refuel = False
        self.set_point_w = round(parameters.set_point_kw * W_PER_KW)
        self.starting_ms = 0
        self.run_ms = 0
        self.fuel_l = parameters.tank_l
        self.used_l = 0.0
        self.energy = Energy()

    @property
    def max_w(self) -> int:
        """What the set could give now: its rating while it runs, else nothing."""
        running = self.state is State.RUNNING
        return int(self.parameters.rated_kw * W_PER_KW) if running else 0

    def _change_state(self, simulated_ms: int) -> None:
        run = self.start and self.fuel_l > 0
        if not run and self.fuel_l <= 0:
            # Without fuel there is no ramp down.
            self.state = State.STOPPED
        elif not run:
            loaded = self.state in {State.RUNNING, State.STOPPING} and self.power_w > 0
            self.state = State.STOPPING if loaded else State.STOPPED
        elif self.state is State.STOPPED:
            self.state, self.starting_ms = State.STARTING, 0
        elif self.state is State.STOPPING:
            self.state = State.RUNNING
        if self.state is State.STARTING:
            self.starting_ms += simulated_ms
            if self.starting_ms > self.parameters.start_delay_s * 1000:
                self.state = State.RUNNING

    def advance(self, instant: Instant) -> None:
        """Start or stop as the coil says, then follow the set-point along the ramp."""
        self._change_state(instant.simulated_ms)
        if self.state in {State.STOPPED, State.STARTING}:
            self.power_w = 0
            return
        target_w = self.set_point_w if self.state is State.RUNNING else 0
        ramp = self.parameters.ramp_kw_per_s
        self.power_w = approach(self.power_w, target_w, ramp, instant.simulated_ms)
        if self.state is State.RUNNING:
            self.power_w = max(self.power_w, round(self.parameters.min_load_kw * W_PER_KW))

    def settle(self, instant: Instant) -> None:
        """Burn fuel and count hours and energy."""
        super().settle(instant)
        self.energy.add(self.power_w, instant.simulated_ms)
        if self.state is State.STOPPED:
            return
        self.run_ms += instant.simulated_ms
        parameters = self.parameters
        burnt_l = parameters.idle_l_per_h * instant.simulated_ms / HOUR_MS
        burnt_l += parameters.l_per_kwh * self.power_w * instant.simulated_ms / WATT_MS_PER_KWH
        burnt_l = min(burnt_l, self.fuel_l)
        self.fuel_l -= burnt_l
        self.used_l += burnt_l

    def readings(self) -> dict[str, float]:
        """Return every point's present value."""
        parameters = self.parameters
        speed = {State.STOPPED: 0, State.STARTING: CRANKING_RPM}.get(self.state, RATED_RPM)
        load_share = self.power_w / (parameters.rated_kw * W_PER_KW)
        fuel = 100 * self.fuel_l / parameters.tank_l
        running, low = self.state is State.RUNNING, fuel < LOW_FUEL_PERCENT
        return self.common() | {
            "start": float(self.start),
            "set_point": self.set_point_w / W_PER_KW,
            "refuel": float(self.refuel),
            "state": int(self.state),
            "running": float(running),
            "starting": float(self.state is State.STARTING),
            "out_of_fuel": float(self.fuel_l <= 0),
            "low_fuel": float(low),
            "speed": speed,
            "coolant_temperature": COLD_C + (HOT_C - COLD_C) * load_share,
            "fuel_level": fuel,
            "fuel_used": self.used_l,
            "run_hours": self.run_ms / HOUR_MS,
            "energy": self.energy.kwh,
            "status_word": running
            | (self.state is State.STARTING) << 1
            | (self.state is State.STOPPING) << 2
            | low << 8
            | (self.fuel_l <= 0) << 9,
        }

    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""
        parameters = self.parameters
        return {
            "start": SWITCH,
            "set_point": Range(parameters.min_load_kw, parameters.rated_kw),
            "refuel": SWITCH,
        }

    def write(self, point: str, value: float) -> None:
        """Take a checked value; writing 1 to `refuel` fills the tank, each time."""
        if point == "start":
            self.start = bool(value)
        elif point == "set_point":
            self.set_point_w = round(value * W_PER_KW)
        else:
            self.refuel = bool(value)
            if value:
                self.fuel_l = self.parameters.tank_l
