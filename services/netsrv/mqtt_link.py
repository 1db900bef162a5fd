"""MQTT 3.1.1: messages leave in order, and are removed when the broker has acknowledged them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Final, NamedTuple, Protocol

import aiomqtt
import orjson

from libs.clock import now_ms
from libs.errors import UnavailableError
from libs.tasks import cancel
from services.netsrv.disk_queue import DiskQueue, Stored
from services.netsrv.link import Link, tls_context
from services.netsrv.schemas import Network
from services.netsrv.settings import NetworkSecret

_LOG = logging.getLogger(__name__)
_PAHO = logging.getLogger("services.netsrv.paho")
PORT: Final = 1883
TLS_PORT: Final = 8883
KEEPALIVE_S: Final = 30
WINDOW: Final = 10
# A message at which the broker breaks off so many sessions in a row is its cause.
MAX_LOSSES: Final = 10
MAX_INCOMING: Final = 100
# The code of a refused subscription (MQTT 3.1.1 section 3.9.3).
REFUSED: Final = 0x80
GOODBYE_S: Final = 2.0


class Receiver(Protocol):
    """What takes commands from the broker."""

    async def take(self, payload: bytes, *, retained: bool) -> None:
        """Handle one message of the command topic."""

    async def follow(self) -> None:
        """Answer commands as their outcome becomes known, for ever."""


class _Flight(NamedTuple):
    """A message on its way."""

    stored: Stored
    task: asyncio.Task[str | None]


class MqttLink(Link):
    """A broker."""

    def __init__(
        self, network: Network, secret: NetworkSecret, queue: DiskQueue, receiver: Receiver | None = None
    ) -> None:
        super().__init__(network, secret, queue)
        self._receiver = receiver
        self._head: tuple[int, int] | None = None

    @property
    def status_topic(self) -> str:
        """Where online and offline are said, retained."""
        return self.network.status_topic or f"voltage/{self.name}/status"

    async def session(self) -> None:
        """Connect, say that we are there, then send and receive until the connection ends."""
        client = self._client()
        try:
            async with client:
                try:
                    await self._hello(client)
                    await self._together(client)
                finally:
                    await self._goodbye(client)
        except aiomqtt.MqttError as error:
            raise UnavailableError(f"MQTT: {error.__cause__ or error}") from None
        except (OSError, ValueError) as error:
            raise UnavailableError(f"MQTT: {error}") from None

    def _client(self) -> aiomqtt.Client:
        network, secret = self.network, self.secret
        client = aiomqtt.Client(
            network.host or "",
            network.port or (TLS_PORT if network.tls else PORT),
            username=secret.username.get_secret_value() if secret.username else None,
            password=secret.password.get_secret_value() if secret.password else None,
            identifier=network.client_id or f"voltage-{self.name}-{self.queue.name}"[:64],
            will=aiomqtt.Will(self.status_topic, _state("offline"), qos=1, retain=True),
            clean_session=True,
            keepalive=network.keepalive_s or KEEPALIVE_S,
            timeout=network.timeout_s,
            tls_context=tls_context(network.tls) if network.tls else None,
            max_queued_incoming_messages=MAX_INCOMING,
            max_inflight_messages=network.window or WINDOW,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=_PAHO,
        )
        client.pending_calls_threshold = 2 * (network.window or WINDOW) + 10
        return client

    async def _hello(self, client: aiomqtt.Client) -> None:
        await client.publish(self.status_topic, _state("online"), qos=1, retain=True)
        if self.network.commands and self._receiver:
            granted = await client.subscribe(self.network.commands.topic, qos=1)
            if any(code >= REFUSED if isinstance(code, int) else code.is_failure for code in granted):
                raise UnavailableError(f"the broker refuses a subscription of {self.network.commands.topic}")
        self.up()

    async def _goodbye(self, client: aiomqtt.Client) -> None:
        """Say that we leave; where the connection is gone, the broker's last will says it."""
        client.timeout = GOODBYE_S
        with contextlib.suppress(aiomqtt.MqttError, ValueError):
            await client.publish(self.status_topic, _state("offline"), qos=1, retain=True)

    async def _together(self, client: aiomqtt.Client) -> None:
        works = [self._send(client), self._receive(client)]
        if self._receiver:
            works.append(self._receiver.follow())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(*tasks)
        for task in done:
            task.result()

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Take commands; ends with the connection, which nothing else notices."""
        async for message in client.messages:
            if self._receiver and isinstance(message.payload, bytes):
                await self._receiver.take(message.payload, retained=message.retain)

    async def _send(self, client: aiomqtt.Client) -> None:
        """Keep a window of messages on their way; each leaves the disk once all before it are acknowledged.

        The window slides: what goes out carries TCP's acknowledgement of what came in. A window that
        waits to be whole waits 40 ms each time for a delayed acknowledgement.
        """
        flying: dict[int, _Flight] = {}
        try:
            while True:
                # After a session that ended while sending, one at a time shows which message it was.
                window = 1 if self._head else self.network.window or WINDOW
                if len(flying) < window:
                    for one in await self.queue.peek(window):
                        if one.id not in flying and len(flying) < window:
                            flying[one.id] = _Flight(one, asyncio.create_task(_publish(client, one)))
                if flying:
                    await asyncio.wait({next(iter(flying.values())).task})
                    await self._settle(flying)
                else:
                    await self.queue.wait()
        except asyncio.CancelledError:
            # The connection ended, or the service does.
            await self._land(flying)
            if flying:
                await self._lost_at(next(iter(flying.values())).stored)
            raise
        except aiomqtt.MqttError:
            await self._land(flying)
            raise

    async def _land(self, flying: dict[int, _Flight]) -> None:
        """Give up what is on its way; what was acknowledged still counts."""
        await cancel(*(flight.task for flight in flying.values()))
        with contextlib.suppress(aiomqtt.MqttError, asyncio.CancelledError):
            await self._settle(flying)

    async def _settle(self, flying: dict[int, _Flight]) -> None:
        """Take out what is done, up to the first that is not."""
        sent: list[int] = []
        try:
            for one, flight in list(flying.items()):
                if not flight.task.done():
                    break
                if (impossible := flight.task.result()) is not None:
                    await self.queue.dead_letter(one, impossible)
                sent.append(one)
                del flying[one]
        finally:
            # One that was put aside is not there any more and does not count as sent.
            await self.queue.sent(sent)
            if sent:
                self.worked()
                self._head = None

    async def _lost_at(self, head: Stored) -> None:
        losses = self._head[1] + 1 if self._head and self._head[0] == head.id else 1
        self._head = head.id, losses
        if losses >= MAX_LOSSES:
            _LOG.error("network %s: the broker broke off %d times at %s", self.name, losses, head.message.target)
            await self.queue.dead_letter(head.id, f"the broker broke off {losses} sessions at this message")
            self._head = None


async def _publish(client: aiomqtt.Client, one: Stored) -> str | None:
    """Publish a message and return when the broker has it; return what is wrong with its topic, if anything."""
    message = one.message
    try:
        await client.publish(message.target, message.payload, qos=message.qos, retain=message.retain)
    except ValueError as error:
        return f"{message.target!r}: {error}"
    return None


def _state(state: str) -> bytes:
    # A last will is written when the session begins, so only `online` has an instant.
    return orjson.dumps({"state": state} | ({"at_ms": now_ms()} if state == "online" else {}))
