"""config/netsrv.yaml: what it says is applied, and what is wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from libs.config import load
from libs.errors import ConfigurationError
from libs.http.tokens import Role
from libs.redis.functions import Functions
from services.netsrv.app import create_app, desired
from services.netsrv.settings import NetsrvSettings
from tests.support.servers import RedisServer
from tests.support.service import running
from tests.support.wait import wait_until

FILE = """
networks:
  - {id: cloud, type: mqtt, host: 127.0.0.1, port: 1, secret: cloud}
routes:
  - {id: meters, network: cloud, source: "comsrv:1001:*"}
secrets:
  cloud: {username: plant}
"""


def settings_from(folder: Path, text: str, **environ: str) -> NetsrvSettings:
    """Load settings as the service does."""
    (folder / "netsrv.yaml").write_text(text)
    return load(NetsrvSettings, "netsrv", {"VOLTAGE_CONFIG_DIR": str(folder), **environ}).settings


async def test_applied(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> None:
    """Networks and routes reach Redis; a secret comes from a file and reaches nothing."""
    (tmp_path / "word").write_text("s3cret-word\n")
    settings = settings_from(
        tmp_path, FILE, NETSRV_SECRETS_CLOUD_PASSWORD_FILE=str(tmp_path / "word"),
        VOLTAGE_REDIS_URL=redis_server.url, VOLTAGE_DATA_DIR=str(tmp_path),
    )  # fmt: skip
    password = settings.secrets["cloud"].password
    assert password
    assert password.get_secret_value() == "s3cret-word"
    async with running(create_app, settings) as service:
        stored = (await service.get("/api/networks/cloud")).body
        assert (stored["secret"], stored["author"]) == ("cloud", "file")
        assert (await service.get("/api/routes/meters")).body["network"] == "cloud"
        assert "s3cret" not in str(stored)
    loaded = load(
        NetsrvSettings, "netsrv", {"VOLTAGE_CONFIG_DIR": str(tmp_path), "NETSRV_SECRETS_CLOUD_TOKEN": "s3cret-word"}
    )
    assert "s3cret" not in str(list(loaded.shown()))


async def test_a_change_of_the_file_is_planned_and_applied_while_it_runs(
    redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    """Networks and routes come and go without a restart; secrets are those of the start."""
    settings = settings_from(tmp_path, "{}", VOLTAGE_REDIS_URL=redis_server.url, VOLTAGE_DATA_DIR=str(tmp_path))
    async with running(create_app, settings) as service:
        (tmp_path / "netsrv.yaml").write_text(FILE)
        refused = await service.get("/configuration/plan", Role.ENGINEER)
        assert (refused.status, "there is no cloud in secrets" in str(refused.body)) == (422, True)
        (tmp_path / "netsrv.yaml").write_text(FILE.replace(", secret: cloud", ""))
        planned = (await service.get("/configuration/plan", Role.ENGINEER)).body["changes"]
        assert [(one["kind"], one["id"], one["action"]) for one in planned] == [
            ("network", "cloud", "create"), ("route", "meters", "create"),
        ]  # fmt: skip
        assert (await service.ask("POST", "/configuration/apply", {})).status == 200
        assert (await service.get("/api/routes/meters")).body["network"] == "cloud"
        (tmp_path / "netsrv.yaml").write_text("{}")
        assert (await service.ask("POST", "/configuration/apply", {})).status == 200
        assert (await service.get("/api/networks")).body["items"] == []


async def test_a_secret_that_is_not_there(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> None:
    """The network is kept and shown, but nothing connects without its secret."""
    settings = settings_from(tmp_path, "{}", VOLTAGE_REDIS_URL=redis_server.url, VOLTAGE_DATA_DIR=str(tmp_path))
    async with running(create_app, settings) as service:
        document = {"id": "cloud", "type": "mqtt", "host": "127.0.0.1", "secret": "nobody"}
        assert (await service.ask("POST", "/api/networks", document)).status == 201
        status = (await service.get("/api/networks/cloud/status")).body
        assert (status["connected"], status["last_error"]) == (False, "there is no secret nobody in the configuration")


async def test_the_demo_file_and_its_comments(tmp_path: Path) -> None:
    """It enables nothing; what stands in its comments is right, and taking the `#` away is all it needs."""
    text = (Path(__file__).parents[3] / "config" / "netsrv.yaml").read_text()
    assert desired(settings_from(tmp_path, text)) == []
    words, keys, commented = text.partition("# networks:\n")
    example = words + "\n".join(line.removeprefix("#")[1:] for line in (keys + commented).splitlines())
    assert set(yaml.safe_load(example)) == {"networks", "routes", "secrets"}
    assert len(desired(settings_from(tmp_path, example))) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("networks: [{id: a, type: mqtt}]", "a network of type mqtt needs host"),
        ("networks: [{id: a, type: mqtt, host: h, password: p}]", "unknown key"),
        ("networks: [{id: a, type: mqtt, host: h, secret: s}]", "there is no s in secrets"),
        ("networks: [{type: mqtt, host: h}]", "id: is required"),
        ("routes: [{id: a, network: net, source: 'comsrv:*'}, {id: a, network: net, source: 'x:*'}]", "id a is taken"),
        ("routes: [{id: a, network: net, source: 'comsrv:*', template: {v: '{valeu}'}}]", "{valeu} is no field"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        desired(settings_from(tmp_path, text))
    assert said in str(caught.value)


async def test_what_redis_took_and_nobody_understands(
    redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    """A definition made past the API that can't be read is left out, and the service says so."""
    settings = settings_from(tmp_path, "{}", VOLTAGE_REDIS_URL=redis_server.url, VOLTAGE_DATA_DIR=str(tmp_path))
    await functions.call("network_upsert", "odd", {"type": "mqtt", "host": "127.0.0.1", "tls": {"ca_file": 5}})
    async with running(create_app, settings) as service:

        async def said() -> str:
            answer = await service.get("/health/detailed")
            return str(answer.body["checks"]["forwarding"].get("detail"))

        async def left_out() -> bool:
            return "network odd is left out: tls.ca_file: " in await said()

        await wait_until(left_out, f"health names it: {await said()}")
