"""Namespaces: two sites in one server know nothing of each other."""

from __future__ import annotations

import orjson
import pytest

from libs.errors import InvalidError
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from tests.support.site import Site, keyspace

RULE = {
    "name": "high", "conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 10}],
    "actions": [{"type": "create_alarm", "params": {"title": "high"}}],
}  # fmt: skip


@pytest.fixture
async def plant(redis: Client) -> Site:
    """Give the site of namespace plant7."""
    return await Site(Functions(redis, "plant7")).start()


async def test_a_site_in_a_namespace_writes_only_its_keys(site: Site, plant: Site) -> None:
    for each in (site, plant):
        await each.functions.call("rule_upsert", "r1", RULE)
    before = {k: v for k, v in (await keyspace(site.functions)).items() if not k.startswith(b"{")}
    await plant.put({1: 50})
    await plant.functions.call("command_submit", 1001, {"type": "A", "point": 1, "value": 1, "now_ms": plant.now})
    await plant.pass_ms(5)
    after = {k: v for k, v in (await keyspace(site.functions)).items() if not k.startswith(b"{")}
    assert after == before
    assert await plant.hash("comsrv:1001:T") == {"1": "50.000000"}
    assert await site.hash("comsrv:1001:T") == {}
    assert len(await plant.members("alarmsrv:alarms:active")) == 1
    assert await site.members("alarmsrv:alarms:active") == set()
    await site.put({1: 50})
    assert len(await site.members("alarmsrv:alarms:active")) == 1


async def test_channels_are_published_under_the_namespace(plant: Site) -> None:
    async with plant.functions.client.pubsub() as pubsub:
        await pubsub.psubscribe("*")
        await pubsub.get_message(timeout=5)
        await plant.put({1: 5})
        message = await pubsub.get_message(timeout=5)
    assert message is not None
    assert message["channel"] == b"{plant7}:comsrv:updates:1001"


@pytest.mark.parametrize("key", ["r1", "rulesrv:rule:r1"])
async def test_a_key_may_be_typed_bare_or_whole(site: Site, plant: Site, key: str) -> None:
    client = site.functions.client
    await execute(client, "FCALL", "rule_upsert", 1, f"{{plant7}}:{key}", orjson.dumps(RULE))
    assert await execute(client, "FCALL_RO", "rule_get", 1, "{plant7}:r1")
    assert orjson.loads(await execute(client, "FCALL_RO", "rule_list", 0))["items"] == []
    assert len(orjson.loads(await execute(client, "FCALL_RO", "rule_list", 1, "{plant7}:"))["items"]) == 1


async def test_what_is_no_namespace_is_no_id(site: Site) -> None:
    for key in ("plant7:r1", "{plant7:r1", "}:r1", "rulesrv:rule:", "a:b:c"):
        with pytest.raises(InvalidError):
            await site.functions.call("rule_upsert", key, RULE)
