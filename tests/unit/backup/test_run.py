"""A backup of a site whose Redis is somebody else's, restored into another one; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.errors import InvalidError, StateError
from libs.redis import library
from libs.redis.client import connect, execute
from libs.site import Site, load_site
from services.backup import archive, run
from tests.support.servers import RedisServer


def bar(_: str, __: int) -> archive.Advance:
    return lambda count: None


@pytest.fixture
def target(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a second server, empty."""
    (tmp_path / "r").mkdir()
    server = RedisServer("redis", tmp_path / "r")
    yield server
    server.stop()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[RedisServer]:
    """Give the first server: what another kind writes can't be read by every other."""
    (tmp_path / "s").mkdir()
    server = RedisServer("redis", tmp_path / "s")
    yield server
    server.stop()


def site_at(folder: Path, url: str) -> Site:
    """Return a site in a folder with a Redis of its own."""
    return load_site(
        {
            "VOLTAGE_REDIS_URL": url, "VOLTAGE_DATA_DIR": str(folder / "data"),
            "VOLTAGE_CONFIG_DIR": str(folder / "config"),
        }
    )  # fmt: skip


async def make(folder: Path, url: str) -> Path:
    """Make a small site and a backup of it."""
    site = site_at(folder, url)
    site.data_dir.mkdir(parents=True)
    site.config_dir.mkdir()
    (site.data_dir / "token.key").write_text("secret")
    (site.config_dir / "comsrv.yaml").write_text("channels: []\n")
    client = connect(url)
    await library.load(client)
    await execute(client, "HSET", "comsrv:1001:T", "1", "1.500000")
    await client.aclose()
    file = folder / "site.voltage"
    manifest, size = await run.backup(site, file, bar)
    assert size == file.stat().st_size
    assert [one.name for one in manifest.members] == ["redis/keys.msgpack", "data/token.key", "config/comsrv.yaml"]
    return file


async def test_a_site_moves_to_another_redis(source: RedisServer, target: RedisServer, tmp_path: Path):
    file = await make(tmp_path / "one", source.url)
    other = site_at(tmp_path / "two", target.url)
    await run.restore(other, file, bar, keep_config=False)
    assert (other.data_dir / "token.key").read_text() == "secret"
    assert (other.config_dir / "comsrv.yaml").exists()
    client = connect(target.url)
    assert await execute(client, "HGET", "comsrv:1001:T", "1") == b"1.500000"
    await library.check(client)
    await client.aclose()
    # Nothing is written over: not the data, nor the keys.
    third = site_at(tmp_path / "three", target.url)
    for refused, reason in ((other, "is not empty"), (third, "keys of this site")):
        with pytest.raises(StateError, match=reason):
            await run.restore(refused, file, bar, keep_config=True)
    assert not third.data_dir.exists()


async def test_a_damaged_archive_changes_nothing(source: RedisServer, target: RedisServer, tmp_path: Path):
    file = await make(tmp_path / "one", source.url)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    other = site_at(tmp_path / "two", target.url)
    with pytest.raises(InvalidError, match="is damaged"):
        await run.restore(other, file, bar, keep_config=False)
    assert list((tmp_path / "two").iterdir()) == []
    client = connect(target.url)
    assert await client.dbsize() == 0
    await client.aclose()


async def test_a_configuration_that_differs_stays_only_when_asked(
    source: RedisServer, target: RedisServer, tmp_path: Path
):
    file = await make(tmp_path / "one", source.url)
    other = site_at(tmp_path / "two", target.url)
    other.config_dir.mkdir(parents=True)
    (other.config_dir / "comsrv.yaml").write_text("channels: [] # mine\n")
    with pytest.raises(StateError, match="--keep-config"):
        await run.restore(other, file, bar, keep_config=False)
    done = await run.restore(other, file, bar, keep_config=True)
    assert done.config_kept
    assert "mine" in (other.config_dir / "comsrv.yaml").read_text()
