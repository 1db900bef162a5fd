"""What the wall clocks of the zones that rules name show, for some years, as tables that Redis decides with."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import zoneinfo
from typing import Any, Final

from libs.clock import now_ms
from libs.errors import VoltageError
from services.rulesrv.functions import RuleFunctions

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
# Tables are made anew this often: a year further at the turn of the year, and what a new tzdata says.
RENEW_S: Final = 3600.0
YEARS_BACK: Final = 1
YEARS_AHEAD: Final = 3
# No zone changes its offset twice in so short a time.
_STEP_S: Final = 6 * 3600


def table_of(zone: str, now: int) -> dict[str, Any]:
    """Return the offsets of a zone: {from_ms, until_ms, changes: [[instant, seconds east of UTC], ...]}.

    Whole years around `now`, so that the table stays the same for a year. An instant
    is that of the first second under the new offset, found by bisection: zoneinfo
    tells the offset of an instant, not when it changes.
    """
    info = zoneinfo.ZoneInfo(zone)
    year = dt.datetime.fromtimestamp(now / 1000, dt.UTC).year
    first = int(dt.datetime(year - YEARS_BACK, 1, 1, tzinfo=dt.UTC).timestamp())
    last = int(dt.datetime(year + YEARS_AHEAD, 1, 1, tzinfo=dt.UTC).timestamp())

    def offset(at: int) -> int:
        found = dt.datetime.fromtimestamp(at, info).utcoffset()
        return int(found.total_seconds()) if found is not None else 0

    changes = [[first * 1000, offset(first)]]
    for begin in range(first, last, _STEP_S):
        low, high = begin, min(begin + _STEP_S, last - 1)
        if offset(high) == changes[-1][1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == changes[-1][1] else (low, middle)
        changes.append([high * 1000, offset(high)])
    return {"from_ms": first * 1000, "until_ms": last * 1000, "changes": changes}


class Zones:
    """Hands over the table of each zone as soon as a rule names it, and keeps it long enough."""

    def __init__(self, rules: RuleFunctions) -> None:
        """Keep the gate; nothing runs yet."""
        self._rules = rules
        self._renewed: dict[str, float] = {}
        self._unknown: set[str] = set()

    async def run(self) -> None:
        """Look for ever; a failure is logged and tried again."""
        problem = ""
        while True:
            try:
                await self.look()
                problem = ""
            except VoltageError as error:
                if str(error) != problem:
                    logger.warning("time zones: %s", error)
                problem = str(error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Hand over what is missing or has changed."""
        wanted, tables = await self._rules.zones()
        for zone in sorted(wanted):
            if (zone in tables or zone in self._unknown) and self._renewed.get(zone, -RENEW_S) > _monotonic() - RENEW_S:
                continue
            self._renewed[zone] = _monotonic()
            try:
                table = await asyncio.to_thread(table_of, zone, now_ms())
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                # Stored at redis-cli; its conditions are unknown, and `voltage rules explain` says so.
                logger.warning("time zone %s is not known on this machine", zone)
                self._unknown.add(zone)
                continue
            stored = tables.get(zone)
            if stored != {"from": table["from_ms"], "till": table["until_ms"], "changes": table["changes"]}:
                await self._rules.put_zone(zone, table)


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
