"""Channels that share a link must agree on it: said when the files are read, with the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.errors import ConfigurationError
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site


def load(folder: Path, *channels: tuple[str, dict[str, Any]]) -> None:
    """Write two channels of one point and read the site."""
    declared = []
    for number, (protocol, parameters) in enumerate(channels, 1):
        path = folder / "channels" / str(number)
        (path / "mapping").mkdir(parents=True)
        (path / "telemetry.csv").write_text("point_id,signal_name,data_type\n1,P,float64\n")
        (path / "mapping/telemetry_mapping.csv").write_text(
            f"point_id,slave_id,function_code,register_address,data_type,byte_order,bit_position\n1,{number},3,0,int16,,\n"
        )
        declared.append({"id": number, "name": f"unit {number}", "protocol": protocol, "parameters": parameters})
    load_site(folder, ComsrvSettings.model_validate({"channels": declared}))


LINE = {"port": "/dev/ttyUSB0", "baud_rate": 9600}
PLACE = {"host": "10.0.0.7", "port": 502}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("modbus_rtu", LINE), ("modbus_rtu", LINE | {"timeout_ms": 300, "retries": 3})),
        (("modbus_rtu", LINE), ("modbus_rtu", LINE | {"port": "/dev/ttyUSB1", "baud_rate": 19200})),
        (("modbus_tcp", PLACE), ("modbus_tcp", PLACE | {"pause_ms": 5, "connection": "slow"})),
        (("modbus_tcp", PLACE), ("modbus_rtu_over_tcp", PLACE | {"port": 503})),
    ],
)
def test_what_fits_is_taken(tmp_path: Path, first: Any, second: Any):
    load(tmp_path, first, second)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            ("modbus_rtu", LINE),
            ("modbus_rtu", LINE | {"baud_rate": 19200}),
            "parameters.baud_rate: channel 1 shares /dev/ttyUSB0 and has 9600, not 19200",
        ),
        (
            ("modbus_tcp", PLACE),
            ("modbus_tcp", PLACE | {"pause_ms": 5}),
            "parameters.pause_ms: channel 1 shares 10.0.0.7:502 and has 0, not 5",
        ),
        (
            ("modbus_tcp", PLACE),
            ("modbus_rtu_over_tcp", PLACE),
            "protocol: channel 1 shares 10.0.0.7:502 and has 'modbus_tcp', not 'modbus_rtu_over_tcp'",
        ),
    ],
)
def test_what_does_not_is_refused_with_the_field(tmp_path: Path, first: Any, second: Any, message: str):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, first, second)
    assert any(message in str(problem) for problem in caught.value.problems), caught.value.problems
