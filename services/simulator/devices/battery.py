"""A battery system: its state of charge is the integral of its power, losses included."""

from __future__ import annotations

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

MAX_WATCHDOG_S: Final = 3600
MAX_HEARTBEAT: Final = 65535
# So near a limit (percent) it counts as reached: less than a watt is left there.
AT_LIMIT: Final = 0.005
AMBIENT_C: Final = 22.0
HEATING_C: Final = 12.0
# Terminal voltage over the state of charge, as a share of nominal: a flat lithium curve.
EMPTY_SHARE: Final = 0.92
FULL_SHARE: Final = 1.08


class BatteryParameters(Parameters):
    """Ratings, limits, losses and the watchdog."""

    rated_kw: float = Field(gt=0)
    capacity_kwh: float = Field(gt=0)
    nominal_v: float = Field(default=750.0, gt=0)
    min_soc: float = Field(default=10.0, ge=0, le=100)
    max_soc: float = Field(default=95.0, ge=0, le=100)
    initial_soc: float = Field(default=50.0, ge=0, le=100)
    charge_efficiency: float = Field(default=0.96, gt=0, le=1)
    discharge_efficiency: float = Field(default=0.96, gt=0, le=1)
    ramp_kw_per_s: float = Field(default=50.0, gt=0)
    watchdog_s: int = Field(default=60, ge=0, le=MAX_WATCHDOG_S, description="0 switches it off")

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if not self.min_soc < self.max_soc:
            msg = f"min_soc {self.min_soc:g} must be below max_soc {self.max_soc:g}"
            raise ValueError(msg)
        return self


