"""The site: one step for all devices, and the power balance that closes it.

    load = pv + battery + genset + grid        (whole watts, at every step)

With the breaker closed the grid takes what is missing or left over. With it open the
site is an island, and the balance closes by the devices in this order: the battery,
the genset if it runs, then PV is curtailed or load is shed.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from services.simulator.devices import (
    Battery,
    Device,
    Genset,
    GridMeter,
    Load,
    PvInverter,
)
from services.simulator.devices.base import Instant

DAY_MS: Final = 24 * 3_600_000


class Site:
    """All devices of one connection, stepped together.

    It has no clock: `step` moves it by exactly one step of `step_ms * acceleration`
    simulated milliseconds. The same devices, seed and writes give the same values.
    """

    def __init__(self, devices: Sequence[Device], *, step_ms: int, acceleration: int, start_ms: int) -> None:
        """Keep the devices; `start_ms` is the time of day at which the site begins."""
        self.devices = tuple(devices)
        self.step_ms = step_ms
        self.acceleration = acceleration
        self.start_ms = start_ms
        self.steps = 0
        self.meters = [device for device in devices if isinstance(device, GridMeter)]
        self.loads = [device for device in devices if isinstance(device, Load)]
        self.batteries = [device for device in devices if isinstance(device, Battery)]
        self.gensets = [device for device in devices if isinstance(device, Genset)]
        self.inverters = [device for device in devices if isinstance(device, PvInverter)]

    @property
    def connected(self) -> bool:
        """True while a grid meter's breaker is closed."""
        return any(meter.closed for meter in self.meters)

    def step(self) -> None:
        """Advance every device by one step and close the balance."""
        self.steps += 1
        simulated_ms = self.step_ms * self.acceleration
        instant = Instant(
            step=self.steps,
            simulated_ms=simulated_ms,
            real_ms=self.step_ms,
            time_of_day_ms=(self.start_ms + self.steps * simulated_ms) % DAY_MS,
        )
        for device in self.devices:
            device.advance(instant)
        for meter in self.meters:
            meter.power_w = 0
        if not self.connected:
            self._close_island(simulated_ms)
        missing_w = self.missing_w()
        for meter in self.meters:
            if meter.closed:
                meter.power_w = missing_w
                break
        for device in self.devices:
            device.settle(instant)

    def missing_w(self) -> int:
        """Return what the consumers take beyond what everything else gives."""
        sources = (*self.inverters, *self.batteries, *self.gensets, *self.meters)
        return sum(load.power_w for load in self.loads) - sum(source.power_w for source in sources)

    def _close_island(self, duration_ms: int) -> None:
        for battery in self.batteries:
            # It forms the island's grid: set-point and ramp don't hold here, its limits do.
            battery.power_w = battery.limit_w(battery.power_w + self.missing_w(), duration_ms)
        for genset in self.gensets:
            wanted_w = genset.power_w + self.missing_w()
            genset.power_w = min(max(wanted_w, 0), max(genset.max_w, genset.power_w))
        for inverter in self.inverters:
            surplus_w = max(-self.missing_w(), 0)
            inverter.power_w -= min(surplus_w, inverter.power_w)
        for load in self.loads:
            shortage_w = max(self.missing_w(), 0)
            load.power_w -= min(shortage_w, load.power_w)


def random_of(seed: int, name: str) -> Random:
    """Return a device's own stream, so that adding a device leaves the others' noise alone."""
    return Random(f"{seed}/{name}")  # noqa: S311 - weather and noise, nothing secret
