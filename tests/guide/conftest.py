"""What every page of the tutorial starts with: an empty Redis with the functions loaded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from libs.redis.functions import Functions


class Poller:
    """A stand-in for comsrv: it holds channel 1001 and sends blocks, as any poller in any language could."""

    def __init__(self, functions: Functions, epoch: int) -> None:
        """Begin at the first sequence number."""
        self.functions = functions
        self.epoch = epoch
        self.sequence = 0

    async def send(self, values: dict[str, str], quality: dict[str, str] | None = None) -> Any:
        """Send the telemetry that changed; return the reply."""
        self.sequence += 1
        block = {
            "epoch": self.epoch,
            "seq": self.sequence,
            "block": "all",
            "at_ms": int(time.time() * 1000),
            "sections": [
                {"type": "T", "ids": list(values), "values": list(values.values()), "quality": quality or {}},
            ],
            "counters": {"polled": len(values.keys() | (quality or {}).keys())},
        }
        return await self.functions.json("comsrv_ingest", 1001, block)


@pytest.fixture
async def poller(functions: Functions) -> Poller:
    """Define channel 1001, a battery with a power (T:1), a state of charge (T:2) and a set-point (A:1), and take it."""
    channel = {
        "id": 1001,
        "name": "Battery",
        "protocol": "virtual",
        "points": {
            "T": [{"id": 1, "name": "Active power"}, {"id": 2, "name": "State of charge"}],
            "A": [{"id": 1, "name": "Power set-point", "min": -50, "max": 50}],
        },
    }
    await functions.call("channel_upsert", 1001, channel)
    claimed = await functions.json("channel_claim", 1001, {"owner": "guide", "interval_ms": 1000})
    return Poller(functions, claimed["epoch"])
