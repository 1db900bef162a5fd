"""The site of the chaos run: 136 devices on 101 links, of which 8 are never disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from bench.comsrv_process import write_table
from services.simulator.twins.settings import RANDOM_KINDS

INTERVAL_MS: Final = 1000
TIMEOUT_MS: Final = 500
STEP_MS: Final = 500
SINGLE: Final = range(1001, 1089)
# Of these some speak TLS, some RTU over a serial line.
IN_TLS: Final = range(1073, 1081)
SERIAL: Final = range(1081, 1089)
GATEWAYS: Final = range(1101, 1106)
GATEWAY_UNITS: Final = 8
CLEAN: Final = range(2001, 2009)
LINKS: Final = len(SINGLE) + len(GATEWAYS) + len(CLEAN)
# Points of a unit have ids from unit * 100 on.
STRIDE: Final = 100
# (wire type, byte order, scale) of a unit's telemetry, one after the other.
LAYOUT: Final = (
    *(("float32", "ABCD", 1),) * 6, *(("float32", "CDAB", 1),) * 4, *(("uint16", "AB", 0.1),) * 4,
    *(("int32", "DCBA", 0.01),) * 3, *(("uint32", "BADC", 1),) * 2, ("float64", "ABCD", 1), ("int64", "CDAB", 1),
)  # fmt: skip
WIDTHS: Final = {"float32": 2, "uint16": 1, "int32": 2, "uint32": 2, "float64": 4, "int64": 4}
SET_POINT: Final = 200
STATUS: Final = 190
POINT_HEADS: Final = "point_id,signal_name,data_type,scale,offset,reverse,unit,description"
MAPPING_HEADS: Final = "point_id,slave_id,function_code,register_address,data_type,byte_order,bit_position"


def telemetry_ids(unit: int) -> set[str]:
    """Return the ids of a unit's telemetry."""
    return {str(unit * STRIDE + number) for number in range(1, len(LAYOUT) + 1)}


def write_site(place: Path, first_port: int, authority: Path, protocol: str = "modbus_tcp") -> list[dict[str, Any]]:
    """Write the point tables and return the channels; devices in TLS are vouched for by the authority."""
    channels = []
    (place / "lines").mkdir(exist_ok=True)
    for number, channel in enumerate([*SINGLE, *GATEWAYS, *CLEAN]):
        units = range(1, GATEWAY_UNITS + 1) if channel in GATEWAYS else range(1, 2)
        _write_tables(place / "config" / "channels" / str(channel), units)
        own, parameters = protocol, {"host": "127.0.0.1", "port": first_port + number, "timeout_ms": TIMEOUT_MS}
        if channel in IN_TLS:
            own, parameters["ca_file"] = "modbus_tls", str(authority.resolve())
        elif channel in SERIAL:
            line = str(place.resolve() / "lines" / str(channel))
            own, parameters = "modbus_rtu", {"port": line, "baud_rate": 115200, "timeout_ms": TIMEOUT_MS}
        channels.append(
            {
                "id": channel, "name": f"device {channel}", "protocol": own, "parameters": parameters,
                "polling": {"interval_ms": INTERVAL_MS},
            }
        )  # fmt: skip
    return channels


def _write_tables(folder: Path, units: range) -> None:
    rows: dict[str, tuple[list[str], list[str]]] = {
        name: ([], []) for name in ("telemetry", "signal", "adjustment", "control")
    }
    for unit in units:
        address = 0
        for number, (kind, order, scale) in enumerate(LAYOUT, 1):
            identity = unit * STRIDE + number
            rows["telemetry"][0].append(f"{identity},value {number},float64,{scale},0,,,")
            rows["telemetry"][1].append(f"{identity},{unit},3,{address},{kind},{order},")
            address += WIDTHS[kind]
        for bit in range(4):
            rows["signal"][0].append(f"{unit * STRIDE + bit},bit {bit},bool,,,,,")
            rows["signal"][1].append(f"{unit * STRIDE + bit},{unit},3,{STATUS},bool,AB,{bit}")
        rows["adjustment"][0].append(f"{unit},set-point,float32,1,0,,,")
        rows["adjustment"][1].append(f"{unit},{unit},16,{SET_POINT},float32,ABCD,")
        rows["control"][0].append(f"{unit},switch,bool,,,,,")
        rows["control"][1].append(f"{unit},{unit},5,0,bool,,")
    for name, (points, mapping) in rows.items():
        write_table(folder / f"{name}.csv", POINT_HEADS, points)
        write_table(folder / "mapping" / f"{name}_mapping.csv", MAPPING_HEADS, mapping)


def write_faults(path: Path, faults: int, after_s: float, seed: int) -> None:
    """Write the file of the simulator: values that tell when and where, faults on all but the clean links."""
    kinds = {str(kind): 1.0 for kind in RANDOM_KINDS}
    plan = {
        "seed": seed,
        "step_ms": STEP_MS,
        "values": [{"generator": "pattern"}],
        "random": {
            "device": "1*", "after_s": after_s, "limit": faults, "every_s": [0.3, 1.2], "for_s": [0.2, 3.0],
            "count": [1, 3], "ms": [50, 1500], "kinds": kinds,
        },
    }  # fmt: skip
    path.write_bytes(orjson.dumps(plan))
