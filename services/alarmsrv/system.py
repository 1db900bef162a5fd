"""Which system alarms a site wants, and how: config/alarmsrv.yaml, section `system`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pydantic import Field

from libs.errors import UnavailableError
from libs.redis.functions import Functions
from libs.validation import Model
from services.alarmsrv.schemas import MAX_DELAY_MS, Level

PAUSE_S: Final = 1.0


class SystemAlarm(Model):
    """One system alarm; what is not set is as built in (docs/system-alarms.md)."""

    enabled: bool = True
    level: Level | None = None
    on_delay_ms: int | None = Field(None, ge=0, le=MAX_DELAY_MS, description="how long it must stand before it is one")
    off_delay_ms: int | None = Field(None, ge=0, le=MAX_DELAY_MS, description="how long it must be gone before it ends")


class SystemSettings(Model):
    """The system alarms by name."""

    channel: SystemAlarm = SystemAlarm()
    unit: SystemAlarm = SystemAlarm()
    command: SystemAlarm = SystemAlarm()
    service: SystemAlarm = SystemAlarm()
    functions: SystemAlarm = SystemAlarm()
    memory: SystemAlarm = SystemAlarm()
    history_queue: SystemAlarm = SystemAlarm()
    store: SystemAlarm = SystemAlarm()
    disk: SystemAlarm = SystemAlarm()
    persistence: SystemAlarm = SystemAlarm()
    network: SystemAlarm = SystemAlarm()
    forwarding: SystemAlarm = SystemAlarm()
    notification: SystemAlarm = SystemAlarm()
    flood: SystemAlarm = SystemAlarm()
    clock: SystemAlarm = SystemAlarm()
    ledger: SystemAlarm = SystemAlarm()

    def document(self) -> dict[str, Any]:
        """Return what differs from the built-in, as alarm_system_configure takes it."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


class SystemAlarms:
    """Gives Redis the settings."""

    def __init__(self, functions: Functions, settings: SystemSettings) -> None:
        """Keep what it works with."""
        self._functions = functions
        self._settings = settings

    async def run(self) -> None:
        """Apply the settings, once Redis takes them."""
        while True:
            try:
                await self._functions.call("alarm_system_configure", None, self._settings.document())
            except UnavailableError:
                await asyncio.sleep(PAUSE_S)
            else:
                return
