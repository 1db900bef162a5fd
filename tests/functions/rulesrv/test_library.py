"""The library of energy rules on the simulated site: each does what its file says, in physics that close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from libs.errors import ConfigurationError, InvalidError, NotFoundError
from libs.redis.functions import Functions
from services.rulesrv import library
from tests.support.plant import Plant

CONFIG = Path(__file__).parents[3] / "config"
NAMES = sorted(library.templates(CONFIG))


async def add(plant: Plant, name: str, definition_id: str | None = None, **values: object) -> None:
    template = library.read_template(CONFIG, name)
    given = {key: str(value) for key, value in values.items()}
    _, rules = library.render(template, definition_id or name, library.values_of(template, given))
    for rule in rules:
        await plant.functions.call("rule_upsert", str(rule.id), rule.said())


@pytest.fixture
def plant(functions: Functions) -> Callable[..., Plant]:
    return lambda **options: Plant(functions, **options)


def grid_kw(plant: Plant) -> float:
    return float(plant.device("Grid meter").power_w / 1000)


def battery_kw(plant: Plant) -> float:
    return float(plant.device("Battery").power_w / 1000)


async def alarms(plant: Plant) -> list[str]:
    page = await plant.functions.read_json("query_alarms", None, {"open": True})
    return [alarm["title"] for alarm in page["items"] if "system" not in alarm.get("tags", [])]


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_what_it_is_for_and_where_that_is_from(name: str) -> None:
    template = library.read_template(CONFIG, name)
    assert [one for one in template.parameters if one not in template.template] == []
    text, rules = library.render(template, "mine", library.values_of(template, {}))
    assert {str(rule.id)[:4] for rule in rules} == {"mine"}
    assert "${" not in text


def test_what_is_wrong_is_said_at_once() -> None:
    template = library.read_template(CONFIG, "peak_shaving")
    with pytest.raises(InvalidError) as caught:
        library.values_of(template, {"limit": "3", "min_soc": "120", "limit_kw": "-5", "grid": "a b", "max_kw": "much"})
    assert [problem.where for problem in caught.value.problems] == ["limit", "limit_kw", "max_kw", "min_soc", "grid"]
    assert "did you mean limit_kw?" in str(caught.value)
    assert "min_soc '120': must be at most 100" in str(caught.value)
    assert "limit_kw '-5': must be at least 0" in str(caught.value)
    with pytest.raises(NotFoundError, match="did you mean peak_shaving"):
        library.read_template(CONFIG, "peak_shave")
    with pytest.raises(InvalidError, match="the name"):
        library.render(template, "no name", library.values_of(template, {}))


def test_a_template_calculates_and_does_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / library.FOLDER
    folder.mkdir(parents=True)
    head = "name: x\npurpose: for this test\nsource: there is none\nparameters: {a: {default: 2, description: a}}\n"
    for text in ("__import__('os')", "a.real", "b", "id + 1"):
        (folder / "x.yaml").write_text(f'{head}template: "rules: [${{{text}}}]"\n')
        template = library.read_template(tmp_path, "x")
        with pytest.raises((InvalidError, ConfigurationError)):
            library.render(template, "x", library.values_of(template, {}))


# ---------------------------------------------------------------- on the site


async def test_peak_shaving_keeps_the_limit_and_charges_again(plant: Callable[..., Plant]) -> None:
    at = await plant(start="17:30").start()
    await add(at, "peak_shaving", limit_kw=30)
    await at.run(20)
    over = []
    for _ in range(60):
        await at.run(5)
        over.append(grid_kw(at) - 30)
    # A cloud or a step of the load is there until the next set-point.
    assert sum(one > 3 for one in over) < len(over) / 20
    assert sum(over) / len(over) < 0
    assert battery_kw(at) > 5
    at.device("Load").scale_percent = 10
    await at.run(120)
    assert grid_kw(at) <= 30
    assert -20 <= battery_kw(at) < -10, "it is charged with at most recharge_kw"


async def test_peak_shaving_ends_at_its_floor(plant: Callable[..., Plant]) -> None:
    at = await plant(start="17:30", step_s=5).start()
    await add(at, "peak_shaving", limit_kw=20, recharge_kw=0)
    at.device("Battery").write("set_state_of_charge", 22)
    await at.run(600)
    assert 18.5 < at.device("Battery").soc <= 20.2
    assert battery_kw(at) == 0


async def test_nothing_is_commanded_on_bad_values(plant: Callable[..., Plant]) -> None:
    at = await plant(start="17:30").start()
    at.lost = {1001}
    # The two that shed would command one load, and are refused beside each other.
    for name in sorted(set(NAMES) - {"frequency_shedding"}):
        limited = "limit_kw" in library.read_template(CONFIG, name).parameters
        await add(at, name, **({"limit_kw": 1} if limited else {}))
    at.device("Battery").write("set_state_of_charge", 25)
    await at.run(4)
    assert at.commands == []


async def test_the_window_stops_whoever_goes_past_it(plant: Callable[..., Plant]) -> None:
    at = await plant(step_s=5).start()
    await add(at, "soc_window", low_soc=50, high_soc=60)
    for power, soc in ((100, 50), (-100, 60)):
        at.device("Battery").write("set_state_of_charge", 55)
        at.device("Battery").write("set_point", power)
        await at.run(500)
        assert battery_kw(at) == 0
        assert abs(at.device("Battery").soc - soc) < 1
    assert await alarms(at) == []
    at.device("Battery").write("set_state_of_charge", 40)
    await at.run(10)
    assert await alarms(at) == ["The battery is at 40 %, outside of 50 to 60 %"]


async def test_the_genset_starts_runs_its_time_is_unloaded_and_rests(plant: Callable[..., Plant]) -> None:
    at = await plant(step_s=10).start()
    genset = at.device("Genset")
    await add(at, "genset", min_run_ms=600_000, rest_ms=300_000)
    at.device("Battery").write("set_state_of_charge", 15)
    await at.run(20)
    assert not genset.start, "half a minute below the limit is asked for"
    await at.run(360)
    assert genset.start
    assert genset.power_w == 50_000
    at.device("Battery").write("set_state_of_charge", 60)
    await at.run(200)
    assert genset.power_w == 50_000, "the minimum run time is not over"
    history = []
    for _ in range(60):
        await at.run(10)
        history.append((genset.start, genset.power_w))
    assert (True, 20_000) in history, "it is unloaded first"
    assert history[-1] == (False, 0)
    runs = [value for channel, point, value in at.commands if (channel, point) == (1004, "C:1")]
    assert runs == [1, 0]
    stopped = at.now
    at.device("Battery").write("set_state_of_charge", 15)
    while not genset.start:
        await at.step()
        assert at.now - stopped < 900_000
    assert genset.start
    assert at.now - stopped > 30_000
    assert await alarms(at) == []


async def test_a_genset_that_does_not_start_is_an_alarm(plant: Callable[..., Plant]) -> None:
    at = await plant(step_s=10).start()
    at.device("Genset").parameters = at.device("Genset").parameters.model_copy(update={"start_delay_s": 9999})
    await add(at, "genset", rest_ms=0)
    at.device("Battery").write("set_state_of_charge", 15)
    await at.run(300)
    assert await alarms(at) == ["The genset was started and does not run"]


async def test_export_is_limited_and_let_go(plant: Callable[..., Plant]) -> None:
    at = await plant(start="12:00").start()
    pv = at.device("PV inverter")
    pv.parameters = pv.parameters.model_copy(update={"cloud_depth": 0.0})
    at.device("Load").scale_percent = 50
    await at.run(30)
    assert grid_kw(at) < -40
    await add(at, "export_limit", limit_kw=10)
    await at.run(15)
    exported = []
    for _ in range(25):
        await at.run(3)
        exported.append(-grid_kw(at))
    assert max(exported) < 10 + 2
    assert min(exported) > 10 - 8, "no more is curtailed than must be"
    at.device("Load").scale_percent = 200
    await at.run(60)
    assert pv.power_w == pv.available_w, "with room for it the inverter is let go"


async def test_without_the_meter_the_inverter_is_held(plant: Callable[..., Plant]) -> None:
    at = await plant(start="12:00").start()
    await add(at, "export_limit", failsafe_percent=20)
    await at.run(5)
    at.lost = {1001}
    await at.run(4)
    assert at.device("PV inverter").limit_percent > 20
    await at.run(6)
    assert at.device("PV inverter").limit_percent == 20
    assert await alarms(at) == ["The meter is away, the inverter is held at 20 %"]
    at.lost = set()
    at.device("Load").scale_percent = 300
    await at.run(60)
    assert at.device("PV inverter").power_w == at.device("PV inverter").available_w


async def test_under_frequency_the_battery_follows_the_droop(plant: Callable[..., Plant]) -> None:
    at = await plant(start="22:00").start()
    meter = at.device("Grid meter")
    await add(at, "under_frequency")
    await add(at, "peak_shaving", limit_kw=10)
    await at.run(10)
    shaving = battery_kw(at)
    assert shaving > 20

    def frequency(hz: float) -> None:
        meter.parameters = meter.parameters.model_copy(update={"nominal_hz": hz})

    for hz, power in ((49.3, 20.0), (48.8, 40.0)):
        frequency(hz)
        await at.run(10)
        assert abs(battery_kw(at) - power) < 3, f"40 kW a hertz below 49.8 Hz, whatever peak shaving wants: {hz}"
    frequency(50.0)
    await at.run(3)
    assert at.commands[-1] == (1003, "A:1", 0)
    await at.run(15)
    assert abs(battery_kw(at) - shaving) < 6, "and peak shaving has the battery again"


async def test_loads_go_by_their_order_and_come_back_the_other_way(plant: Callable[..., Plant]) -> None:
    at = await plant(start="02:00").start()
    load = at.device("Load")
    # Two loads of the site are stood in for by the PV's and the battery's switches, which cost it as much.
    told = {"on_value": 1, "limit_kw": 60, "restore_ms": 10_000, "step_restore_ms": 5_000}
    await add(at, "load_shedding", "first", target="modsrv:pv1:set_enabled", order=1, **told)
    await add(at, "load_shedding", "second", target="modsrv:battery1:set_enabled", order=2, **told)
    load.scale_percent = 250
    await at.run(30)
    load.scale_percent = 60
    await at.run(90)
    events = [(rule, at_s) for rule, event, at_s in await at.firings() if event == "fired"]
    assert [rule for rule, _ in events] == ["first", "second", "second_restore", "first_restore"]
    times = dict(events)
    assert 4 <= times["second"] - times["first"] <= 6
    assert times["first_restore"] - times["second_restore"] >= 4
    sent = [(channel, value) for channel, point, value in at.commands if point == "C:1"]
    assert sent == [(1002, 0), (1003, 0), (1003, 1), (1002, 1)]


async def test_a_load_goes_by_frequency_and_comes_back_later(plant: Callable[..., Plant]) -> None:
    at = await plant(start="12:00").start()
    meter = at.device("Grid meter")
    await add(at, "frequency_shedding", off_value=40, restore_ms=30_000)

    def frequency(hz: float) -> None:
        meter.parameters = meter.parameters.model_copy(update={"nominal_hz": hz})

    frequency(48.9)
    await at.run(3)
    assert at.device("Load").scale_percent == 40
    frequency(50.0)
    await at.run(20)
    assert at.device("Load").scale_percent == 40
    await at.run(15)
    assert at.device("Load").scale_percent == 100
    assert [value for _, _, value in at.commands] == [40, 100]
