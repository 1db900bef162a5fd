"""Runs one channel: claim it, poll, send, execute commands; stand by while another holds it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from libs import expression
from libs.errors import NotFoundError, StateError, UnavailableError
from libs.points import PointKind
from libs.tasks import cancel
from services.comsrv.backoff import Backoff
from services.comsrv.caretaker import Caretaker
from services.comsrv.channel import Channel
from services.comsrv.commander import Commander
from services.comsrv.contract import ComBase
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.lease import Lease, LeaseLostError
from services.comsrv.line import Line
from services.comsrv.options import FOR_REDIS
from services.comsrv.outcomes import Outcomes
from services.comsrv.plugins.registry import make, protocols
from services.comsrv.poller import Poller
from services.comsrv.pulses import Pulses
from services.comsrv.quarantine import Quarantine
from services.comsrv.reporting import Reports
from services.comsrv.sentfile import SentFile
from services.comsrv.settings import ComsrvSettings
from services.comsrv.uplink import Uplink

log = logging.getLogger(__name__)

# A standby asks for the lease this often.
STANDBY_S: Final = 1.0
# Redis keeps lists of allowed values up to so many.
MAX_ALLOWED: Final = 100
STOP_S: Final = 2.0
CANCEL_AGAIN_S: Final = 0.1


def definition(channel: Channel) -> dict[str, Any]:
    """Return a channel as Redis keeps it: its document, with the programs of its calculated points."""
    document = channel.model_dump(mode="json", exclude_defaults=True)
    document |= {"enabled": channel.enabled, "interval_ms": channel.interval_ms, "source": channel.source}
    document["parameters"] = channel.parameters
    document["polling"] = channel.polling.model_dump(mode="json")
    plugin = protocols()[channel.protocol]
    points: dict[str, list[dict[str, Any]]] = {}
    for kind in PointKind:
        points[kind.value] = []
        for point in channel.points.of(kind):
            row = point.model_dump(mode="json", exclude_defaults=True)
            if point.expression and plugin.computed(point):
                row["program"] = expression.parse(point.expression)
            if point.command is not None:
                # A pulse is over before it can be read back, unless a feedback is declared for it.
                feedback = (point.mapping or {}).get("verify_address") is not None
                verifiable = point.command.pulse_ms is None or feedback
                row.setdefault("command", {}).update(point.command.for_redis(verifiable=verifiable))
            if not kind.readable and point.family == "text" and point.mapping is not None:
                length, ascii_only = plugin.room(point)
                row.setdefault("command", {}).update(text_bytes=length, text_ascii=ascii_only)
            if not kind.readable and point.value_map is not None and len(point.value_map) <= MAX_ALLOWED:
                # An enumeration is checked when a command is submitted, like any list of allowed values.
                row.setdefault("command", {}).setdefault("allowed", sorted(map(float, point.value_map)))
            points[kind.value].append(row)
    document["points"] = points
    return document


def from_definition(document: dict[str, Any]) -> Channel:
    """Return the channel of a stored document; the reverse of `definition`."""
    points = {kind: [_declared(point) for point in rows] for kind, rows in (document.get("points") or {}).items()}
    rest = {name: value for name, value in document.items() if name not in {"interval_ms", "points"}}
    return Channel.model_validate(rest | {"points": points})


def _declared(point: dict[str, Any]) -> dict[str, Any]:
    """Return a point as it was declared, without what was made of it for Redis."""
    found = {name: value for name, value in point.items() if name != "program"}
    if "command" in found:
        found["command"] = {name: value for name, value in found["command"].items() if name not in FOR_REDIS}
    return found


def _frame(channel: Channel) -> dict[str, Any]:
    """Return what of a channel can't change while it runs."""
    return channel.model_dump(exclude={"name", "description", "points", "source"})


def _changed(old: Channel, new: Channel) -> frozenset[tuple[PointKind, str]]:
    """Return the points that are not the same in both."""
    before = {(kind, str(point.id)): point for kind in PointKind for point in old.points.of(kind)}
    after = {(kind, str(point.id)): point for kind in PointKind for point in new.points.of(kind)}
    return frozenset(place for place in before.keys() | after.keys() if before.get(place) != after.get(place))


