"""The simulated site obeys physics, whatever its master writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidError
from services.simulator.devices.base import WATT_MS_PER_KWH
from services.simulator.devices.genset import State
from tests.unit.simulator.sites import Plant, lone_battery

COUNTERS = (
    (0, "import_energy"), (0, "export_energy"), (1, "energy"), (2, "charge_energy"),
    (2, "discharge_energy"), (3, "energy"), (3, "fuel_used"), (3, "run_hours"), (4, "energy"),
)  # fmt: skip
# A write: device, point, and where in the point's range the value lies.
WRITES = st.sampled_from(
    [
        (0, "breaker"),
        (1, "power_limit"),
        (1, "enable"),
        (2, "set_point"),
        (2, "enable"),
        (2, "watchdog_time"),
        (2, "set_state_of_charge"),
        (3, "start"),
        (3, "set_point"),
        (3, "refuel"),
        (4, "load_scale"),
    ]
)
SCRIPT = st.lists(st.tuples(WRITES, st.floats(0, 1), st.integers(1, 30)), max_size=12)


def write(plant: Plant, index: int, point: str, share: float) -> None:
    device = plant.devices[index]
    low, high = device.ranges()[point]
    value = low + share * (high - low)
    value = round(value) if high == 1 else value
    device.check(point, value)
    device.write(point, value)


@given(SCRIPT, st.integers(0, 23), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_power_balances_to_the_watt_and_counters_only_grow(
    script: list[tuple[tuple[int, str], float, int]], start_h: int, seed: int
) -> None:
    plant = Plant(start_h=start_h, seed=seed)
    before = plant.readings()
    integral_w_ms = 0
    for (index, point), share, steps in script:
        write(plant, index, point, share)
        for _ in range(steps):
            plant.site.step()
            grid, pv, battery, genset, load = (device.power_w for device in plant.devices)
            assert load == pv + battery + genset + grid
            assert pv >= 0
            assert genset >= 0
            assert load >= 0
            assert plant.grid.closed or grid == 0
            integral_w_ms += load * plant.site.step_ms * plant.site.acceleration
            after = plant.readings()
            for position, name in COUNTERS:
                assert after[position][name] >= before[position][name]
            assert 0 <= after[2]["state_of_charge"] <= 100
            assert {readings["step"] for readings in after} == {plant.site.steps}
            before = after
    assert plant.load.energy.watt_ms == integral_w_ms


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 300)), max_size=8))
@settings(max_examples=40, deadline=None)
def test_battery_keeps_its_limits_and_never_makes_energy(orders: list[tuple[float, int]]) -> None:
    battery, site = lone_battery(min_soc=10, max_soc=95)
    start_kwh = battery.stored_kwh
    for set_point, steps in orders:
        battery.write("set_point", set_point)
        for _ in range(steps):
            site.step()
            assert 10 - 1e-9 <= battery.soc <= 95 + 1e-9
            assert abs(battery.power_w) <= 100_000
    gained_kwh = battery.stored_kwh - start_kwh
    given_kwh = battery.charged.kwh - battery.discharged.kwh
    assert gained_kwh <= given_kwh + 1e-9
    expected = battery.charged.kwh * 0.9 - battery.discharged.kwh / 0.9
    assert gained_kwh == pytest.approx(expected, abs=1e-6)


def test_battery_follows_its_set_point_along_the_ramp() -> None:
    battery, site = lone_battery(ramp_kw_per_s=5)
    battery.write("set_point", 100)
    powers = []
    for _ in range(4):
        site.step()
        powers.append(battery.power_w)
    assert powers == [30_000, 60_000, 90_000, 100_000]


def test_battery_stops_at_its_low_limit_and_still_charges() -> None:
    battery, site = lone_battery(initial_soc=11)
    battery.write("set_point", 100)
    for _ in range(60):
        site.step()
    assert battery.power_w == 0
    assert battery.readings()["low_limit"] == 1
    battery.write("set_point", -40)
    site.step()
    assert battery.power_w == -40_000


def test_battery_watchdog_counts_the_masters_time() -> None:
    battery, site = lone_battery(watchdog_s=2)
    battery.write("set_point", 50)
    for _ in range(20):
        site.step()
    assert battery.power_w == 50_000
    site.step()
    assert battery.power_w == 0
    assert battery.readings()["watchdog_tripped"] == 1
    battery.write("heartbeat", 7)
    site.step()
    assert battery.power_w == 50_000


def test_written_state_of_charge_holds_from_the_next_step() -> None:
    battery, site = lone_battery()
    battery.write("set_state_of_charge", 15)
    assert battery.soc == 50
    site.step()
    assert battery.soc == 15


def test_genset_starts_after_its_delay_and_ramps() -> None:
    plant = Plant()
    plant.genset.write("start", 1)
    states = []
    for _ in range(12):
        plant.site.step()
        states.append((plant.genset.state, plant.genset.power_w))
    assert states[:5] == [(State.STARTING, 0)] * 5
    # 6 kW a step; the first step gives the minimum load at once.
    assert [power for _, power in states[5:]] == [20_000, 26_000, 32_000, 38_000, 44_000, 50_000, 50_000]
    plant.genset.write("start", 0)
    plant.run(1)
    assert plant.genset.state is State.STOPPING
    plant.run(9)
    assert (plant.genset.state, plant.genset.power_w) == (State.STOPPED, 0)


def test_genset_stops_without_fuel() -> None:
    plant = Plant()
    plant.genset.fuel_l = 0.01
    plant.genset.write("start", 1)
    plant.run(30)
    assert plant.genset.readings()["out_of_fuel"] == 1
    assert plant.genset.power_w == 0
    plant.genset.write("refuel", 1)
    plant.run(30)
    assert plant.genset.power_w > 0


def test_sun_rises_and_sets() -> None:
    plant = Plant(start_h=0)
    by_hour = {}
    for hour in range(1, 25):
        plant.run(600)
        by_hour[hour] = plant.pv.power_w
    assert by_hour[3] == by_hour[23] == 0
    assert by_hour[13] > 30_000
    plant.pv.write("power_limit", 10)
    plant.run(600 * 13)
    assert plant.pv.power_w == 12_000
    assert plant.pv.readings()["curtailed"] == 1


def test_island_is_carried_by_the_battery_until_it_is_empty() -> None:
    plant = Plant(start_h=0)
    plant.grid.write("breaker", 0)
    plant.run(1)
    assert plant.grid.power_w == 0
    assert plant.battery.power_w == plant.load.power_w > 0
    plant.battery.write("set_state_of_charge", 5)
    plant.run(1)
    assert plant.load.readings()["shedding"] == 1
    plant.grid.write("breaker", 1)
    plant.run(1)
    assert plant.load.readings()["shedding"] == 0


def test_same_seed_same_day_and_another_seed_another() -> None:
    days = []
    for seed in (1, 1, 2):
        plant = Plant(seed=seed)
        plant.run(200)
        days.append(plant.readings())
    assert days[0] == days[1] != days[2]


def test_counter_is_the_exact_integral() -> None:
    battery, site = lone_battery()
    battery.write("set_point", 36)
    for _ in range(600):
        site.step()
    assert battery.discharged.watt_ms == 36 * WATT_MS_PER_KWH


def test_value_out_of_range_is_refused_by_name() -> None:
    battery, _ = lone_battery()
    with pytest.raises(InvalidError, match=r"battery: set_point takes -100 to 100, not 100\.5"):
        battery.check("set_point", 100.5)
