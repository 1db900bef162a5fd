"""A site in Redis for tests of functions: a channel that is polled, a clock of its own, the keyspace to compare."""

from __future__ import annotations

from typing import Any

from libs.numbers import format_value
from libs.redis.client import execute
from libs.redis.functions import Functions

START = 1_000_000
TIMERS_A_CALL = 20


class Site:
    """One claimed channel with points T 1 to 20, S 1 to 4, C 1 and A 1 to 4; time passes only by `pass_ms`."""

    def __init__(self, functions: Functions, channel: int = 1001) -> None:
        self.functions = functions
        self.channel = channel
        self.now = START
        self.seq = 0
        self.epoch = 0

    async def start(self) -> Site:
        """Define and claim the channel; the namespace's clock is the test's."""
        clock = self.functions.key("voltage:clock")
        await execute(self.functions.client, "HSET", clock, "simulation", "1", "last", str(START))
        points = {
            "T": [{"id": n} for n in range(1, 21)],
            "S": [{"id": n} for n in range(1, 5)],
            "C": [{"id": 1}],
            "A": [{"id": n, "min": 0, "max": 100} for n in range(1, 5)],
        }
        definition = {"id": self.channel, "name": "test", "protocol": "virtual", "points": points}
        await self.functions.call("channel_upsert", self.channel, definition)
        return await self.claim()

    async def claim(self) -> Site:
        """Take the channel, again where its lease lapsed."""
        claimed = await self.functions.json(
            "channel_claim", self.channel, {"owner": "test", "interval_ms": 1_000_000, "now_ms": self.now}
        )
        self.epoch = claimed["epoch"]
        return self

    async def put(
        self,
        values: dict[int, float],
        quality: dict[int, str] | None = None,
        kind: str = "T",
        counters: dict[str, Any] | None = None,
        age_ms: int = 0,
    ) -> dict[str, Any]:
        """Poll a block: values by point id, and the quality of those that are not good; it comes `age_ms` late."""
        self.seq += 1
        section = {
            "type": kind,
            "ids": [str(point) for point in values],
            "values": [format_value(value) for value in values.values()],
            "quality": {str(point): text for point, text in (quality or {}).items()},
        }
        block = {"epoch": self.epoch, "seq": self.seq, "now_ms": self.now, "at_ms": self.now - age_ms, "block": "b"}
        document = {**block, "sections": [section], "counters": counters or {}}
        reply: dict[str, Any] = await self.functions.json("comsrv_ingest", self.channel, document)
        return reply

    async def pass_ms(self, duration: int) -> None:
        """Let time pass, and what is due fire."""
        self.now += duration
        while (await self.functions.json("voltage_tick", None, {"now_ms": self.now}))["fired"] >= TIMERS_A_CALL:
            pass

    async def hash(self, key: str) -> dict[str, str]:
        """Return a hash as texts."""
        found = await execute(self.functions.client, "HGETALL", self.functions.key(key))
        return {name.decode(): value.decode() for name, value in found.items()}

    async def members(self, key: str) -> set[str]:
        """Return a set as texts."""
        return {item.decode() for item in await execute(self.functions.client, "SMEMBERS", self.functions.key(key))}

    async def entries(self, key: str) -> list[dict[str, str]]:
        """Return a stream's entries as texts, oldest first."""
        found = await execute(self.functions.client, "XRANGE", self.functions.key(key), "-", "+")
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]

    async def firings(self) -> list[tuple[str, str, int]]:
        """Return what rules did: rule, fired or cleared, and the instant after the start."""
        return [(e["rule"], e["event"], int(e["at_ms"]) - START) for e in await self.entries("rulesrv:firings")]

    async def alarms(self, **query: Any) -> list[dict[str, Any]]:
        """Return the alarms of a query, newest first, without those of the system itself."""
        page = await self.functions.read_json("query_alarms", None, query)
        return [alarm for alarm in page["items"] if "system" not in alarm.get("tags", [])]

    async def system_alarms(self) -> list[dict[str, Any]]:
        """Return the system alarms, newest first."""
        page = await self.functions.read_json("query_alarms", None, {"limit": 100})
        return [alarm for alarm in page["items"] if "system" in alarm.get("tags", [])]


async def keyspace(functions: Functions) -> dict[bytes, Any]:
    """Return every key's content but the clock's: a refused call must leave it as it was."""
    return {
        name: await _content(functions, name)
        for name in await execute(functions.client, "KEYS", "*")
        if not name.endswith(b"voltage:clock")
    }


async def _content(functions: Functions, name: bytes) -> Any:
    kind = await execute(functions.client, "TYPE", name)
    if kind == b"set":  # a dump of a set or hash depends on how far the server has rehashed it
        return sorted(await execute(functions.client, "SMEMBERS", name))
    if kind == b"hash":
        return await execute(functions.client, "HGETALL", name)
    return await execute(functions.client, "DUMP", name)
