"""What a receiver is told of an alarm that was shelved when it was raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.redis import client, library
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.notify import Hook, left, settings_of, settled, site, webhook_of
from tests.support.servers import RedisServer
from tests.support.site import Site
from tests.support.wait import wait_until


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_it_is_told_when_the_shelving_ends_over_a_restart(kind: str, tmp_path: Path, hook: Hook) -> None:
    """Redis and alarmsrv are killed while it is shelved, and once more while the message can't be delivered."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(kind, tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    settings = settings_of(server.url, tmp_path, [{"id": "shift", "to": ["webhook:pager"]}], webhooks=webhook_of(hook))
    gate = client.connect(server.url)
    try:
        await library.load(gate)
        functions = Functions(gate)
        plant = await Site(functions).start()
        async with site(functions, settings):
            await functions.call("alarm_define", "hot", HOT)
            await functions.call("alarm_shelve", "alarm:hot", {"duration_ms": 4000, "by": "anna", "now_ms": plant.now})
            await plant.put({1: 90})
            assert await left(functions) == (0, 0, 0)
        server.kill()
        server.start()
        hook.status = 503
        async with site(functions, settings):
            await plant.pass_ms(4000)

            async def tried() -> bool:
                return hook.tried > 0

            await wait_until(tried, "it was tried")
        server.kill()
        server.start()
        hook.status = 204
        async with site(functions, settings):
            await settled(functions)
        ((_, document),) = hook.got
        assert (document["type"], document["data"]["told_as"]) == ("alarm.unshelved", "raised")
    finally:
        await gate.aclose()
        server.stop()
