"""Resolved alarms are kept for some days; others for ever."""

from __future__ import annotations

import asyncio
import logging

from libs.errors import VoltageError
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.settings import RetentionSettings

logger = logging.getLogger(__name__)


class Retention:
    """Removes old alarms, a bounded number a call."""

    def __init__(self, alarms: AlarmFunctions, settings: RetentionSettings) -> None:
        """Keep what to remove; nothing runs yet."""
        self._alarms = alarms
        self._settings = settings

    async def run(self) -> None:
        """Look for old alarms for ever; a failure is logged and tried again."""
        while True:
            try:
                await self.clean()
            except VoltageError as error:
                logger.warning("retention: %s", error)
            await asyncio.sleep(self._settings.interval_s)

    async def clean(self) -> None:
        """Remove all that is old now."""
        removed, more = 0, True
        while more:
            found = await self._alarms.cleanup(self._settings.days)
            removed, more = removed + found["removed"], found["more"]
        if removed:
            logger.info("retention: removed %d alarms resolved over %d days ago", removed, self._settings.days)
