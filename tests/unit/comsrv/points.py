"""Points on the wire, made short for the tests of planner and codec."""

from __future__ import annotations

from typing import Any

from libs.points import PointKind
from services.comsrv.channel import Point
from services.comsrv.plugins.modbus.mapping import BIT_CODES, Mapping, Wire, resolve


def wire(
    point_id: int,
    address: int,
    data_type: str = "uint16",
    code: int = 3,
    *,
    kind: PointKind = PointKind.TELEMETRY,
    unit: int = 1,
    point: dict[str, Any] | None = None,
    **mapping: Any,
) -> Wire:
    """Return a point of a Modbus device."""
    family = "bool" if data_type == "bool" or code in BIT_CODES else "float64"
    declared = Point.model_validate({"id": point_id, "name": f"p{point_id}", "data_type": family, **(point or {})})
    row = {"slave_id": unit, "function_code": code, "register_address": address, "data_type": data_type, **mapping}
    return resolve(kind, declared, Mapping.model_validate(row), "zero")
