"""The checker of `make chaos-comsrv` finds what it is there for, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.chaos import comsrv_check as check
from bench.chaos.comsrv_site import telemetry_ids
from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.log import Log
from services.simulator.twins.unit import Unit

POINTS = sorted(telemetry_ids(1), key=int)
T0 = 1_000_000


def line(at_ms: int, event: str, device: str = "1001/1", **fields: Any) -> bytes:
    return orjson.dumps({"t": T0 + at_ms, "e": event, "d": device, **fields})


def image(value: int) -> dict[str, str]:
    """Return a memory in which every register holds the value."""
    return {"holding": (value.to_bytes(2, "big") * len(POINTS)).hex()}


def update(at_ms: int, value: int) -> bytes:
    points = dict.fromkeys(POINTS, float(value))
    return orjson.dumps({"channel": 1001, "type": "T", "at_ms": T0 + at_ms, "points": points, "quality": {}})


def read(at_ms: int) -> bytes:
    return line(at_ms, "request", c=1, code=3, address=0, count=len(POINTS), fault=0)


@pytest.fixture
def unit() -> Unit:
    """Give the device as its tables describe it."""
    places = enumerate(POINTS)
    return Unit("1001/1", 1, [Cell(f"1001:T:{p}", Table.HOLDING, at, 1, "uint16", "AB") for at, p in places])


def devices(folder: Path, *lines: bytes) -> check.Devices:
    """Return what the devices logged: a value every second, and more lines."""
    steps = [line(1000 * n, "step", n=n, image=image(n)) for n in range(20)]
    (folder / "devices.log").write_bytes(b"\n".join(sorted([*steps, *lines], key=lambda one: orjson.loads(one)["t"])))
    log = Log(None)
    log.path = folder / "devices.log"
    return check.Devices(log)


def stored(folder: Path, *lines: bytes) -> check.Stored:
    (folder / "updates").write_bytes(b"\n".join(lines))
    return check.Stored(folder / "updates")


def test_a_value_is_right_only_if_it_was_held_at_the_request(tmp_path: Path, unit: Unit):
    found = devices(tmp_path, read(2500), read(5500))
    right = stored(tmp_path, update(2502, 2), update(5900, 5))
    assert check.wrong_values(found, [unit], right) == (2 * len(POINTS), [])
    for late in (update(5502, 2), update(2502, 3), update(5502, 6), update(2400, 2)):
        compared, wrong = check.wrong_values(found, [unit], stored(tmp_path, late))
        assert (compared, len(wrong)) == (len(POINTS), len(POINTS))


def test_recovery_is_when_every_point_is_there_again(tmp_path: Path):
    fault = line(3000, "fault", unit="1001/1", n=1, kind="silence", hits=1, until=T0 + 3000, **{"from": T0 + 1000})
    found = devices(tmp_path, fault)
    (quick,) = check.recoveries(found, stored(tmp_path, update(2900, 2), update(4200, 4)), T0 + 20_000)
    assert quick.took_ms == 1200
    (slow,) = check.recoveries(found, stored(tmp_path, update(2900, 2), update(9000, 9)), T0 + 20_000)
    assert slow.took_ms == 6000
    (never,) = check.recoveries(found, stored(tmp_path, update(2900, 2)), T0 + 20_000)
    assert never.took_ms is None
    assert list(check.recoveries(found, stored(tmp_path, update(2900, 2)), T0 + 7000)) == []


def test_a_command_that_was_written_twice_or_verified_in_vain_is_found(tmp_path: Path):
    def write(at_ms: int, data: str, *, applied: bool) -> bytes:
        return line(at_ms, "write", address=200, count=2, data=f"000204{data}", applied=applied, image=image(0))

    found = devices(tmp_path, write(1, "aa", applied=True), write(2, "aa", applied=True), write(3, "bb", applied=False))
    states = [orjson.dumps({"id": command, "state": "verified"}) for command in ("a", "b")]
    told = check.wrong_commands(
        found, stored(tmp_path, *states), {"a": ("1001/1", "aa"), "b": ("1001/1", "bb"), "c": ("1001/1", "cc")}
    )
    assert told == ["command a was written 2 times", "command b is verified and had no effect"]


def test_periods_are_those_of_each_block(tmp_path: Path):
    found = devices(tmp_path, read(1000), read(2000), read(3500))
    assert check.periods(found, ["1001/1"], T0, T0 + 20_000).tolist() == [1000, 1500]
