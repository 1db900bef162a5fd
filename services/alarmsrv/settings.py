"""Settings of alarmsrv: config/alarmsrv.yaml, `VOLTAGE_...`, `ALARMSRV_...`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from libs.config import Settings
from libs.validation import Model
from services.alarmsrv.notify.settings import NotificationSettings
from services.alarmsrv.system import SystemSettings


class RetentionSettings(Model):
    """How long Resolved alarms are kept."""

    days: int = Field(90, ge=1, le=36_500)
    interval_s: int = Field(3600, ge=1, le=86_400, description="time between two looks for old alarms")


class JournalSettings(Model):
    """Where the journal is kept: all of it on disk, the newest entries in Redis too."""

    keep_entries: int = Field(50_000, ge=0, le=200_000, description="in Redis; older ones are read from disk")
    keep_days: int | None = Field(
        None, ge=30, le=36_500, description="on disk; a day with an entry of an open alarm stays. Without it, for ever"
    )
    interval_s: float = Field(3, ge=2, le=3600, description="time between two looks for what is not on disk yet")


class AlarmsrvSettings(Settings):
    """All settings of alarmsrv."""

    retention: RetentionSettings = RetentionSettings()
    journal: JournalSettings = JournalSettings()
    notifications: NotificationSettings = NotificationSettings()
    system: SystemSettings = SystemSettings()

    @property
    def folder(self) -> Path:
        """Where what was approved is."""
        return self.data_dir / "alarmsrv"

    @property
    def journal_folder(self) -> Path:
        """Where the files of the journal are."""
        return self.data_dir / "alarmsrv" / "journal"
