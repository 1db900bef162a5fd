"""Settings of rulesrv: config/rulesrv.yaml, `VOLTAGE_...`, `RULESRV_...`."""

from __future__ import annotations

from pydantic import Field

from libs.config import Settings


class RulesrvSettings(Settings):
    """All settings of rulesrv."""

    tick_ms: int = Field(100, ge=10, le=1000, description="time between two ticks, which fire the timers that are due")