class Runner:
    """Runs a channel from `start` to `stop`."""

    def __init__(
        self,
        channel: Channel,
        functions: ComsrvFunctions,
        settings: ComsrvSettings,
        owner: str,
        sent: SentFile,
        pulses: Pulses,
        outcomes: Outcomes,
    ) -> None:
        """Keep what it works with; nothing runs yet."""
        self.channel = channel
        self.attempted = asyncio.Event()
        self.problem = ""
        self.poller: Poller | None = None
        self.commander: Commander | None = None
        self.caretaker: Caretaker | None = None
        self.uplink: Uplink | None = None
        self._plugin: ComBase | None = None
        self._functions = functions
        self._settings = settings
        self._owner = owner
        self._sent = sent
        self._pulses = pulses
        self._outcomes = outcomes
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._standby = False

    @property
    def running(self) -> bool:
        """True from start to stop."""
        return self._task is not None and not self._task.done()

    @property
    def state(self) -> str:
        """Return the channel's state as this process sees it."""
        if not self.running:
            return "stopped"
        if self._standby:
            return "standby"
        return self.uplink.lease.state if self.uplink else "starting"

    def start(self) -> None:
        """Run the channel in the background."""
        if not self.running:
            self._stop.clear()
            self.attempted.clear()
            self._task = asyncio.create_task(self._run(), name=f"channel {self.channel.id}")

    async def stop(self) -> None:
        """Stop in order: no more polls, what was read is sent, the channel given back."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stop.set()
        _, pending = await asyncio.wait({task}, timeout=3 * STOP_S)
        if pending:
            await cancel(task, again_s=CANCEL_AGAIN_S)

    async def change(self, channel: Channel) -> bool:
        """Take other points of the channel over without a stop; False where it must be started anew.

        What did not change keeps its connection, its values and their instants.
        """
        plugin, poller, uplink, commander, caretaker = (
            self._plugin, self.poller, self.uplink, self.commander, self.caretaker,
        )  # fmt: skip
        if plugin is None or poller is None or uplink is None or commander is None or caretaker is None:
            return False
        if _frame(channel) != _frame(self.channel):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                # What is on its way was read as the points were; behind it nothing is uncertain.
                while not uplink.idle:
                    await uplink.drained()
        if self.poller is not poller or not plugin.adopt(channel):
            return False
        changed = _changed(self.channel, channel)
        self.channel = channel
        uplink.adopt(Reports(channel).of)
        poller.adopt(changed)
        commander.adopt(channel)
        caretaker.adopt(channel)
        return True

    def wake(self) -> None:
        """Say that a command came."""
        if self.commander is not None:
            self.commander.wake.set()

    async def set_point(self, kind: PointKind, point_id: int, value: float, quality: str, at_ms: int | None) -> None:
        """Set a point of a virtual channel; it is in Redis when this returns.

        Raises:
            NotFoundError: no such point.
            StateError: the channel does not run here, or the point can't be set.
        """
        point = self.channel.find(kind, point_id)
        if point is None:
            raise NotFoundError(f"channel {self.channel.id} has no point {kind}:{point_id}")
        if self._plugin is None or self.uplink is None:
            raise StateError(f"channel {self.channel.id} is {self.state}")
        self._plugin.set_point(kind, point, value, quality, at_ms)
        for block in self._plugin.blocks:
            if any(section.kind is kind and str(point_id) in section.ids for section in block.sections):
                self.uplink.offer(block, await self._plugin.read_batch(block))
        try:
            async with asyncio.timeout(STOP_S):
                await self.uplink.drained()
        except TimeoutError:
            raise UnavailableError("Redis does not take the value; it is sent when Redis is back") from None

    async def _run(self) -> None:
        """Hold the channel again and again, until stopped; no failure of one channel ends another."""
        backoff = Backoff(500, 30_000)
        while not self._stop.is_set():
            try:
                await self._hold()
            except LeaseLostError as error:
                if not self._standby:
                    log.info("channel %s: standby: %s", self.channel.id, error)
                self._standby = True
                self.attempted.set()
                await self._wait(STANDBY_S)
            except Exception:
                self.problem = "internal error, see the log"
                log.exception("channel %s failed and will start again", self.channel.id)
                await self._wait(backoff.next_ms() / 1000)
            finally:
                self._plugin = self.uplink = self.poller = self.commander = self.caretaker = None

    async def _wait(self, seconds: float) -> None:
        """Wait, or until stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _hold(self) -> None:
        """Claim the channel and run it until stopped. Raises LeaseLostError when another takes it."""
        plugin = make(self.channel.protocol)
        plugin.reconnect_max_ms = self._settings.reconnect_max_ms
        try:
            await plugin.initialize(self.channel, port_base=self._settings.port_base)
            try:
                await self._talk(plugin)
            finally:
                await plugin.close()
        finally:
            await plugin.dispose()

    async def _talk(self, plugin: ComBase) -> None:
        """Claim the channel and run its loops until it is stopped."""
        channel = self.channel
        lease = Lease(
            self._functions,
            channel.id,
            owner=self._owner,
            interval_ms=channel.polling.shortest_ms,
            renew_ms=self._settings.renew_ms,
            define=lambda: definition(self.channel),
        )
        uplink = Uplink(lease, Reports(channel).of)
        if not await self._claimed(lease):
            return
        self._standby = False
        await self._restore(plugin)
        line = plugin.line or Line()
        poller = Poller(
            plugin,
            uplink,
            line,
            polling=channel.polling,
            reconnect_max_ms=self._settings.reconnect_max_ms,
            quarantine=Quarantine.of(channel, self._settings.data_dir),
        )
        poller.attempted = self.attempted
        commander = Commander(
            self._functions, channel, plugin, line, self._sent, self._pulses, self._outcomes, lambda: lease.epoch
        )
        commander.on_lost, commander.on_answer = poller.lost, poller.heard
        caretaker = Caretaker(self._functions, channel, commander, lambda: lease.epoch, lambda: lease.heard_ms)
        self._plugin, self.uplink, self.poller = plugin, uplink, poller
        self.commander, self.caretaker = commander, caretaker
        self.problem = ""
        await self._supervise(uplink, poller, commander, caretaker)

    async def _claimed(self, lease: Lease) -> bool:
        """Claim the channel; False when it is stopped before."""
        claim = asyncio.create_task(lease.claim())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({claim, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not claim.done():
                return False
            await claim
            return True
        finally:
            await cancel(claim, stop, again_s=CANCEL_AGAIN_S)

    async def _supervise(self, uplink: Uplink, poller: Poller, commander: Commander, caretaker: Caretaker) -> None:
        """Run the loops until one fails or the channel is stopped."""
        sending = asyncio.create_task(uplink.run(), name=f"uplink {self.channel.id}")
        working = [
            asyncio.create_task(poller.run(), name=f"poller {self.channel.id}"),
            asyncio.create_task(commander.run(), name=f"commander {self.channel.id}"),
            asyncio.create_task(caretaker.run(), name=f"caretaker {self.channel.id}"),
        ]
        if poller.plugin.capabilities.subscribes:
            pushed = _pushed(poller.plugin, uplink)
            working.append(asyncio.create_task(pushed, name=f"stream {self.channel.id}"))
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({sending, stop, *working}, return_when=asyncio.FIRST_COMPLETED)
            for task in (sending, *working):
                if task.done():
                    task.result()
            await cancel(*working, again_s=CANCEL_AGAIN_S)
            if self.channel.commands.on_stop == "safe":
                await caretaker.make_safe()
            await self._finish(uplink, sending)
        finally:
            await cancel(sending, stop, *working, again_s=CANCEL_AGAIN_S)

    async def _finish(self, uplink: Uplink, sending: asyncio.Task[None]) -> None:
        """Send what was read and give the channel back. What Redis does not take in time is counted as not sent."""
        uplink.close()
        await asyncio.wait({sending}, timeout=STOP_S)
        uplink.abandon()
        with suppress(TimeoutError, UnavailableError, StateError):
            async with asyncio.timeout(STOP_S):
                await sending
                await uplink.lease.release()
                return
        log.warning("channel %s: stopped without Redis; what was read last is not in it", self.channel.id)

    async def _restore(self, plugin: ComBase) -> None:
        """Give a plugin whose points are set through the API the values it had before the restart."""
        if not plugin.capabilities.settable:
            return
        backoff = Backoff(100, 2000)
        while True:
            try:
                images = [(kind, await self._functions.image(self.channel.id, kind)) for kind in PointKind]
            except UnavailableError:
                await backoff.pause()
            else:
                break
        plugin.restore(
            {(kind, int(point)): float(value) for kind, image in images for point, value in image.values.items()}
        )


async def _pushed(plugin: ComBase, uplink: Uplink) -> None:
    """Take what a device pushes; a plugin that has nothing to push any more is polled on."""
    await plugin.subscribe(uplink.push)
    await asyncio.Event().wait()
