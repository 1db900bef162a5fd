"""Notification against real peers: an SMTP server, a webhook checked by `standardwebhooks`, mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import orjson
import pytest

from libs.http import Role
from libs.redis import client, library
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.notify.handlers import DISPATCHER
from services.alarmsrv.notify.messages import Message
from services.alarmsrv.notify.senders import AgainError
from tests.support.brokers import Broker, Subscriber, make_authority, make_certificate
from tests.support.mail import MailServer, mail_server
from tests.support.notify import FAST, Hook, email_of, left, raise_alarm, settings_of, settled, site, webhook_of
from tests.support.servers import RedisServer, free_port
from tests.support.wait import wait_until


async def test_one_alarm_by_three_ways(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer, hook: Hook
) -> None:
    """Level and tags decide; each way carries the same id; what no route wants costs no entry."""
    broker = Broker(tmp_path / "broker", free_port())
    broker.start()
    subscriber = Subscriber(broker, "site/#")
    await subscriber.start()
    to = ["email:anna@example.com", "webhook:pager", "mqtt:site/alarms"]
    routes = [{"id": "hall", "levels": ["Critical", "Major"], "tags": ["hall-1"], "to": to}]
    ways = {"email": email_of(mail), "webhooks": webhook_of(hook), "mqtt": {"host": "127.0.0.1", "port": broker.port}}
    try:
        async with site(functions, settings_of(redis_server.url, tmp_path, routes, **ways)):
            await raise_alarm(functions, "elsewhere", tags=["hall-2"])
            await raise_alarm(functions, "minor", "Minor", tags=["hall-1"])
            await raise_alarm(functions, "hot", tags=["hall-1"], value=81.5)

            async def told() -> bool:
                return bool(mail.mails and hook.got and subscriber.messages())

            await wait_until(told, "all three were told")
            await settled(functions)
        (message,) = mail.of("anna@example.com")
        assert message["Subject"] == "[Test] Major: Title of hot (raised)"
        assert "Value:       81.5 (good)" in message.get_content()
        ((message_id, document),) = hook.got
        assert (document["type"], document["data"]["alarm"], document["data"]["value"]) == ("alarm.raised", "hot", 81.5)
        ((topic, payload),) = subscriber.messages()
        assert (topic, orjson.loads(payload)["data"]) == ("site/alarms", document["data"])
        assert message_id.startswith("alarm-")
        assert message["Message-ID"].startswith("<alarm-")
    finally:
        await subscriber.stop()
        broker.kill()


async def test_a_storm_is_one_digest_a_recipient(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer, hook: Hook
) -> None:
    """Two thousand alarms in a second or so that return at once: one mail to each, one webhook."""
    routes = [
        {"id": "shift", "to": ["email:anna@example.com", "webhook:pager"], "events": ["raised", "resolved"]},
        {"id": "more", "to": ["email:ben@example.com", "email:anna@example.com"]},
    ]
    ways = {"email": email_of(mail), "webhooks": webhook_of(hook), "rate": {**FAST, "quiet_ms": 4000}}
    async with site(functions, settings_of(redis_server.url, tmp_path, routes, **ways)):
        for number in range(0, 2000, 50):
            await asyncio.gather(*(raise_alarm(functions, f"a{one}", "Minor") for one in range(number, number + 50)))
        for number in range(0, 2000, 50):
            ids = range(number, number + 50)
            await asyncio.gather(*(functions.call("resolve_alarm", f"a{one}", "storm") for one in ids))
        await settled(functions)
    assert len(mail.of("anna@example.com")) == 1
    assert len(mail.of("ben@example.com")) == 1
    ((_, document),) = hook.got
    assert (document["type"], document["data"]["alarms"], document["data"]["transitions"]) == (
        "alarm.digest",
        2000,
        4000,
    )
    assert document["data"]["first"]["alarm"] == "a0"
    assert "2000 alarms" in mail.of("anna@example.com")[0]["Subject"]


async def test_a_restart_in_the_middle_neither_loses_nor_forges(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer, hook: Hook
) -> None:
    """The webhook fails while the mail has gone; after the restart the same message comes, and no second mail."""
    routes = [{"id": "shift", "to": ["email:anna@example.com", "webhook:pager"]}]
    settings = settings_of(redis_server.url, tmp_path, routes, email=email_of(mail), webhooks=webhook_of(hook))
    hook.status = 503
    async with site(functions, settings):
        await raise_alarm(functions, "hot")

        async def half() -> bool:
            return hook.tried >= 2 and len(mail.mails) == 1 and (await left(functions))[1] == 1

        await wait_until(half, "the mail went, the webhook did not")
    sending = await execute(functions.client, "HGETALL", "alarmsrv:outbox:sending")
    hook.status = 200
    async with site(functions, settings):
        await settled(functions)
    assert len(mail.mails) == 1
    ((message_id, _),) = hook.got
    assert message_id == orjson.loads(sending[b"webhook:pager"])["id"]


async def test_what_never_arrives_is_put_aside(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer
) -> None:
    """A mailbox that is not there: a dead letter, which goes again when asked; the next alarm is not held up."""
    mail.refuse = {"gone@example.com"}
    routes = [{"id": "shift", "to": ["email:gone@example.com"]}]
    settings = settings_of(redis_server.url, tmp_path, routes, email=email_of(mail))
    async with site(functions, settings) as service:
        await raise_alarm(functions, "hot")
        await settled(functions)
        (letter,) = (await service.get("/api/alarms/outbox/dead-letters")).body["items"]
        assert (letter["target"], letter["attempts"]) == ("email:gone@example.com", 1)
        assert "550" in letter["reason"]
        mail.refuse = set()
        again = await service.ask("POST", "/api/alarms/outbox/dead-letters/retry", {"ids": [letter["id"]]})
        assert again.body == {"sent": [letter["id"]], "failed": {}}
        assert [message["Message-ID"] for message in mail.of("gone@example.com")]
        assert (await service.get("/api/alarms/outbox")).body["dead_letters"] == 0
        async with service.client.get("/metrics") as answer:
            text = await answer.text()
        assert 'voltage_notifications_total{outcome="given_up",way="email"} 1.0' in text


async def test_mail_goes_encrypted_and_logged_in_or_not_at_all(
    functions: Functions, redis_server: RedisServer, tmp_path: Path
) -> None:
    """STARTTLS with a verified certificate and a password; a certificate of a stranger is refused."""
    authority = make_authority(tmp_path / "ca", "authority")
    stranger = make_authority(tmp_path / "other", "stranger")
    certificate = make_certificate(authority, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with mail_server(context, ems="letmein") as peer:
        more = {"security": "starttls", "username": "ems", "password": "letmein"}
        routes = [{"id": "shift", "to": ["email:anna@example.com"]}]
        wrong = settings_of(redis_server.url, tmp_path, routes, email=email_of(peer, ca_file=stranger, **more))
        async with site(functions, wrong) as service:
            await raise_alarm(functions, "hot")

            async def refused() -> bool:
                targets = (await service.get("/api/alarms/outbox")).body["targets"]
                return bool(targets) and "certificate" in (targets[0]["last_error"] or "").lower()

            await wait_until(refused, "the certificate was refused")
            assert peer.mails == []
        right = settings_of(redis_server.url, tmp_path, routes, email=email_of(peer, ca_file=authority, **more))
        async with site(functions, right):
            await settled(functions)
        assert [(mail.encrypted, mail.user) for mail in peer.mails] == [(True, "ems")]


class Loses:
    """A way whose library turns a cancellation into a failure, as aiosmtplib may."""

    def __init__(self) -> None:
        self.tried = asyncio.Event()

    async def send(self, message: Message, place: str) -> None:
        del message, place
        self.tried.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
        raise AgainError("lost")


async def test_a_way_that_loses_a_cancellation_does_not_keep_the_service_from_stopping(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer
) -> None:
    routes = [{"id": "shift", "to": ["email:anna@example.com"]}]
    way = Loses()
    async with asyncio.timeout(30):
        async with site(functions, settings_of(redis_server.url, tmp_path, routes, email=email_of(mail))) as service:
            app = service.client.app
            assert app is not None
            app[DISPATCHER].senders["email"] = way
            await raise_alarm(functions, "hot")
            await way.tried.wait()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_escalation_fires_at_its_instant_over_restarts(kind: str, tmp_path: Path, mail: MailServer) -> None:
    """Redis and alarmsrv are killed while the time runs; the second in line is told once, the first not again."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(kind, tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    routes = [
        {
            "id": "duty",
            "to": ["email:anna@example.com"],
            "escalation": [{"after_s": 2, "to": ["email:boss@example.com"]}],
        }
    ]
    settings = settings_of(server.url, tmp_path, routes, email=email_of(mail))
    try:
        gate = client.connect(server.url)
        await library.load(gate)
        functions = Functions(gate)
        async with site(functions, settings):
            await raise_alarm(functions, "hot", "Critical")
            await raise_alarm(functions, "seen", "Critical")
            await functions.call("acknowledge_alarm", "seen", "anna")
            raised = (await functions.read_json("get_alarm", "hot"))["created_at_ms"]
        server.kill()
        server.start()
        async with site(functions, settings):

            async def escalated() -> bool:
                await functions.call("voltage_tick", None)
                return len(mail.of("boss@example.com")) > 0

            await wait_until(escalated, "the boss was told")
            await settled(functions)
        entries = await execute(gate, "XRANGE", "alarmsrv:journal", "-", "+")
        fired = [fields for _, fields in entries if fields[b"event"] == b"escalated"]
        assert [(one[b"alarm"], int(one[b"at_ms"]) - raised) for one in fired] == [(b"hot", 2000)]
        assert "not acknowledged for 2 s" in mail.of("boss@example.com")[0]["Subject"]
        assert len(mail.of("boss@example.com")) == 1
        assert len(mail.of("anna@example.com")) == 2
        await gate.aclose()
    finally:
        server.stop()


