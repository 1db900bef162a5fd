"""A recipient that is not reached is a system alarm, which the others are told of."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.notify.messages import Message
from services.alarmsrv.notify.schemas import recipient_id
from services.alarmsrv.notify.senders import AgainError, Webhook
from services.alarmsrv.notify.settings import WebhookSettings
from services.alarmsrv.settings import AlarmsrvSettings
from services.commands.doctor_site import untold
from tests.support.brokers import make_authority, make_certificate
from tests.support.mail import MailServer
from tests.support.notify import SECRET, Hook, email_of, raise_alarm, settings_of, settled, site, webhook_of
from tests.support.servers import RedisServer, free_port
from tests.support.wait import wait_until


async def system_alarms(functions: Functions) -> dict[str, dict[str, Any]]:
    """Return the system alarms about recipients by source."""
    page = await functions.read_json("query_alarms", None, {"limit": 100})
    return {one["source"]: one for one in page["items"] if one["source"].startswith("system:notification:")}


async def status(functions: Functions, target: str, wanted: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        found = (await system_alarms(functions)).get(f"system:notification:{recipient_id(target)}")
        return found if found and found["status"] == wanted else None

    return await wait_until(reached, f"{target} is {wanted}") or {}


async def reported(functions: Functions) -> None:
    """Wait until alarmsrv reports once more: that moves the timer of its silence."""

    async def due() -> float:
        return float(await execute(functions.client, "ZSCORE", "voltage:timers", "silent|alarmsrv") or 0)

    before = await due()

    async def moved() -> bool:
        return await due() > before

    await wait_until(moved, "it reports")


async def test_a_webhook_that_is_away(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer, hook: Hook
) -> None:
    """It stands over a restart, is told to the other alone, and ends when a message arrives."""
    routes = [{"id": "shift", "to": ["webhook:pager", "email:anna@example.com"]}]
    ways: dict[str, Any] = {"email": email_of(mail), "webhooks": webhook_of(hook)}
    settings = settings_of(redis_server.url, tmp_path, routes, **ways).model_dump()
    settings["system"] = {"notification": {"on_delay_ms": 10}}
    hook.status = 503
    async with site(functions, AlarmsrvSettings.model_validate(settings)) as service:
        await raise_alarm(functions, "hot")

        async def ticked() -> bool:
            await functions.call("voltage_tick", None)
            return bool(await system_alarms(functions))

        await wait_until(ticked, "it is an alarm")
        alarm = await status(functions, "webhook:pager", "New")
        address = hook.url.removesuffix("/alarms")
        assert alarm["title"] == f"A recipient of alarms is not reached: webhook:pager: {address} answered 503"

        async def told() -> bool:
            return len(mail.mails) == 2

        await wait_until(told, "the other was told")
        (finding,) = untold((await service.get("/api/alarms/outbox")).body)
        assert finding.detail == f"webhook:pager is not told: {address} answered 503; messages that wait: 1"
    async with site(functions, AlarmsrvSettings.model_validate(settings)):
        await reported(functions)
        assert (await status(functions, "webhook:pager", "New"))["id"] == alarm["id"]
        hook.status = 204
        await settled(functions)
        await status(functions, "webhook:pager", "Returned")
    assert [document["data"]["alarm"] for _, document in hook.got] == ["hot"]


async def test_a_mailbox_that_is_gone(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer
) -> None:
    """What was given up says so after a restart, until it is sent again; nobody else is there to be told."""
    mail.refuse = {"gone@example.com"}
    routes = [{"id": "shift", "to": ["email:gone@example.com"]}]
    settings = settings_of(redis_server.url, tmp_path, routes, email=email_of(mail)).model_dump()
    settings["system"] = {"notification": {"on_delay_ms": 0}}
    async with site(functions, AlarmsrvSettings.model_validate(settings)):
        await raise_alarm(functions, "hot")
        await status(functions, "email:gone@example.com", "New")
        await settled(functions)
    async with site(functions, AlarmsrvSettings.model_validate(settings)) as service:
        body = (await service.get("/api/alarms/outbox")).body
        first, second = untold(body)
        assert first.detail == "email:gone@example.com is not told: refused: 550 no such mailbox; messages that wait: 0"
        assert (body["dead_letters"], second.detail) == (1, "messages to people that were given up: 1")
        (letter,) = (await service.get("/api/alarms/outbox/dead-letters")).body["items"]
        mail.refuse = set()
        await service.ask("POST", "/api/alarms/outbox/dead-letters/retry", {"ids": [letter["id"]]})
        await status(functions, "email:gone@example.com", "Returned")


async def test_why_a_connection_failed_is_said_plainly(tmp_path: Path) -> None:
    """The address and the reason, whatever the library says around them; nothing of the path."""

    async def said(url: str, **more: Any) -> str:
        sender = Webhook(WebhookSettings.model_validate({"url": url, "secret": SECRET, "timeout_s": 0.3, **more}))
        with pytest.raises(AgainError) as caught:
            await sender.send(Message("id", "webhook:pager", "", "", {}), "pager")
        return str(caught.value)

    port = free_port()
    assert await said(f"http://127.0.0.1:{port}/secret") == f"http://127.0.0.1:{port}: Connection refused"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = make_certificate(make_authority(tmp_path / "ca", "authority"), "server")
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for tls, scheme, reason in ((None, "http", "no answer within 0.3 s"), (context, "https", "its certificate is ref")):
        async with await asyncio.start_server(silent, "127.0.0.1", port, ssl=tls):
            assert (await said(f"{scheme}://127.0.0.1:{port}/x")).startswith(f"{scheme}://127.0.0.1:{port}: {reason}")
