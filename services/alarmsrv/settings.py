"""Settings of alarmsrv: config/alarmsrv.yaml, `VOLTAGE_...`, `ALARMSRV_...`."""

from __future__ import annotations

from pydantic import Field

from libs.config import Settings
from libs.validation import Model


class RetentionSettings(Model):
    """How long Resolved alarms are kept."""

    days: int = Field(90, ge=1, le=36_500)
    interval_s: int = Field(3600, ge=1, le=86_400, description="time between two looks for old alarms")


class AlarmsrvSettings(Settings):
    """All settings of alarmsrv."""

    retention: RetentionSettings = RetentionSettings()
