"""netsrv and a real broker: mosquitto_sub receives what is forwarded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from libs import clock
from libs.redis.functions import Functions
from services.netsrv.app import create_app
from tests.integration.hissrv.support import Channel, section
from tests.integration.netsrv.support import network, received, settings_of, status_when
from tests.support.brokers import Broker, Subscriber, make_authority, make_certificate, make_users
from tests.support.servers import RedisServer, free_port
from tests.support.service import Service, running
from tests.support.wait import wait_until


async def test_changes_arrive(
    broker: Broker, heard: Subscriber, netsrv: Service, functions: Functions, channel: Channel
) -> None:
    """Values, qualities, templates; a route counts from its creation on."""
    await channel.send(1, section("T", {"1": 0.5}))
    assert (await netsrv.ask("POST", "/api/networks", network(broker))).status == 201
    routes = [
        {"id": "all", "source": "comsrv:1001:*", "target": "site/{channel}"},
        {"id": "one", "source": "comsrv:1001:T:1", "target": "p/{point}", "template": {"v": "{value}", "at": "{time}"}},
        {"id": "line", "source": "comsrv:1001:T:?", "target": "lines", "formatter": "ascii",
         "template": "{ref}={value:.1f}[{quality}]", "separator": ";"},
    ]  # fmt: skip
    for route in routes:
        assert (await netsrv.ask("POST", "/api/routes", {"network": "cloud", **route})).status == 201
    await status_when(netsrv, connected=True)
    assert await received(heard, "voltage/cloud/status", 1) == [{"state": "online", "at_ms": heard_at(heard)}]
    await channel.send(
        1_700_000_000_123, section("T", {"1": 1.25, "2": -2}, {"2": "uncertain:test"}), section("S", {"1": 1})
    )
    await channel.send(1_700_000_001_000, section("T", {}, {"1": "bad:timeout"}))
    whole = await received(heard, "site/1001", 2)
    assert whole[0]["at_ms"] == 1_700_000_000_123
    assert whole[0]["points"] == [
        {"ref": "comsrv:1001:T:1", "value": 1.25, "quality": "good"},
        {"ref": "comsrv:1001:T:2", "value": -2.0, "quality": "uncertain:test"},
        {"ref": "comsrv:1001:S:1", "value": 1.0, "quality": "good"},
    ]
    assert whole[1]["points"] == [{"ref": "comsrv:1001:T:1", "value": None, "quality": "bad:timeout"}]
    assert whole[1]["image"] > whole[0]["image"]
    assert await received(heard, "p/1", 2) == [
        {"v": 1.25, "at": "2023-11-14T22:13:20.123Z"},
        {"v": None, "at": "2023-11-14T22:13:21.000Z"},
    ]
    lines = [payload for topic, payload in heard.messages() if topic == "lines"]
    assert lines[0] == "comsrv:1001:T:1=1.2[good];comsrv:1001:T:2=-2.0[uncertain:test]"

    status = await status_when(netsrv, queue={"messages": 0})
    assert (status["sent"], status["failed"], status["dropped"]) == (6, 0, {})


def heard_at(heard: Subscriber) -> int:
    """Return the instant in the first message that has one."""
    return int(orjson.loads(heard.messages()[0][1])["at_ms"])


async def test_points_of_models(
    broker: Broker, heard: Subscriber, netsrv: Service, functions: Functions, channel: Channel
) -> None:
    """A route may name a model's points; they come under their model's name."""
    template = {
        "name": "t",
        "class": "load",
        "data_points": {"active_power": {"base_id": 1, "kind": "T"}},
        "actions": {},
    }
    await functions.call("template_upsert", "t1", template)
    await functions.call(
        "model_upsert", "load1",
        {"name": "load", "template": "t1", "mapping": {"channel": 1001, "data": {"active_power": 1}, "action": {}}},
    )  # fmt: skip
    await netsrv.ask("POST", "/api/networks", network(broker))
    await netsrv.ask("POST", "/api/routes", {"network": "cloud", "source": "modsrv:load1:*", "target": "m/{model}"})
    await channel.send(5, section("T", {"1": 7, "2": 8}))
    (message,) = await received(heard, "m/load1", 1)
    assert message["points"] == [{"ref": "modsrv:load1:active_power", "value": 7.0, "quality": "good"}]


async def test_every_interval(broker: Broker, heard: Subscriber, netsrv: Service, channel: Channel) -> None:
    """The present values at full multiples of the interval, whether they changed or not; no group at the queue."""
    await channel.send(clock.now_ms(), section("T", {"1": 3}, {"2": "bad:timeout"}))
    await netsrv.ask("POST", "/api/networks", network(broker))
    route = {
        "network": "cloud",
        "source": "comsrv:1001:T:*",
        "target": "now",
        "trigger": "interval",
        "interval_ms": 200,
    }
    assert (await netsrv.ask("POST", "/api/routes", route)).status == 201
    first, second = (await received(heard, "now", 2))[:2]
    assert second["at_ms"] - first["at_ms"] in {200, 400}
    assert first["at_ms"] % 200 == 0
    assert first["image"] > 0
    assert (
        first["points"]
        == second["points"]
        == [
            {"ref": "comsrv:1001:T:1", "value": 3.0, "quality": "good"},
            {"ref": "comsrv:1001:T:2", "value": None, "quality": "bad:timeout"},
        ]
    )


async def test_last_will(broker: Broker, redis_server: RedisServer, functions: Functions, tmp_path: Path) -> None:
    """Who subscribes later reads from the retained status that netsrv left."""
    async with running(create_app, settings_of(redis_server, tmp_path)) as service:
        await service.ask("POST", "/api/networks", network(broker, status_topic="plant/status"))
        await status_when(service, connected=True)
    later = Subscriber(broker, "plant/status")
    await later.start()
    assert await received(later, "plant/status", 1) == [{"state": "offline"}]
    await later.stop()


async def test_a_password_is_needed_and_never_shown(
    redis_server: RedisServer, functions: Functions, tmp_path: Path
) -> None:
    """With the secret it connects; without it the status says why. No reply holds the secret."""
    users = make_users(tmp_path / "users", plant="s3cret-word")
    made = Broker(tmp_path / "broker", free_port(), "allow_anonymous false", f"password_file {users}", "user root")
    made.start()
    secrets = {
        "cloud": {"username": "plant", "password": "s3cret-word"},
        "wrong": {"username": "plant", "password": "no"},
    }
    try:
        async with running(create_app, settings_of(redis_server, tmp_path, secrets=secrets)) as service:
            created = await service.ask("POST", "/api/networks", network(made, secret="cloud"))  # noqa: S106 - a name
            wrong = await service.ask("POST", "/api/networks", network(made, id="b", secret="wrong"))  # noqa: S106
            status = await status_when(service, connected=True)

            async def refused() -> Any:
                found = (await service.get("/api/networks/b/status")).body
                return found if found["last_error"] else None

            found = await wait_until(refused, "the wrong password is refused")
            assert "ot authori" in found["last_error"], found
            assert not found["connected"]
            assert "s3cret-word" not in f"{created} {wrong} {status} {await service.get('/api/networks')}"
    finally:
        made.kill()


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_verified(redis_server: RedisServer, functions: Functions, tmp_path: Path, trusted: bool) -> None:
    """The broker's certificate must be signed by who we trust; any other is refused before anything is sent."""
    authority = make_authority(tmp_path / "tls", "authority")
    stranger = make_authority(tmp_path / "tls", "stranger")
    certificate = make_certificate(authority, "server")
    ours = make_certificate(authority, "netsrv")
    made = Broker(
        tmp_path / "broker", free_port(), f"cafile {authority}", f"certfile {certificate}",
        f"keyfile {certificate.with_suffix('.key')}", "require_certificate true", "user root",
    )  # fmt: skip
    made.start()
    tls = {
        "ca_file": str(authority if trusted else stranger),
        "cert_file": str(ours),
        "key_file": str(ours.with_suffix(".key")),
    }
    try:
        async with running(create_app, settings_of(redis_server, tmp_path)) as service:
            assert (await service.ask("POST", "/api/networks", network(made, tls=tls))).status == 201
            if trusted:
                await status_when(service, connected=True)
                return

            async def refused() -> Any:
                found = (await service.get("/api/networks/cloud/status")).body
                return found if found["failed"] > 1 else None

            found = await wait_until(refused, "the handshake fails")
            assert "CERTIFICATE_VERIFY_FAILED" in found["last_error"]
            assert not found["connected"]
            assert "as voltage-cloud" not in made.log()
    finally:
        made.kill()