async def test_routes_over_http(functions: Functions, redis_server: RedisServer, tmp_path: Path, hook: Hook) -> None:
    """CRUD with the reason where a target can't be reached; a test goes to all; without routes nothing is written."""
    settings = settings_of(redis_server.url, tmp_path, [], webhooks=webhook_of(hook))
    async with site(functions, settings) as service:
        await raise_alarm(functions, "before")
        assert await left(functions) == (0, 0, 0)
        route = {"id": "pager", "to": ["webhook:pager", "webhook:none", "email:a@b.example"]}
        refused = await service.ask("POST", "/api/alarm-routes", route)
        assert (refused.status, [one["field"] for one in refused.body["errors"]]) == (422, ["to[1]", "to[2]"])
        route["to"] = ["webhook:pager"]
        assert (await service.ask("POST", "/api/alarm-routes", route, role=Role.OPERATOR)).status == 403
        assert (await service.ask("POST", "/api/alarm-routes", route)).status == 201
        assert (await service.ask("POST", "/api/alarm-routes/pager/test")).status == 202

        async def arrived() -> bool:
            return bool(hook.got)

        await wait_until(arrived, "the test arrived")
        assert hook.got[0][1]["type"] == "alarm.test"
        await settled(functions)
        assert (await service.ask("DELETE", "/api/alarm-routes/pager")).status == 200
        await raise_alarm(functions, "after")
        assert await left(functions) == (0, 0, 0)
