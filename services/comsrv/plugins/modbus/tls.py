"""The protocol modbus_tls: Modbus TCP through TLS, port 802 (MODBUS/TCP Security V2.1)."""

from __future__ import annotations

from typing import ClassVar

from services.comsrv.plugins.modbus.parameters import Timing, TlsParameters
from services.comsrv.plugins.modbus.tcp import ModbusTcp


class ModbusTls(ModbusTcp):
    """Modbus TCP with TLS; the device's certificate is always checked."""

    description: ClassVar[str] = "Modbus TCP through TLS, certificates checked"
    parameters: ClassVar[type[Timing]] = TlsParameters