async def test_a_message_the_broker_never_takes(
    redis_server: RedisServer, functions: Functions, channel: Channel, tmp_path: Path
) -> None:
    """One that ends each session is put aside after some, and what waits behind it goes on."""
    made = Broker(tmp_path / "broker", free_port(), "max_packet_size 500")
    made.start()
    heard = Subscriber(made, "v")
    await heard.start()
    retry = {"first_ms": 10, "max_ms": 20}
    try:
        async with running(create_app, settings_of(redis_server, tmp_path)) as service:
            await service.ask("POST", "/api/networks", network(made, retry=retry))
            route = {"network": "cloud", "source": "comsrv:1001:T:*", "target": "v", "formatter": "ascii"}
            large = "{value:.0f}" + 600 * "x"
            await service.ask("POST", "/api/routes", {**route, "source": "comsrv:1001:T:2", "template": large})
            await service.ask("POST", "/api/routes", {**route, "source": "comsrv:1001:T:1", "template": "{value:.0f}"})
            await channel.send(1, section("T", {"1": 1}))
            await channel.send(2, section("T", {"2": 2}))
            await channel.send(3, section("T", {"1": 3}))
            status = await status_when(service, sent=2, dead_letters=1, queue={"messages": 0})
            assert status["failed"] >= 10
            (letter,) = (await service.get("/api/networks/cloud/dead-letters")).body["items"]
            assert letter["reason"] == "the broker broke off 10 sessions at this message"
            # Quality of service 1: what a broken session had sent may come twice.
            assert list(dict.fromkeys(payload for _, payload in heard.messages())) == ["1", "3"]
    finally:
        await heard.stop()
        made.kill()
