"""A network that is away is a system alarm, until it is back."""

from __future__ import annotations

from typing import Any

from libs.redis.functions import Functions
from tests.integration.netsrv.support import network, status_when
from tests.support.brokers import Broker
from tests.support.service import Service
from tests.support.wait import wait_until


async def test_a_network_that_is_away_is_an_alarm_until_it_is_back(
    functions: Functions, netsrv: Service, broker: Broker
) -> None:
    async def alarm(status: str) -> dict[str, Any] | None:
        items = (await functions.read_json("query_alarms", None, {}))["items"]
        return next((one for one in items if one["status"] == status), None)

    await functions.call("alarm_system_configure", None, {"network": {"on_delay_ms": 0}})
    await functions.call("network_upsert", "cloud", network(broker))
    await status_when(netsrv, connected=True)
    broker.kill()
    found = await wait_until(lambda: alarm("New"), "the alarm is there")
    assert found
    assert (found["source"], found["level"]) == ("system:network:cloud", "Minor")
    assert found["title"].startswith("Network cloud is not connected: ")
    broker.start()
    assert await wait_until(lambda: alarm("Returned"), "the alarm is over")
