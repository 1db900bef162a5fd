"""One subscription to Redis for the whole process, fanned out to all clients.

The order of a snapshot and the changes around it is settled by Redis: the transaction
that reads a snapshot also publishes a barrier on a channel only this hub listens to.
The subscription brings all messages in the order Redis ran things, so what comes before
the barrier is in the snapshot and what comes after is not. A client's outbox counts a
selection from its barrier on, and is sent only after the snapshot.

When Redis is lost, or falls silent, every client is told; when it is back, every client
gets a fresh snapshot of all it wants.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable
from typing import Any, Final

from libs.clock import monotonic_ms
from libs.errors import UnavailableError, VoltageError
from libs.redis import keys
from libs.redis.client import Client, translated
from libs.tasks import heed
from services.gateway.functions import GatewayFunctions, Image, Liveness
from services.gateway.messages import parse_event, parse_update
from services.gateway.outbox import Document, Outbox
from services.gateway.selection import Selection

logger = logging.getLogger(__name__)

PULSE_S: Final = 1.0
# A subscription that brings nothing for so long, not even our own pulse, is dead.
SILENCE_MS: Final = 4000
RETRY_S: Final = 0.5
CONFIRM_TIMEOUT_S: Final = 5.0
PULSE: Final = "pulse"


class Subscriber:
    """One client of the hub: what it wants, and what it has not been sent."""

    def __init__(self) -> None:
        """Start without wishes."""
        self.wanted = Selection()
        self.outbox = Outbox()
        # What waits for a snapshot.
        self.requested = Selection()
        self.stale: str | None = None

    def request(self, selection: Selection) -> None:
        """Ask for a snapshot of a selection, and for its changes from then on."""
        self.wanted.add(selection)
        self.requested.add(selection)
        self.outbox.ready.set()

    def release(self, selection: Selection) -> None:
        """Want a selection no longer."""
        self.wanted.remove(selection)
        self.requested.remove(selection)
        self.outbox.end(selection)

    def lose(self, reason: str) -> None:
        """Redis was lost: nothing is live until the next snapshot."""
        self.stale = reason
        self.outbox.drop()
        self.outbox.ready.set()

    def recover(self) -> None:
        """Redis is back: everything wanted needs a fresh snapshot."""
        self.stale = None
        self.requested.add(self.wanted)
        self.outbox.ready.set()


class Hub:
    """The process' one subscription and the clients it serves."""

    def __init__(self, client: Client, functions: GatewayFunctions, prefix: str) -> None:
        """Keep the client (which must not time out on reads) and the namespace's prefix."""
        self._client = client
        self._functions = functions
        self._prefix = prefix
        self._own = f"{prefix}gateway:barrier:{secrets.token_hex(8)}"
        self._streams = {
            f"{prefix}{keys.key('alarm_new')}": "alarms",
            f"{prefix}{keys.key('alarm_changed')}": "alarms",
            f"{prefix}{keys.key('triggered')}": "rules",
            f"{prefix}{keys.key('command_changed')}": "commands",
        }
        self._subscribers: set[Subscriber] = set()
        # The channels of Redis that are subscribed, and whose points each brings.
        self._listened: dict[str, str] = {}
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        self._barriers: dict[str, tuple[Subscriber, Selection]] = {}
        self._pubsub: Any = None
        self._subscribing = asyncio.Lock()
        self._heard_at = 0
        self._liveness: dict[str, Liveness] = {}
        self.problem: str | None = "not connected to Redis yet"

    # ------------------------------------------------------------ for clients

    def join(self, subscriber: Subscriber) -> None:
        """Serve a client from now on."""
        self._subscribers.add(subscriber)
        if self.problem is not None:
            subscriber.lose(self.problem)

    def leave(self, subscriber: Subscriber) -> None:
        """Serve a client no longer."""
        self._subscribers.discard(subscriber)

    @property
    def clients(self) -> int:
        """How many clients are served."""
        return len(self._subscribers)

    async def snapshot(self, subscriber: Subscriber, selection: Selection) -> Image:
        """Read a selection for a client; its outbox takes what changes after that instant.

        Raises:
            UnavailableError: Redis is away.
        """
        if self.problem is not None:
            raise UnavailableError(self.problem)
        await self._listen(self._channel(owner) for owner in selection.owners)
        nonce = secrets.token_hex(8)
        self._barriers[nonce] = (subscriber, selection)
        passed = self._confirmations[nonce] = asyncio.get_running_loop().create_future()
        try:
            image = await self._functions.snapshot(selection, (self._own, nonce))
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await passed
        except TimeoutError:
            raise UnavailableError("the subscription to Redis does not answer") from None
        finally:
            self._barriers.pop(nonce, None)
            self._confirmations.pop(nonce, None)
        return image

    def _channel(self, owner: str) -> tuple[str, str]:
        service, _, name = owner.partition(":")
        pattern = keys.key("model_updates", id=name) if service == "modsrv" else keys.key("updates", ch=name)
        return self._prefix + pattern, owner

    # ------------------------------------------------------------ subscription

    async def _listen(self, channels: Iterable[tuple[str, str]]) -> None:
        """Subscribe to channels of Redis that are not listened to yet; return when Redis confirmed."""
        async with self._subscribing:
            new = {name: owner for name, owner in channels if name not in self._listened}
            if not new:
                return
            if self._pubsub is None:
                raise UnavailableError("not connected to Redis yet")
            loop = asyncio.get_running_loop()
            waiting = {name: loop.create_future() for name in new}
            self._confirmations |= waiting
            try:
                with translated():
                    await self._pubsub.subscribe(*new)
                async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                    await asyncio.gather(*waiting.values())
                self._listened |= new
            except TimeoutError:
                raise UnavailableError("Redis does not confirm the subscription") from None
            finally:
                for name in waiting:
                    self._confirmations.pop(name, None)

    async def _unlisten(self) -> None:
        """End the subscriptions that no client wants any more."""
        async with self._subscribing:
            wanted = self._wanted()
            idle = [name for name, owner in self._listened.items() if owner not in wanted]
            if idle and self._pubsub is not None:
                for name in idle:
                    del self._listened[name]
                with translated():
                    await self._pubsub.unsubscribe(*idle)

    def _wanted(self) -> set[str]:
        return {owner for subscriber in self._subscribers for owner in subscriber.wanted.owners}

    async def run(self) -> None:
        """Hold the subscription for ever; connect again whenever it is lost."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._receive())
                    tasks.create_task(self._pulse())
            except* VoltageError as errors:
                self._lost(str(errors.exceptions[0]))
            await asyncio.sleep(RETRY_S)

    async def _receive(self) -> None:
        """Take messages one after the other, in Redis' order."""
        self._listened = {}
        pubsub = self._client.pubsub()
        self._pubsub = pubsub
        try:
            with translated():
                await pubsub.subscribe(self._own, *self._streams)
            self._heard_at = monotonic_ms()
            while True:
                heed()
                with translated():
                    message = await pubsub.get_message(timeout=None)
                if message is not None:
                    self._take(message)
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        if message["type"] == "subscribe":
            self._confirm(channel)
            if channel == self._own and self.problem is not None:
                self._recovered()
        elif message["type"] == "message":
            self._heard_at = monotonic_ms()
            if channel == self._own:
                self._pass_barrier(message["data"].decode())
                return
            try:
                self._fan_out(channel, message["data"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # Anybody on Redis may publish; what is no message of ours must not end the stream.
                logger.warning("stream: %s brought what can't be read: %r", channel, error)

    def _fan_out(self, channel: str, data: bytes) -> None:
        if stream := self._streams.get(channel):
            key, document = parse_event(stream, data)
            for subscriber in self._subscribers:
                subscriber.outbox.put_event(stream, key, document)
        else:
            update = parse_update(self._owner(channel), data)
            for subscriber in self._subscribers:
                subscriber.outbox.put(update)

    def _owner(self, channel: str) -> str:
        """Return whose changes a channel of Redis brings: `comsrv:updates:1001` brings `comsrv:1001`'s."""
        return channel.removeprefix(self._prefix).replace(":updates:", ":", 1)

    def _confirm(self, name: str) -> None:
        future = self._confirmations.get(name)
        if future is not None and not future.done():
            future.set_result(None)

    def _pass_barrier(self, nonce: str) -> None:
        """Count the selection from this very message on."""
        if waiting := self._barriers.get(nonce):
            subscriber, selection = waiting
            subscriber.outbox.begin(selection)
            self._confirm(nonce)

    # ------------------------------------------------------------ liveness

    async def _pulse(self) -> None:
        """Once a second: is Redis there, do its messages come, and when did each device last answer."""
        while True:
            heed()
            await self._unlisten()
            channels = sorted(owner.partition(":")[2] for owner in self._wanted() if owner.startswith("comsrv:"))
            found = await self._functions.liveness(channels, (self._own, PULSE))
            if self.problem is None:
                self._hand_out(found)
            if monotonic_ms() - self._heard_at > SILENCE_MS:
                raise UnavailableError("the subscription to Redis has gone silent")
            await asyncio.sleep(PULSE_S)

    def _hand_out(self, found: dict[str, Liveness]) -> None:
        for channel, now in found.items():
            before = self._liveness.get(channel, Liveness({}, {}))
            blocks = {block: at for block, at in now.blocks.items() if before.blocks.get(block) != at}
            status: Document = now.status if now.status != before.status else {}
            if blocks or status:
                for subscriber in self._subscribers:
                    subscriber.outbox.put_seen(channel, blocks, status)
        self._liveness = found

    def _lost(self, reason: str) -> None:
        if self.problem is None:
            logger.warning("stream: %s", reason)
        self.problem = reason
        self._liveness = {}
        for subscriber in self._subscribers:
            subscriber.lose(reason)
        for future in self._confirmations.values():
            if not future.done():
                future.set_exception(UnavailableError(reason))
                # The waiting call may have been cancelled meanwhile.
                future.exception()

    def _recovered(self) -> None:
        self.problem = None
        for subscriber in self._subscribers:
            subscriber.recover()
