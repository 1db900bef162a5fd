"""Commands from a broker: through the ledger, only what is allowed, never late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from libs import clock
from libs.redis.functions import Functions
from services.netsrv.app import create_app
from tests.integration.hissrv.support import Channel
from tests.integration.netsrv.support import network, received, settings_of, status_when
from tests.support.brokers import Broker, Subscriber, publish
from tests.support.servers import RedisServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

COMMANDS = {"topic": "plant/commands", "response_topic": "plant/answers", "allow": ["comsrv:1001:A:1"]}


@pytest.fixture
async def site(netsrv: Service, broker: Broker, channel: Channel) -> Service:
    """Give the service, connected, with commands allowed to one point."""
    assert (await netsrv.ask("POST", "/api/networks", network(broker, commands=COMMANDS))).status == 201
    await status_when(netsrv, connected=True)
    return netsrv


async def send(broker: Broker, message: dict[str, Any] | str, *options: str) -> None:
    """Send a command."""
    text = message if isinstance(message, str) else orjson.dumps(message).decode()
    await publish(broker, "plant/commands", text, *options)


async def claim(functions: Functions, channel: Channel) -> dict[str, Any]:
    """Take the next command, as comsrv does."""

    async def one() -> Any:
        return await functions.json("command_claim", 1001, {"epoch": channel.epoch})

    (command,) = await wait_until(one, "a command is queued")
    found: dict[str, Any] = command
    return found


async def test_allowed(
    site: Service, broker: Broker, heard: Subscriber, functions: Functions, channel: Channel
) -> None:
    """It is queued, carried out and answered twice; the same id again changes nothing."""
    command = {"id": "c1", "channel": 1001, "type": "A", "point": 1, "value": 42.5, "at_ms": clock.now_ms()}
    await send(broker, command)
    taken = await claim(functions, channel)
    assert (taken["id"], taken["value"], taken["source"]) == ("c1", 42.5, {"kind": "network", "name": "cloud"})
    (first,) = await received(heard, "plant/answers", 1)
    assert (first["id"], first["state"], first["final"]) == ("c1", "queued", False)
    await functions.call("command_complete", 1001, {"epoch": channel.epoch, "id": "c1", "state": "acknowledged"})
    await functions.call("command_complete", 1001, {"epoch": channel.epoch, "id": "c1", "state": "verified"})
    answers = await received(heard, "plant/answers", 2)
    assert (answers[1]["ref"], answers[1]["state"], answers[1]["final"]) == ("comsrv:1001:A:1", "verified", True)
    await send(broker, command)
    answers = await received(heard, "plant/answers", 3)
    assert answers[2]["state"] == "verified"
    assert await functions.json("command_claim", 1001, {"epoch": channel.epoch}) == []


GOOD = {"id": "c1", "ref": "comsrv:1001:A:1", "value": 1}


@pytest.mark.parametrize(
    ("message", "options", "said"),
    [
        ({**GOOD, "ref": "comsrv:1001:A:2"}, [], "not in the allow-list"),
        ({**GOOD, "ref": "comsrv:1001:T:1"}, [], "no point that can be commanded"),
        ({**GOOD, "at_ms": -20_000}, [], "late by"),
        ({**GOOD, "at_ms": -1500, "ttl_ms": 1000}, [], "late by"),
        ({**GOOD, "at_ms": 60_000}, [], "in the future"),
        ({**GOOD, "at_ms": 0}, ["-r"], "retained command is refused"),
        (GOOD, ["-r"], "retained command is refused"),
        ({**GOOD, "ref": "comsrv:1001:A:1", "point": 1}, [], "send one"),
        ({**GOOD, "volume": 11}, [], "unknown key"),
        ({"ref": "comsrv:1001:A:1", "value": 1}, [], "id: is required"),
        ("{nonsense", [], "JSON"),
        ("[" * 9000, [], "JSON"),
        ("x" * 20_000, [], "at most 16384"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
async def test_refused(
    netsrv: Service, broker: Broker, functions: Functions, channel: Channel, heard: Subscriber,
    message: Any, options: list[str], said: str,
) -> None:  # fmt: skip
    """Whatever is wrong is answered with the reason, and nothing is queued."""
    if isinstance(message, dict) and "at_ms" in message:
        message = message | {"at_ms": clock.now_ms() + message["at_ms"]}
    if options:
        # A retained message waits at the broker, and is met when netsrv connects.
        await send(broker, message, *options)
    await netsrv.ask("POST", "/api/networks", network(broker, commands=COMMANDS))
    await status_when(netsrv, connected=True)
    if not options:
        await send(broker, message)
    (answer,) = await received(heard, "plant/answers", 1)
    assert answer["state"] == "refused"
    assert said in answer["reason"], answer
    assert (await functions.read_json("command_list", None))["items"] == []


async def test_an_id_of_someone_else(
    site: Service, broker: Broker, heard: Subscriber, functions: Functions, channel: Channel
) -> None:
    """The ledger's answer about another's command is not shown."""
    theirs = {"id": "c1", "type": "A", "point": 2, "value": 9, "source": {"kind": "user", "name": "ann"}}
    await functions.call("command_submit", 1001, theirs)
    await send(broker, GOOD)
    (answer,) = await received(heard, "plant/answers", 1)
    assert (answer["state"], answer["reason"]) == ("refused", "id c1 is taken by another command")


async def test_the_outcome_is_told_after_a_restart(
    redis_server: RedisServer, broker: Broker, heard: Subscriber, functions: Functions, channel: Channel, tmp_path: Path
) -> None:
    """Who asked is remembered on disk."""
    settings = settings_of(redis_server, tmp_path)
    async with running(create_app, settings) as service:
        await service.ask("POST", "/api/networks", network(broker, commands=COMMANDS))
        await status_when(service, connected=True)
        await send(broker, {**GOOD, "ttl_ms": 60_000})
        await received(heard, "plant/answers", 1)
        # Until the broker has acknowledged it, it would be told again.
        await status_when(service, queue={"messages": 0})
    await claim(functions, channel)
    await functions.call(
        "command_complete", 1001, {"epoch": channel.epoch, "id": "c1", "state": "rejected", "reason": "no"}
    )
    async with running(create_app, settings):
        answers = await received(heard, "plant/answers", 2)
    assert (answers[1]["state"], answers[1]["reason"]) == ("rejected", "no")


async def test_expired(site: Service, broker: Broker, heard: Subscriber, functions: Functions) -> None:
    """A command that nobody takes ends by its time to live, and the network is told."""
    await send(broker, {**GOOD, "ttl_ms": 300, "at_ms": clock.now_ms()})
    await received(heard, "plant/answers", 1)

    async def over() -> Any:
        await functions.call("voltage_tick", None, {})
        answers = await received(heard, "plant/answers", 1)
        return answers[1] if len(answers) > 1 else None

    answer = await wait_until(over, "the outcome is told")
    assert (answer["state"], answer["final"]) == ("expired", True)
