"""What a link can carry, by the arithmetic of serial lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli import voltage
from services.comsrv import capacity
from services.comsrv.channel import Channel
from services.comsrv.contract import Cost
from services.comsrv.plugins.registry import protocols


async def loads(parameters: dict[str, Any], count: int, **polling: Any) -> list[capacity.Load]:
    points = [
        {
            "id": number + 1,
            "name": f"p{number}",
            "data_type": "float64",
            "mapping": {"slave_id": 1, "function_code": 3, "register_address": number, "data_type": "uint16"},
        }
        for number in range(count)
    ]
    channel = Channel.model_validate(
        {
            "id": 1,
            "name": "Line",
            "protocol": "modbus_rtu",
            "parameters": {"port": "/dev/ttyUSB0", **parameters},
            "polling": polling,
            "points": {"T": points},
        }
    )
    plugin = protocols()["modbus_rtu"]()
    await plugin.initialize(channel, port_base=6000)
    costs = {"1": Cost(30.0, 2.0)} if count == 10 else {}
    return capacity.loads(channel, plugin, plugin.blocks, costs)


@pytest.mark.parametrize(
    ("baud", "count", "milliseconds"),
    # Worked by hand: 10 bits a character, 8 + 5 + 2 * count characters, twice 3.5 characters of silence, 5 ms.
    [(9600, 125, 286.25), (9600, 1, 27.92), (19_200, 125, 145.63)],
)
async def test_the_time_of_a_request_on_a_serial_line(baud: int, count: int, milliseconds: float):
    (load,) = await loads({"baud_rate": baud}, count)
    assert load.time_ms == pytest.approx(milliseconds, abs=0.01)
    assert load.least_ms == pytest.approx(milliseconds - capacity.TURNAROUND_MS, abs=0.01)
    assert load.sent == 13 + 2 * count
    assert not load.measured


async def test_what_was_learned_replaces_what_is_assumed():
    (load,) = await loads({"baud_rate": 9600}, 10)
    assert load.measured
    assert load.time_ms == 50.0


def site(folder: Path, interval_ms: int) -> None:
    """Write a site with one serial line, 100 registers on it."""
    channel = folder / "channels" / "7"
    (channel / "mapping").mkdir(parents=True, exist_ok=True)
    parameters = json.dumps({"port": "/dev/ttyUSB0", "baud_rate": 9600})
    (folder / "comsrv.yaml").write_text(
        "channels:\n"
        f"  - {{id: 7, name: Line, protocol: modbus_rtu, parameters: {parameters},\n"
        f"     polling: {{interval_ms: {interval_ms}, groups: {{fast: {{interval_ms: 500}}}}}}}}\n"
    )
    (channel / "telemetry.csv").write_text(
        "point_id,signal_name,data_type\n" + "".join(f"{number},p{number},float64\n" for number in range(1, 101))
    )
    (channel / "mapping" / "telemetry_mapping.csv").write_text(
        "point_id,slave_id,function_code,register_address,data_type,poll_group\n"
        + "".join(f"{number},1,3,{number},uint16,{'fast' if number == 1 else ''}\n" for number in range(1, 101))
    )


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(folder))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(folder / "data"))
    return CliRunner().invoke(voltage, arguments)


def test_the_plan_shows_blocks_and_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site(tmp_path, 1000)
    result = run(tmp_path, monkeypatch, "points", "plan")
    assert result.exit_code == 0
    assert "1-holding-1-1-fast" in result.output
    assert "1-holding-2-99" in result.output
    assert "fits" in result.output
    site(tmp_path, 300)
    result = run(tmp_path, monkeypatch, "points", "plan", "7")
    assert result.exit_code == 0
    assert "warning: /dev/ttyUSB0 is taken 83% by channel 7" in result.output


def test_what_no_device_could_deliver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site(tmp_path, 100)
    for arguments in (("points", "plan"), ("config", "check", "comsrv")):
        error = run(tmp_path, monkeypatch, *arguments).exception
        assert "comsrv.yaml:2" in str(error)
        assert "even if every device answered at once" in str(error)
