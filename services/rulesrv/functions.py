"""Typed facade over the Redis Functions and streams that rulesrv uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from libs.definitions import Change
from libs.redis import streams
from libs.redis.client import execute
from libs.redis.definitions import Definitions, Names, Warned
from libs.redis.functions import Functions
from libs.redis.keys import key
from libs.redis.shadows import Shadows

CALENDAR: Final = Names("calendar", "calendar_upsert", "calendar_get", "calendar_list", "calendar_delete")
RULE: Final = Names("rule", "rule_upsert", "rule_get", "rule_list", "rule_delete")

# One takes Redis 35 us, and meanwhile it does nothing else.
EVALUATED_A_CALL: Final = 20


class RuleFunctions:
    """Rules: definitions, evaluation, firings."""

    def __init__(self, functions: Functions) -> None:
        """Keep the gate to Redis."""
        self._functions = functions
        self.definitions = Warned(functions, RULE, "rule_warnings")
        self.calendars = Definitions(functions, CALENDAR)
        self.shadows = Shadows(functions, RULE.kind)

    async def enable(self, rule: str, change: Change, *, enabled: bool) -> bytes:
        """Switch a rule on or off; returns the rule."""
        return await self._functions.call("rule_enable", rule, "true" if enabled else "false", change.document())

    async def evaluate(self, rule: str, simulation: dict[str, Any]) -> bytes:
        """Evaluate a rule, with simulated values and at another instant where given; acts on nothing."""
        return await self._functions.read("rule_evaluate", rule, simulation)

    async def evaluations(self, query: dict[str, Any]) -> bytes:
        """Evaluate a page of the rules; acts on nothing."""
        return orjson.dumps(await self._functions.read_page("rule_batch_evaluate", query, EVALUATED_A_CALL))

    async def explain(self, rule: str) -> bytes:
        """Say why a rule is as it is."""
        return await self._functions.read("rule_explain", rule)

    async def zones(self) -> tuple[set[str], dict[str, Any]]:
        """Return the time zones that rules name, and the tables that Redis has."""
        client = self._functions.client
        wanted = await execute(client, "SMEMBERS", self._functions.key(key("rule_zones_wanted")))
        tables = await execute(client, "HGETALL", self._functions.key(key("rule_zones")))
        return (
            {name.decode() for name in wanted} - {"UTC"},
            {name.decode(): orjson.loads(text) for name, text in tables.items()},
        )

    async def put_zone(self, zone: str, table: Mapping[str, Any]) -> None:
        """Hand over what a zone's clocks show."""
        await self._functions.call("rule_zone", None, {"zone": zone, **table})

    async def stats(self) -> bytes:
        """Return the counts of all rules."""
        return await self._functions.read("rule_stats", None)

    async def rule_stats(self, rule: str) -> bytes:
        """Return the state of one rule."""
        return await self._functions.read("rule_stats", rule)

    async def firings(self, limit: int, cursor: str | None, only: dict[str, str]) -> dict[str, Any]:
        """Return a page of firings, newest first."""
        return await streams.newest(
            self._functions,
            key("firings"),
            limit=limit,
            cursor=cursor,
            only=only,
            documents={"inputs", "branch", "actions"},
        )

    async def tick(self) -> bool:
        """Let time pass; return whether there is more to do at once: timers that are due, or a storm that waits."""
        return bool((await self._functions.json("voltage_tick", None))["more"])
