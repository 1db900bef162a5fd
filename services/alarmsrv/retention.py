"""Resolved alarms and old days of the journal are kept for a time; what is open stays."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

from libs.errors import VoltageError
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.settings import RetentionSettings

logger = logging.getLogger(__name__)


class Retention:
    """Removes old alarms, a bounded number a call."""

    def __init__(
        self, alarms: AlarmFunctions, archive: Archive, settings: RetentionSettings, keep_days: int | None
    ) -> None:
        """Keep what to remove; nothing runs yet."""
        self._alarms = alarms
        self._archive = archive
        self._settings = settings
        self._keep_days = keep_days

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
        if self._keep_days is not None:
            await self._retire(self._keep_days)

    async def _retire(self, days: int) -> None:
        """Remove old days of the journal from the disk, but none with an entry of an open alarm."""
        day = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).date()
        gone = await asyncio.to_thread(self._archive.retire, day, await self._alarms.open_ids())
        for file in gone:
            logger.info("retention: removed %s", file)
