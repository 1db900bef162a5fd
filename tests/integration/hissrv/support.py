"""Channel 1001 as comsrv would send it, and the service's routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
from aiohttp.test_utils import TestClient

from libs import clock
from libs.http import Role
from libs.http.tokens import issue
from libs.redis.functions import Functions

MINUTE_MS = 60_000
# A quarter of an hour ago, at a full minute.
START_MS = (clock.now_ms() // MINUTE_MS - 15) * MINUTE_MS
UNITS = {"T": "kW", "S": "", "A": "kW"}


class Channel:
    """Channel 1001 with points 1 and 2 of T, S and A, claimed."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.sequence = 0
        self.epoch = 0

    async def claim(self) -> None:
        """Define and claim the channel."""
        points = {kind: [{"id": 1, "name": "a", "unit": unit}, {"id": 2, "name": "b"}] for kind, unit in UNITS.items()}
        document = {"id": 1001, "name": "meter", "protocol": "virtual", "points": points}
        await self.functions.call("channel_upsert", 1001, document)
        claimed = await self.functions.json("channel_claim", 1001, {"owner": "test", "interval_ms": 60_000})
        self.epoch = claimed["epoch"]

    async def send(self, at_ms: int, *sections: dict[str, Any], name: str = "comsrv_ingest", **more: Any) -> None:
        """Send one block."""
        self.sequence += 1
        document = {
            "epoch": self.epoch, "seq": self.sequence, "block": "b1", "channel": 1001, "at_ms": at_ms,
            "sections": list(sections), **more,
        }  # fmt: skip
        await self.functions.call(name, 1001, msgpack.packb(document))


def section(kind: str, values: dict[str, float], quality: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a section of a document."""
    texts = [f"{value:.6f}" for value in values.values()]
    return {"type": kind, "ids": list(values), "values": texts, "quality": quality or {}}


class Api:
    """The service's routes with a token."""

    def __init__(self, http: TestClient[Any, Any], key: str) -> None:
        self.http = http
        self.key = key

    async def call(
        self, method: str, path: str, body: Any = None, *, role: Role = Role.ENGINEER, raw: bool = False
    ) -> tuple[int, Any]:
        """Return status and decoded answer, or its text."""
        headers = {"Authorization": f"Bearer {issue(self.key, 'ann', role, 60)}"}
        async with self.http.request(method, f"/api/history/{path}", json=body, headers=headers) as answer:
            return answer.status, await (answer.text() if raw else answer.json(content_type=None))

    async def query(self, *series: str, **options: Any) -> list[dict[str, Any]]:
        """Query from START_MS on; return the series."""
        body = {"series": list(series), "start": START_MS, "end": START_MS + 15 * MINUTE_MS, **options}
        status, answer = await self.call("POST", "query", body, role=Role.VIEWER)
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["series"]
        return found

    def written(self, samples: int) -> Callable[[], Awaitable[bool]]:
        """Return a condition: the consumer wrote this many samples."""

        async def condition() -> bool:
            _, answer = await self.call("GET", "status")
            return bool(answer["consumer"]["samples"] >= samples)

        return condition
