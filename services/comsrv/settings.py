"""Settings of comsrv: comsrv.yaml and the environment."""

from __future__ import annotations

from pydantic import Field

from libs.config import Settings
from services.comsrv.channel import ChannelSettings
from services.comsrv.serving.settings import ModbusServerSettings


class ComsrvSettings(Settings):
    """What comsrv.yaml holds beside what every service has."""

    channels: tuple[ChannelSettings, ...] = ()
    reconnect_max_ms: int = Field(3_000, ge=100, le=600_000, description="longest pause between connection attempts")
    renew_ms: int = Field(1000, ge=100, le=1000, description="time between two lease renewals")
    modbus_server: ModbusServerSettings = ModbusServerSettings()