class Battery(Device):
    """Discharge is positive.

    The watchdog counts the master's time, not the simulated one: it guards against a
    silent master. Any write to `set_point` or `heartbeat` feeds it; when it trips the
    battery goes to 0 kW and stays there until one of them is written again.
    """

    POINTS: ClassVar[frozenset[str]] = Device.POINTS | {
        "set_point", "enable", "heartbeat", "watchdog_time", "set_state_of_charge",
        "state_of_charge", "stored_energy", "dc_voltage", "dc_current", "temperature",
        "charge_energy", "discharge_energy", "max_charge_power", "max_discharge_power",
        "running", "watchdog_tripped", "low_limit", "high_limit", "status_word", "alarm_word",
    }  # fmt: skip
    WRITABLE: ClassVar[frozenset[str]] = frozenset(
        {"set_point", "enable", "heartbeat", "watchdog_time", "set_state_of_charge"}
    )

    def __init__(self, name: str, parameters: BatteryParameters, random: Random) -> None:
        """Start enabled, idle, at the initial state of charge."""
        super().__init__(name, random)
        self.parameters = parameters
        self.set_point_w = 0
        self.enabled = True
        self.heartbeat = 0
        self.watchdog_s = parameters.watchdog_s
        self.silent_ms = 0
        self.tripped = False
        self.stored_kwh = parameters.capacity_kwh * parameters.initial_soc / 100
        self.requested_soc = parameters.initial_soc
        self.soc_pending = False
        self.charged = Energy()
        self.discharged = Energy()

    @property
    def soc(self) -> float:
        """State of charge, percent of the capacity."""
        return 100 * self.stored_kwh / self.parameters.capacity_kwh

    def limit_w(self, power_w: int, duration_ms: int) -> int:
        """Cut a power to what rating and state of charge allow for that long.

        The result keeps its sign: a battery beyond a limit stops, it never turns around.
        """
        if not self.enabled or duration_ms <= 0:
            return 0
        parameters = self.parameters
        rated_w = int(parameters.rated_kw * W_PER_KW)
        per_w = duration_ms / WATT_MS_PER_KWH  # kWh that one watt moves in this time
        floor_kwh = parameters.capacity_kwh * parameters.min_soc / 100
        ceiling_kwh = parameters.capacity_kwh * parameters.max_soc / 100
        out_kwh = (self.stored_kwh - floor_kwh) * parameters.discharge_efficiency
        in_kwh = (ceiling_kwh - self.stored_kwh) / parameters.charge_efficiency
        most_out_w = max(min(rated_w, int(out_kwh / per_w)), 0)
        most_in_w = max(min(rated_w, int(in_kwh / per_w)), 0)
        return min(max(power_w, -most_in_w), most_out_w)

    def _watch(self, real_ms: int) -> None:
        self.silent_ms += real_ms
        if self.watchdog_s and self.set_point_w and self.silent_ms > self.watchdog_s * 1000:
            self.tripped = True

    def advance(self, instant: Instant) -> None:
        """Follow the set-point along the ramp, within the limits."""
        if self.soc_pending:
            self.stored_kwh = self.parameters.capacity_kwh * self.requested_soc / 100
            self.soc_pending = False
        self._watch(instant.real_ms)
        target_w = 0 if self.tripped else self.set_point_w
        ramp = self.parameters.ramp_kw_per_s
        wanted_w = approach(self.power_w, target_w, ramp, instant.simulated_ms)
        self.power_w = self.limit_w(wanted_w, instant.simulated_ms)

    def settle(self, instant: Instant) -> None:
        """Move the stored energy: more leaves the cells than arrives outside."""
        super().settle(instant)
        parameters = self.parameters
        moved_kwh = self.power_w * instant.simulated_ms / WATT_MS_PER_KWH
        if moved_kwh > 0:
            moved_kwh /= parameters.discharge_efficiency
        else:
            moved_kwh *= parameters.charge_efficiency
        left_kwh = self.stored_kwh - moved_kwh
        self.stored_kwh = min(max(left_kwh, 0.0), parameters.capacity_kwh)
        self.discharged.add(self.power_w, instant.simulated_ms)
        self.charged.add(-self.power_w, instant.simulated_ms)

    def readings(self) -> dict[str, float]:
        """Return every point's present value."""
        parameters = self.parameters
        low = self.soc <= parameters.min_soc + AT_LIMIT
        high = self.soc >= parameters.max_soc - AT_LIMIT
        voltage = parameters.nominal_v * (EMPTY_SHARE + (FULL_SHARE - EMPTY_SHARE) * self.soc / 100)
        hour_ms = 3_600_000
        return self.common() | {
            "set_point": self.set_point_w / W_PER_KW,
            "enable": float(self.enabled),
            "heartbeat": self.heartbeat,
            "watchdog_time": self.watchdog_s,
            "set_state_of_charge": self.requested_soc,
            "state_of_charge": self.soc,
            "stored_energy": self.stored_kwh,
            "dc_voltage": voltage,
            "dc_current": self.power_w / voltage,
            "temperature": AMBIENT_C + HEATING_C * abs(self.power_w) / (parameters.rated_kw * W_PER_KW),
            "charge_energy": self.charged.kwh,
            "discharge_energy": self.discharged.kwh,
            "max_charge_power": -self.limit_w(-(10**9), hour_ms) / W_PER_KW,
            "max_discharge_power": self.limit_w(10**9, hour_ms) / W_PER_KW,
            "running": float(self.power_w != 0),
            "watchdog_tripped": float(self.tripped),
            "low_limit": float(low),
            "high_limit": float(high),
            "status_word": self.enabled | (self.power_w > 0) << 1 | (self.power_w < 0) << 2 | (self.power_w == 0) << 3,
            "alarm_word": self.tripped | low << 1 | high << 2,
        }

    def ranges(self) -> dict[str, Range]:
        """Return the range of each writable point."""
        rated = self.parameters.rated_kw
        return {
            "set_point": Range(-rated, rated),
            "enable": SWITCH,
            "heartbeat": Range(0, MAX_HEARTBEAT),
            "watchdog_time": Range(0, MAX_WATCHDOG_S),
            "set_state_of_charge": Range(0, 100),
        }

    def write(self, point: str, value: float) -> None:
        """Take a checked value; a set-point or a heartbeat feeds the watchdog."""
        if point == "set_point":
            self.set_point_w = round(value * W_PER_KW)
            self._feed()
        elif point == "heartbeat":
            self.heartbeat = int(value)
            self._feed()
        elif point == "enable":
            self.enabled = bool(value)
        elif point == "watchdog_time":
            self.watchdog_s = int(value)
        else:
            self.requested_soc = value
            self.soc_pending = True

    def _feed(self) -> None:
        self.silent_ms = 0
        self.tripped = False
