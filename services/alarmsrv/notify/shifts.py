"""The beginning of a shift: what stands unacknowledged is told to a route as its schedule begins to cover."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from libs.clock import now_ms
from libs.errors import NotFoundError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.alarmsrv.notify.dispatcher import Dispatcher
from services.alarmsrv.notify.schemas import AlarmRoute, tags_of

logger = logging.getLogger(__name__)
PAUSE_S: Final = 2.0
A_CALL: Final = 20
QUIET: Final = ("shelved", "suppressed", "out_of_service")


class Shifts:
    """Looks at the schedules of all routes, and keeps in Redis which shifts know what stands."""

    def __init__(self, functions: Functions, dispatcher: Dispatcher) -> None:
        """Keep what it works with."""
        self._functions = functions
        self._dispatcher = dispatcher
        self._key = functions.key(key("alarm_outbox_shifts"))

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look(now_ms())
            except VoltageError as error:
                logger.warning("shifts: %s", error)
            await asyncio.sleep(PAUSE_S)

    async def look(self, now: int) -> None:
        """Tell the routes whose shift began since the last look; a new route knows what stands."""
        routes = {str(route.id): route for route in await self._dispatcher.routes()}
        found = await execute(self._functions.client, "HGETALL", self._key)
        known = {route.decode(): int(at) for route, at in found.items()}
        for name, route in routes.items():
            if name not in known:
                await execute(self._functions.client, "HSET", self._key, name, now)
            elif route.schedule and route.enabled and "raised" in route.events:
                began = route.schedule.began(now)
                if began is not None and began > known[name]:
                    await self._tell(route, began)
        for name in known.keys() - routes.keys():
            await execute(self._functions.client, "HDEL", self._key, name)

    async def _tell(self, route: AlarmRoute, began: int) -> None:
        filters: dict[str, Any] = {"status": "New", "limit": A_CALL}
        cursor: str | None = ""
        while cursor is not None:
            page = await self._functions.read_json("query_alarms", None, filters)
            cursor = filters["cursor"] = page["cursor"]
            ids = [alarm["id"] for alarm in page["items"] if _wanted(alarm, route, began)]
            document = {"alarms": ids, "began_ms": began, "done": cursor is None}
            if ids or cursor is None:
                try:
                    await self._functions.call("alarm_route_standing", route.id, document)
                except NotFoundError:  # deleted meanwhile
                    return


def _wanted(alarm: dict[str, Any], route: AlarmRoute, began: int) -> bool:
    """Say whether an alarm stood before the shift began; what came since was told as it came."""
    tags = tags_of(alarm.get("tags", ()), alarm.get("area", ""), alarm.get("equipment", ""))
    return (
        alarm["active"]
        and not any(alarm[why] for why in QUIET)
        and max(alarm["created_at_ms"], alarm.get("realarmed_at_ms", 0)) < began
        and route.wants(alarm["level"], tags, began)
    )
