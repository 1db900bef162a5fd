"""netsrv on a real Redis with real brokers and servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from services.netsrv.settings import NetsrvSettings
from tests.support.brokers import Broker, Subscriber
from tests.support.servers import RedisServer
from tests.support.service import Service
from tests.support.wait import wait_until

FAST: Final = {"first_ms": 20, "max_ms": 200}


def settings_of(redis_server: RedisServer, folder: Path, **more: Any) -> NetsrvSettings:
    """Return settings with a data folder of the test's own."""
    return NetsrvSettings.model_validate(
        {
            "data_dir": folder, "config_dir": folder, "redis": {"url": redis_server.url},
            "forward": {"linger_ms": 0}, **more,
        }
    )  # fmt: skip


def network(broker: Broker, **more: Any) -> dict[str, Any]:
    """Return a network at a broker."""
    return {"id": "cloud", "type": "mqtt", "host": "127.0.0.1", "port": broker.port, "retry": FAST, **more}


async def received(subscriber: Subscriber, topic: str, count: int) -> list[Any]:
    """Wait for some messages on a topic; return them decoded."""

    async def enough() -> list[str]:
        found = [payload for where, payload in subscriber.messages() if where == topic]
        return found if len(found) >= count else []

    return [orjson.loads(payload) for payload in await wait_until(enough, f"{count} messages on {topic}")]


async def status_when(service: Service, name: str = "cloud", **wanted: Any) -> dict[str, Any]:
    """Wait until a network's status has some values (`queue` and `dropped` may name some of theirs); return it."""

    async def condition() -> dict[str, Any] | None:
        answer = await service.get(f"/api/networks/{name}/status")
        return answer.body if answer.status == 200 and _has(answer.body, wanted) else None

    found = await wait_until(condition, f"{name} has {wanted}")
    assert found
    return found


def _has(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        _has(found[name], value) if isinstance(value, dict) else found.get(name) == value
        for name, value in wanted.items()
    )
