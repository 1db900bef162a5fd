"""How the services that live on Redis start."""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.errors import ConfigurationError, StateError
from libs.http.run import serve
from libs.redis import library
from libs.redis.client import Client, connect, execute
from services.modsrv.app import create_app
from services.modsrv.settings import ModsrvSettings
from tests.support.servers import RedisServer, free_port
from tests.support.service import running
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Give a server of its own, that may be killed."""
    with tempfile.TemporaryDirectory(prefix="voltage-") as folder:
        started = RedisServer("valkey", Path(folder))
        yield started
        started.stop()


def settings_of(url: str, folder: Path) -> ModsrvSettings:
    """Return modsrv's settings on a server, with configuration in a folder; modsrv's port is base + 1."""
    return ModsrvSettings.model_validate(
        {"redis": {"url": url}, "data_dir": folder / "data", "config_dir": folder, "port_base": free_port() - 1}
    )


async def test_it_waits_for_redis_and_says_so(server: RedisServer, tmp_path: Path) -> None:
    """Without Redis it runs and answers 503; when Redis comes it becomes ready by itself."""
    client = connect(server.url)
    await library.load(client)
    await execute(client, "SAVE")
    await client.aclose()
    server.kill()
    async with running(create_app, settings_of(server.url, tmp_path), wait=False) as service:
        answer = await service.get("/health")
        assert answer.status == 503
        assert set(answer.body["failed"]) == {"redis", "functions", "configuration"}
        refused = await service.get("/api/models")
        assert (refused.status, refused.body["code"]) == (503, "UNAVAILABLE")
        server.start()
        await wait_until(service.ready, "the service is ready")
        assert (await service.get("/api/models")).body == {"items": [], "cursor": None}


async def test_a_library_that_does_not_fit_ends_it_with_the_command_to_run(server: RedisServer, tmp_path: Path) -> None:
    """It never works with functions it was not built for."""
    client = connect(server.url)
    other = (
        "#!lua name=voltage\n"
        "redis.register_function{function_name='voltage_version', flags={'no-writes'},"
        ' callback=function() return \'{"api":999,"digest":"x"}\' end}'
    )
    await execute(client, "FUNCTION", "LOAD", "REPLACE", other)
    await client.aclose()
    with pytest.raises(StateError, match=r"api 999.*run: voltage functions load"):
        await serve_until_it_fails(settings_of(server.url, tmp_path))


async def test_a_file_that_redis_refuses_ends_it_with_file_and_line(
    redis: Client, tmp_path: Path, redis_server: RedisServer
) -> None:
    """All of them at once."""
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "m.yaml"
    file.write_text("models:\n  - {id: a, name: A, template: none}\n  - {id: b, name: B, template: none}\n")
    with pytest.raises(ConfigurationError) as caught:
        await serve_until_it_fails(settings_of(redis_server.url, tmp_path))
    assert [problem.where for problem in caught.value.problems] == [f"{file}:2", f"{file}:3"]


@pytest.mark.parametrize(
    ("name", "route", "count"), [("modsrv", "models", 5), ("alarmsrv", "alarm-definitions", 8), ("rulesrv", "rules", 5)]
)
async def test_the_demo_site_is_applied(
    redis: Client, tmp_path: Path, redis_server: RedisServer, name: str, route: str, count: int
) -> None:
    """Every definition in config/ is one that the functions take."""
    model = getattr(importlib.import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings")
    build = importlib.import_module(f"services.{name}.app").create_app
    settings = model.model_validate(
        {"redis": {"url": redis_server.url}, "data_dir": tmp_path, "config_dir": ROOT / "config"}
    )
    async with running(build, settings) as service:
        assert len((await service.get(f"/api/{route}")).body["items"]) == count


async def serve_until_it_fails(settings: ModsrvSettings) -> None:
    """Serve modsrv on a port of its own."""
    async with asyncio.timeout(10):
        await serve(create_app(settings), settings, "modsrv", asyncio.Event())
