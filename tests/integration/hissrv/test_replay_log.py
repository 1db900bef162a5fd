"""The replay log where something goes wrong: a full disk, a full log, a Redis without its last calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from libs.errors import InternalError, UnavailableError
from libs.redis import library
from libs.redis.client import Client, connect, execute
from libs.redis.functions import Functions
from services.hissrv.replay.keeper import Keeper, Options
from tests.integration.hissrv.test_replay import Kept
from tests.support.disks import SmallDisk
from tests.support.servers import RedisServer
from tests.support.story import Story
from tests.support.wait import wait_until


@pytest.fixture
async def kept(functions: Functions, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Kept]:
    """Give a site with a keeper whose files lie on a small disk."""
    disk = SmallDisk(tmp_path / "disk", "8m")
    try:
        kept = Kept(functions, redis_server, disk.folder / "replay")
        kept.disk = disk
        yield kept
    finally:
        disk.close()


async def story(kept: Kept, steps: int) -> Story:
    """Live some steps whose log is not on disk yet, after a checkpoint."""
    found = Story(kept.functions, 1)
    await found.begin()
    await kept.keeper.turn(now=True)
    await found.live(steps)
    return found


async def saved(client: Client) -> bool:
    """Save, where no child does."""
    with suppress(InternalError):
        return bool(await execute(client, "SAVE"))
    return False


async def test_what_a_full_disk_did_not_take_waits(kept: Kept) -> None:
    """A frame that did not fit is no torn frame; with room again nothing is missing."""
    life = await story(kept, 15)
    assert kept.disk is not None
    kept.disk.fill(100)
    with pytest.raises(UnavailableError, match="100 % full"):
        await kept.keeper.turn(now=True)
    # Where the disk fills up between the look and the write.
    kept.keeper._options = Options(max_disk_percent=101)
    with pytest.raises(OSError, match="No space left"):
        await kept.keeper.turn(now=True)
    kept.disk.empty()
    await life.live(15)
    await kept.keeper.turn(now=True)
    replay, comparison = await kept.compared()
    assert (comparison.total, replay.reasons) == (0, [])
    assert comparison.entries > 100


async def test_a_full_log_loses_its_oldest_calls_and_says_so(kept: Kept) -> None:
    life = await story(kept, 5)
    await kept.functions.call("replay_keep", None, {"bytes": 4000})
    await life.live(10)
    log = await execute(kept.functions.client, "HGETALL", "voltage:replay:size")
    assert 0 < int(log[b"bytes"]) <= 4000
    assert int(log[b"dropped"]) > 10
    await kept.functions.call("replay_keep", None, {"bytes": 1 << 26})
    # As new, so that it does not wait with its checkpoint.
    kept.keeper = Keeper(kept.functions, kept.server.url, kept.folder, Options())
    await kept.keeper.turn(now=True)
    assert kept.keeper.dropped == int(log[b"dropped"])
    await life.live(10)
    await kept.keeper.turn(now=True)
    replay, comparison = await kept.compared()
    assert len(replay.reasons) == 1
    assert "calls are missing" in replay.reasons[0]
    assert comparison.total == 0
    # From the checkpoint after the gap on the log is whole.
    assert comparison.entries > 50


@pytest.mark.parametrize("redis_kind", ["redis", "valkey"])
async def test_redis_comes_back_without_its_last_calls(redis_kind: str, tmp_path: Path) -> None:
    """They are in the log, and are not made again: the replay is of what the site remembers."""
    server = RedisServer(redis_kind, tmp_path)
    try:
        client = connect(server.url)
        await library.load(client, "")
        kept = Kept(Functions(client), server, tmp_path / "replay")
        life = await story(kept, 15)
        await wait_until(lambda: saved(client), "the child of the checkpoint is gone, Redis saves")
        known = life.site.now, life.site.epoch, life.site.seq
        await life.live(5)
        await kept.keeper.turn(now=True)
        server.kill()
        server.start()
        await client.aclose()
        client = connect(server.url)
        kept.functions = life.functions = life.site.functions = Functions(client)
        life.site.now, life.site.epoch, life.site.seq = known[0] + 2000, *known[1:]
        await kept.functions.call("voltage_tick", None, {"now_ms": life.site.now})
        # hissrv is as new as Redis is.
        kept.keeper = Keeper(kept.functions, server.url, kept.folder, Options())
        await kept.keeper.turn(now=True)
        await life.live(15)
        await kept.keeper.turn(now=True)
        replay, comparison = await kept.compared()
        assert (comparison.total, replay.reasons) == (0, [])
        assert comparison.entries > 100
        await client.aclose()
    finally:
        server.stop()
