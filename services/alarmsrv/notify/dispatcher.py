"""From the outbox to the recipients: who wants an entry, a mailbox a recipient, retries, dead letters.

An entry is finished, and leaves the outbox, when each of its recipients has it
or was given up. What a mailbox is about to send is noted in Redis first, so
that after a kill the same message goes again under the same id: at least once,
and a receiver can tell.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from pydantic import ValidationError

from libs.clock import now_ms
from libs.errors import VoltageError
from libs.tasks import heed
from services.alarmsrv.notify.facts import FactsOf
from services.alarmsrv.notify.messages import LISTED, Message, Told, compose, message_id
from services.alarmsrv.notify.outbox import STEP, Letter, Outbox, Sending
from services.alarmsrv.notify.policy import Later, Recipient
from services.alarmsrv.notify.schemas import AlarmRoute, parse_target, recipient_id
from services.alarmsrv.notify.senders import AgainError, NeverError, Sender
from services.alarmsrv.notify.settings import NotificationSettings

logger = logging.getLogger(__name__)
PAUSE_S: Final = 2.0
MAX_LOOK_S: Final = 60.0


def targets_of(entry: Told, routes: Iterable[AlarmRoute]) -> list[str]:
    """Return who is told of an entry, each once; that a recipient is not reached is for the others."""
    unreached = entry.fields.get("source", "").removeprefix("system:notification:")
    return [target for target in _named(entry, routes) if recipient_id(target) != unreached]


def _named(entry: Told, routes: Iterable[AlarmRoute]) -> list[str]:
    found: dict[str, None] = {}
    for route in routes:
        if entry.kind == "test":
            wanted = list(route.to) + [text for step in route.escalation for text in step.to]
            found |= dict.fromkeys(wanted if route.id == entry.fields.get("route") else ())
        elif entry.fields.get("route", route.id) != route.id or not route.wants(entry.level, entry.tags, entry.at_ms):
            continue
        elif entry.kind in {"standing", "notice"}:
            found |= dict.fromkeys(route.to)
        elif entry.kind == "escalation":
            after_ms = int(entry.fields.get("after_ms") or 0)
            found |= dict.fromkeys(
                text for step in route.escalation if step.after_s * 1000 == after_ms for text in step.to
            )
        elif {entry.fields.get("event"), entry.fields.get("told_as")}.intersection(route.events):
            found |= dict.fromkeys(route.to)
    return list(found)


class Dispatcher:
    """Reads the outbox and fills the mailboxes."""

    def __init__(
        self, outbox: Outbox, senders: dict[str, Sender], settings: NotificationSettings, facts_of: FactsOf
    ) -> None:
        """Keep what to read and how to send; nothing runs yet."""
        self.outbox = outbox
        self.facts_of = facts_of
        self.senders = senders
        self.settings = settings
        self.problem: str | None = None
        # Messages by way and outcome: sent, failed (an attempt), given_up.
        self.counted: Counter[tuple[str, str]] = Counter()
        # Set while everything that is in the outbox was read: only then is it known how long nothing came.
        self.caught_up = asyncio.Event()
        # Set once it is known what waited, and who was not reached, when the service stopped.
        self.loaded = asyncio.Event()
        self._settling = asyncio.Lock()
        self._mailboxes: dict[str, Mailbox] = {}
        # Entry -> the targets that do not have it yet, and those that have.
        self._open: dict[str, tuple[set[str], set[str]]] = {}

    async def run(self) -> None:
        """Send for ever; when Redis is away, begin again from what it holds."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    await self._from_the_start(group)
            except* VoltageError as errors:
                self.problem = str(errors.exceptions[0])
                logger.warning("notifications: %s", self.problem)
            self._mailboxes, self._open = {}, {}
            self.caught_up.clear()
            self.loaded.clear()
            await asyncio.sleep(PAUSE_S)

    async def _from_the_start(self, group: asyncio.TaskGroup) -> None:
        kept, sending, done = await self.outbox.targets(), await self.outbox.sending(), await self.outbox.done()

        def mailbox(target: str) -> Mailbox:
            if target not in self._mailboxes:
                box = Mailbox(target, self, Recipient.of(kept.pop(target, None)), sending.pop(target, None))
                self._mailboxes[target] = box
                group.create_task(box.run(), name=f"mailbox {target}")
            return self._mailboxes[target]

        last = "0"
        while entries := await self.outbox.pending(last):
            await self._take(entries, mailbox, done)
            last = entries[-1].id
        for target in [one for one, text in kept.items() if Recipient.of(text).failing]:
            mailbox(target)
        self.loaded.set()
        for box in self._mailboxes.values():
            box.ready.set()
        while True:
            entries = await self.outbox.wait()
            self.problem = None
            if entries:
                self.caught_up.clear()
                await self._take(entries, mailbox, set())
            if len(entries) < STEP:
                self.caught_up.set()
                for box in self._mailboxes.values():
                    box.ready.set()

    async def _take(self, entries: list[Told], mailbox: Callable[[str], Mailbox], done: set[str]) -> None:
        routes = await self.routes()
        nobody: list[str] = []
        for entry in entries:
            targets = targets_of(entry, routes)
            waiting = {target for target in targets if f"{entry.id}|{target}" not in done}
            if not waiting:
                nobody.append(entry.id)
                continue
            self._open[entry.id] = (waiting, set(targets) - waiting)
            for target in targets:
                if target in waiting:
                    mailbox(target).put(entry)
        if nobody:
            ends = tuple(f"{one}|" for one in nobody)
            unmark = [mark for mark in done if mark.startswith(ends)]
            await self.outbox.settle("nobody", mark=[], finished=nobody, unmark=unmark)

    def _routes(self, documents: list[dict[str, Any]]) -> list[AlarmRoute]:
        routes = []
        for document in documents:
            try:
                routes.append(AlarmRoute.model_validate(document))
            except ValidationError as error:
                # Written at redis-cli; the API takes none like it.
                self.problem = f"route {document.get('id')}: {error.errors()[0]['msg']}"
                logger.warning("notifications: %s", self.problem)
        return routes

    async def settle(self, target: str, entries: list[Told], state: str, letter: dict[str, Any] | None = None) -> None:
        """Finish entries for a target; those that no other target waits for leave the outbox."""
        # One at a time: two targets that have the same entry at once must not each wait for the other.
        async with self._settling:
            await self._settle(target, entries, state, letter)

    async def _settle(self, target: str, entries: list[Told], state: str, letter: dict[str, Any] | None) -> None:
        mark: list[str] = []
        finished: list[str] = []
        unmark: list[str] = []
        for entry in entries:
            waiting, have = self._open[entry.id]
            if waiting - {target}:
                mark.append(f"{entry.id}|{target}")
            else:
                finished.append(entry.id)
                unmark += [f"{entry.id}|{one}" for one in have]
        await self.outbox.settle(target, mark=mark, finished=finished, unmark=unmark, state=state, letter=letter)
        for entry in entries:
            waiting, have = self._open[entry.id]
            waiting.discard(target)
            have.add(target)
            if not waiting:
                del self._open[entry.id]

    async def named(self) -> set[str]:
        """Return everyone that a route names."""
        return {text for route in await self.routes() if route.enabled for _, text in route.all_targets()}

    async def routes(self) -> list[AlarmRoute]:
        """Return the routes as they are now."""
        return self._routes(await self.outbox.routes())

    def status(self) -> list[dict[str, Any]]:
        """Return how each recipient is doing."""
        return [self._mailboxes[target].status() for target in sorted(self._mailboxes)]

    async def send(self, message: Message) -> None:
        """Send a message now, by the way its target names."""
        way, place = parse_target(message.target)
        sender = self.senders.get(f"webhook:{place}" if way == "webhook" else way)
        if sender is None:
            raise NeverError(self.settings.missing(way, place) or f"there is no way to {message.target}")
        await sender.send(message, place)

    async def retry(self, letter: Letter) -> None:
        """Send a dead letter once more; it is forgotten when it arrived."""
        await self.send(Message(**letter.message))
        await self.outbox.forget_letter(letter.id)
        if letter.target in self._mailboxes:
            await self._mailboxes[letter.target].reached()


