"""Typed facade over the Redis Functions and the journal that alarmsrv uses."""

from __future__ import annotations

from typing import Any, Final

import orjson

from libs.redis.client import execute
from libs.redis.definitions import Definitions, Names, Warned
from libs.redis.functions import Functions
from libs.redis.keys import key
from libs.redis.shadows import Shadows

DEFINITION: Final = Names(
    "alarm definition", "alarm_define", "alarm_definition_get", "alarm_definition_list", "alarm_definition_delete"
)
ROUTE: Final = Names("alarm route", "alarm_route_upsert", "alarm_route_get", "alarm_route_list", "alarm_route_delete")

# Redis has one thread, and a call may take a millisecond of it.
A_CALL: Final = 20
REMOVED_A_CALL: Final = 100
READ_A_CALL: Final = 40


class AlarmFunctions:
    """Alarms: definitions, life cycle, lists, journal."""

    def __init__(self, functions: Functions) -> None:
        """Keep the gate to Redis."""
        self._functions = functions
        self.definitions = Warned(functions, DEFINITION, "alarm_definition_warnings")
        self.routes = Definitions(functions, ROUTE)
        self.shadows = Shadows(functions, DEFINITION.kind)

    async def query(self, filters: dict[str, Any]) -> bytes:
        """Return a page of alarms, newest first."""
        return orjson.dumps(await self._functions.read_page("query_alarms", filters, READ_A_CALL))

    async def get(self, alarm: str) -> bytes:
        """Return an alarm."""
        return await self._functions.read("get_alarm", alarm)

    async def marks(self) -> bytes:
        """Return what is shelved, suppressed or out of service."""
        return await self._functions.read("alarm_marks", None)

    async def stats(self) -> bytes:
        """Return counts by level and status."""
        return await self._functions.read("get_alarm_stats", None)

    async def store(self, alarm: str | None, document: dict[str, Any]) -> bytes:
        """Create an alarm by hand; returns it."""
        return await self._functions.call("store_alarm", alarm, document)

    async def acknowledge(self, alarm: str, user: str, comment: str | None) -> bytes:
        """Acknowledge an alarm; returns it."""
        return await self._functions.call("acknowledge_alarm", alarm, user, "", comment or "")

    async def acknowledge_many(self, alarms: list[str], user: str, comment: str | None) -> dict[str, Any]:
        """Acknowledge many, some a call; what can't be is named."""
        found: dict[str, list[Any]] = {"acknowledged": [], "unchanged": [], "failed": []}
        for start in range(0, len(alarms), A_CALL):
            document = {"ids": alarms[start : start + A_CALL], "by": user} | _comment(comment)
            part = await self._functions.json("acknowledge_alarms_batch", None, document)
            for name, items in found.items():
                items.extend(part[name])
        return found

    async def resolve(self, alarm: str, user: str, comment: str | None) -> bytes:
        """Resolve an alarm by hand; returns it."""
        return await self._functions.call("resolve_alarm", alarm, user, "", comment or "")

    async def operate(self, function: str, alarm: str, user: str, document: dict[str, Any]) -> bytes:
        """Shelve, suppress, take out of service or the reverse; returns the alarm."""
        return await self._functions.call(function, alarm, {**document, "by": user})

    async def test_route(self, route: str, user: str) -> bytes:
        """Put a test to a route into the outbox."""
        return await self._functions.call("alarm_route_test", route, {"by": user})

    async def open_alarms(self) -> list[dict[str, Any]]:
        """Return all alarms that are not Resolved."""
        found: list[dict[str, Any]] = []
        filters: dict[str, Any] = {"open": True, "limit": 100}
        while True:
            page = orjson.loads(await self.query(filters))
            found += page["items"]
            if not page["cursor"]:
                return found
            filters["cursor"] = page["cursor"]

    async def open_ids(self) -> frozenset[str]:
        """Return the ids of all alarms that are not Resolved."""
        found = await execute(self._functions.client, "SMEMBERS", self._functions.key(key("alarms_active")))
        return frozenset(item.decode() for item in found)

    async def cleanup(self, days: int) -> dict[str, Any]:
        """Remove some alarms resolved longer ago; returns {removed, more}."""
        found: dict[str, Any] = await self._functions.json(
            "cleanup_old_alarms", None, {"days": days, "limit": REMOVED_A_CALL}
        )
        return found


def _comment(comment: str | None) -> dict[str, str]:
    return {"comment": comment} if comment else {}
