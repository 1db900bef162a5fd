"""The protocols modbus_rtu and modbus_rtu_over_tcp: frames with check bytes, one transaction on the line."""

from __future__ import annotations

from typing import ClassVar, Final

from libs.points import PointKind
from libs.validation import Model
from services.comsrv.channel import Point
from services.comsrv.plugins.modbus.mapping import Mapping
from services.comsrv.plugins.modbus.parameters import RtuOverTcpParameters, RtuParameters, Timing
from services.comsrv.plugins.modbus.tcp import ModbusTcp

# MODBUS over Serial Line V1.02, 2.2: 248 to 255 are reserved.
LAST_UNIT: Final = 247


class ModbusRtu(ModbusTcp):
    """Modbus RTU over a serial line."""

    description: ClassVar[str] = "Modbus RTU over a serial line"
    parameters: ClassVar[type[Timing]] = RtuParameters

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point's mapping."""
        found = super().check(kind, point, mapping, parameters)
        unit = mapping.slave_id if isinstance(mapping, Mapping) else 1
        if unit > LAST_UNIT:
            found.append(f"slave_id: {unit} is reserved on a serial line; units are 1 to {LAST_UNIT}")
        if unit == 0 and kind.readable:
            found.append("slave_id: 0 is every unit of a serial line, and none answers; name one to read")
        return found


class ModbusRtuOverTcp(ModbusRtu):
    """RTU frames through a TCP connection to a serial server."""

    description: ClassVar[str] = "Modbus RTU frames over TCP, to a serial server"
    parameters: ClassVar[type[Timing]] = RtuOverTcpParameters