class Mailbox:
    """One recipient: what waits for it, and what it is sent when."""

    def __init__(self, target: str, dispatcher: Dispatcher, recipient: Recipient, sending: Sending | None) -> None:
        """Begin with what was kept: its rate, and a message that may be on its way."""
        self.target = target
        self.ready = asyncio.Event()
        self._dispatcher = dispatcher
        self._recipient = recipient
        self._sending = sending
        self._waiting: list[Told] = []
        self._next_try_ms: int | None = None

    def put(self, entry: Told) -> None:
        """Take an entry."""
        self._waiting.append(entry)
        # What stood before a shift began is no flood of its own.
        if entry.kind != "standing":
            self._recipient.take(entry.came_ms, self._dispatcher.settings.rate)

    def status(self) -> dict[str, Any]:
        """Return how it is doing."""
        return {
            "target": self.target,
            "waiting": len(self._waiting),
            "flood": self._recipient.flood,
            "sent_last_hour": sum(1 for at in self._recipient.sent if at > now_ms() - 3_600_000),
            "last_error": self._recipient.failing or None,
            "next_try_ms": self._next_try_ms,
        }

    async def run(self) -> None:
        """Send for ever what waits."""
        await self.ready.wait()
        if self._sending is not None:
            again = set(self._sending.entries)
            entries = [entry for entry in self._waiting if entry.id in again]
            if entries:
                await self._deliver(entries, self._sending.id)
        while True:
            heed()
            await self._dispatcher.caught_up.wait()
            self.ready.clear()
            decided = self._recipient.decide(self._waiting, now_ms(), self._dispatcher.settings.rate)
            if isinstance(decided, Later):
                await self._sleep(decided.at_ms)
            else:
                await self._deliver(decided.entries, message_id(decided.entries, self.target))

    async def _sleep(self, until_ms: int | None) -> None:
        # Never for long: the machine's clock may step meanwhile.
        pause_s = MAX_LOOK_S if until_ms is None else min(max(until_ms - now_ms(), 1) / 1000, MAX_LOOK_S)
        try:
            async with asyncio.timeout(pause_s):
                await self.ready.wait()
        except TimeoutError:
            pass

    async def _deliver(self, entries: list[Told], message: str) -> None:
        known = await self._dispatcher.facts_of(entries[:LISTED])
        written = compose(entries, self.target, message, self._dispatcher.settings, known)
        await self._dispatcher.outbox.begin(written, [entry.id for entry in entries])
        letter = await self._until_sent(written)
        if letter is None:
            self._recipient.sent_now(now_ms())
        await self._dispatcher.settle(self.target, entries, self._recipient.text(), letter)
        sent = {entry.id for entry in entries}
        self._waiting = [entry for entry in self._waiting if entry.id not in sent]

    async def _until_sent(self, message: Message) -> dict[str, Any] | None:
        """Send until it arrives; return the dead letter where it never does."""
        retry = self._dispatcher.settings.retry
        began, attempts, pause_s = now_ms(), 0, retry.first_s
        while True:
            heed()
            attempts += 1
            try:
                await self._dispatcher.send(message)
            except NeverError as error:
                self._count("failed")
                return self._give_up(message, str(error), attempts)
            except AgainError as error:
                self._count("failed")
                await self._failed(str(error))
                wait_s = max(pause_s * random.uniform(0.5, 1), error.after_s)  # noqa: S311 - jitter
                if now_ms() + wait_s * 1000 > began + retry.give_up_after_s * 1000:
                    return self._give_up(message, str(error), attempts)
                logger.warning("notifications: %s: %s; again in %.0f s", self.target, error, wait_s)
                self._next_try_ms = now_ms() + int(wait_s * 1000)
                await asyncio.sleep(wait_s)
                pause_s = min(2 * pause_s, retry.longest_s)
            else:
                self._count("sent")
                self._recipient.failing, self._next_try_ms = "", None
                return None

    async def _failed(self, reason: str) -> None:
        first = not self._recipient.failing
        self._recipient.failing = reason
        if first:
            await self._keep()

    async def reached(self) -> None:
        """Take notice that something arrived by another way than this mailbox."""
        if self._recipient.failing and self._next_try_ms is None:
            self._recipient.failing = ""
            await self._keep()

    async def _keep(self) -> None:
        await self._dispatcher.outbox.keep(self.target, self._recipient.text())

    def _count(self, outcome: str) -> None:
        self._dispatcher.counted[self.target.partition(":")[0], outcome] += 1

    def _give_up(self, message: Message, reason: str, attempts: int) -> dict[str, Any]:
        self._count("given_up")
        self._recipient.failing, self._next_try_ms = reason, None
        logger.error("notifications: %s was given up after %d attempts: %s", self.target, attempts, reason)
        return {
            "reason": reason[:500], "at_ms": now_ms(), "attempts": attempts,
            "message": orjson.dumps(message._asdict()).decode(),
        }  # fmt: skip
