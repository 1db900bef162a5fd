"""Channel 1001 as comsrv would send it."""

from __future__ import annotations

from typing import Any

import msgpack

from libs.redis.functions import Functions

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
