"""Executes one channel's commands: claim, check, note on disk, write, read back, report.

At most once on the wire: the id is on the disk before the bytes leave, and an id that
stands there is never sent. What became of a command is reported until Redis has it.
Commands for neighboring addresses that wait together leave in one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from libs.clock import monotonic_ms
from libs.errors import ConflictError, InvalidError, NotFoundError, StateError, UnavailableError
from libs.points import PointKind
from libs.tasks import cancel
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase, DeviceError, NoAnswerError, NotConnectedError, RefusedError, Value, Write
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.jobs import Job, job_of, prepared, same, unlike, value_of
from services.comsrv.line import Line
from services.comsrv.outcomes import Outcomes
from services.comsrv.pulses import Pulses
from services.comsrv.sentfile import SentFile

log = logging.getLogger(__name__)

# A device may need a moment before the address shows what was written.
READ_BACK_PAUSES_MS: Final = (0, 50, 200, 500)
# Devices close idle connections: the poller has a new one soon. A write whose bytes left is never repeated,
# unless its point says that it may be.
RECONNECT_WAIT_MS: Final = 1000
RECONNECT_LOOK_S: Final = 0.02
SENDINGS: Final = 3
# Commands that may leave in one request.
TOGETHER: Final = 32
# Without a wake-up the queue is looked at this often, so that a lost wake-up costs no more.
LOOK_S: Final = 1.0
OFF_PAUSE_S: Final = 0.2
# At the end what the device acknowledged is told for so long.
TELL_S: Final = 1.0


class Commander:
    """Executes the commands of a channel whose lease this process holds.

    `confirmed` holds the value that the device last showed for a point ("A:1"), `executed` counts,
    `on_lost` is told when a write finds no connection, `on_answer` which unit answered one.
    """

    def __init__(
        self,
        functions: ComsrvFunctions,
        channel: Channel,
        plugin: ComBase,
        line: Line,
        sent: SentFile,
        pulses: Pulses,
        outcomes: Outcomes,
        epoch: Callable[[], int],
    ) -> None:
        """Keep what it works with; `epoch` returns the present one."""
        self.wake = asyncio.Event()
        self.executed = 0
        self.confirmed: dict[str, Write] = {}
        self._functions = functions
        self._channel = channel
        self._plugin = plugin
        self._line = line
        self._sent = sent
        self._pulses = pulses
        self._outcomes = outcomes
        self._epoch = epoch
        self.on_lost: Callable[[], None] = lambda: None
        self.on_answer: Callable[[str], None] = lambda _: None
        self._verifying: dict[str, asyncio.Task[None]] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        # Commands that waited behind the last one that was taken.
        self._queued = 0

    def adopt(self, channel: Channel) -> None:
        """Take over other points of the channel."""
        self._channel = channel
        self.wake.set()

    async def run(self) -> None:
        """Execute what comes, for ever; a pulse that a crash interrupted is switched off first."""
        for point in self._pulses.of(self._channel.id):
            await self._end_pulse(point)
        backoff = Backoff(200, 2000)
        try:
            while True:
                self.wake.clear()
                try:
                    while await self._next():
                        backoff.reset()
                except UnavailableError:
                    await backoff.pause()
                except (ConflictError, StateError):
                    # The uplink claims the channel again, or ends this task.
                    await backoff.pause()
                try:
                    async with asyncio.timeout(LOOK_S if self._commandable else None):
                        await self.wake.wait()
                except TimeoutError:
                    continue
                if self._failure is not None:
                    raise self._failure
        finally:
            await _ended(self._telling.values(), TELL_S)
            await cancel(*self._verifying.values())

    @property
    def _commandable(self) -> bool:
        """True where there is a point to command."""
        return any(not kind.readable and self._channel.points.of(kind) for kind in PointKind)

    async def _next(self) -> bool:
        """Execute the first command of the queue, with those that can leave in its request; False where there is none.

        No more at a time: a command of higher priority that comes meanwhile goes first.
        """
        first = await self._claim()
        if not first:
            return False
        jobs = list(first)
        neighbors = self._plugin.neighbours(jobs[0].write) if jobs[0].off is None and self._queued else ()
        if neighbors:
            jobs += await self._claim(neighbors)
        by_write = {id(job.write): job for job in jobs}
        for group in self._plugin.together([job.write for job in jobs]):
            await self._execute([by_write[id(write)] for write in group])
        return True

    async def _claim(self, points: Sequence[str] = ()) -> list[Job]:
        """Take commands from the queue; those that can't be sent are reported and left out.

        The list is empty only when the queue is, or none of the points is commanded.
        """
        while True:
            asked_ms = monotonic_ms()
            limit = TOGETHER if points else 1
            found, self._queued = await self._functions.claim_commands(self._channel.id, self._epoch(), limit, points)
            jobs = []
            for command in found:
                try:
                    if command["id"] in self._sent:
                        await self._complete(command["id"], "failed", "unknown outcome: it was sent before a crash")
                    else:
                        jobs.append(job_of(self._channel, self._plugin, command, asked_ms))
                except (InvalidError, NotFoundError) as error:
                    await self._complete(command["id"], "rejected", str(error))
            if jobs or not found or points:
                return jobs

    async def _execute(self, jobs: list[Job]) -> None:
        """Send what one request carries, and report what became of each command."""
        # A value that is still being read back, or of which Redis is not told yet, must not change meanwhile.
        behind = {
            running[job.point] for job in jobs for running in (self._verifying, self._telling) if job.point in running
        }
        if behind:
            await asyncio.wait(behind)
        try:
            await self._sent.add(*(job.id for job in jobs))
        except UnavailableError as error:
            # Without a note on the disk a crash could send it twice, so it does not leave at all.
            await self._complete_all(jobs, "failed", f"not sent: {error}")
            return
        left = [job for job in jobs if monotonic_ms() <= job.deadline_ms]
        for job in jobs:
            if job not in left:
                await self._complete(job.id, "expired", "its time to live ran out before it was sent")
        self.executed += len(left)
        if left:
            await self._send(left)

    async def _send(self, jobs: list[Job]) -> None:
        try:
            sent = await (self._pulse(jobs[0]) if jobs[0].off is not None else self._write(jobs))
        except (InvalidError, RefusedError) as error:
            if isinstance(error, RefusedError):
                self.on_answer(self._plugin.unit_of(jobs[0].write))
            await self._complete_all(jobs, "rejected", str(error))
        except UnavailableError as error:
            await self._complete_all(jobs, "failed", f"not sent: {error}")
        except DeviceError as error:
            unknown = "unknown outcome: " if error.sent else ""
            await self._complete_all(jobs, "failed", f"{unknown}{error}")
        else:
            if not sent:
                await self._complete_all(jobs, "expired", "its time to live ran out before it was sent")
                return
            self.on_answer(self._plugin.unit_of(jobs[0].write))
            for job in jobs:
                self._follow(job)

    def _follow(self, job: Job) -> None:
        """Report the acknowledgment and read the value back in the background: the next command need not wait."""
        before = self.confirmed.get(job.point)
        if job.off is None:
            self.confirmed[job.point] = job.write
        told = self._beside(self._telling, job, self._complete(job.id, "acknowledged", None, value_of(job.command)))
        if job.command["verify"]:
            self._beside(self._verifying, job, self._verify(job, before, told))

    def _beside(
        self, running: dict[str, asyncio.Task[None]], job: Job, work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        """Do what a command still needs beside the next ones; a defect in it ends `run`."""
        task = running[job.point] = asyncio.create_task(work, name=f"after {job.id}")

        def ended(_: asyncio.Task[None]) -> None:
            running.pop(job.point, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failure = error
                self.wake.set()

        task.add_done_callback(ended)
        return task

    async def _write(self, jobs: list[Job]) -> bool:
        """Send the writes of one request once; False where the time of one ran out before.

        A connection that is just being made again is waited for, shortly, with the line
        free for the poller that makes it.
        """
        last_ms = monotonic_ms() + RECONNECT_WAIT_MS
        deadline_ms = min(job.deadline_ms for job in jobs)
        told = False
        again = SENDINGS - 1 if all(job.options.idempotent for job in jobs) else 0
        while True:
            try:
                async with self._line.for_command():
                    if monotonic_ms() > deadline_ms:
                        return False
                    if len(jobs) == 1:
                        await self._plugin.write_point(jobs[0].write)
                    else:
                        await self._plugin.write_together([job.write for job in jobs])
                    return True
            except NoAnswerError:
                if again == 0:
                    raise
                again -= 1
            except NotConnectedError as error:
                if not told:
                    # Once: the connection that is made then must not be taken for the lost one.
                    told = True
                    self.on_lost()
                if (error.sent and again == 0) or monotonic_ms() >= last_ms:
                    raise
                again -= error.sent
                await asyncio.sleep(RECONNECT_LOOK_S)

    async def _pulse(self, job: Job) -> bool:
        """Write 1, wait, write 0. Whatever happens between, the point is switched off in the end."""
        assert job.off is not None  # noqa: S101 - asked for pulses only
        point = f"{job.off.kind}:{job.off.point.id}"
        await asyncio.to_thread(self._pulses.begin, self._channel.id, point)
        try:
            sent = await self._write([job])
            if sent:
                await asyncio.sleep((job.options.pulse_ms or 0) / 1000)
        finally:
            await self._end_pulse(point)
        return sent

    async def _end_pulse(self, point: str) -> None:
        """Switch a point off, for as long as it takes."""
        off = prepared(self._channel, self._plugin, point, 0.0)
        while off is not None:
            try:
                async with self._line.for_command():
                    await self._plugin.write_point(off)
                break
            except DeviceError as error:
                log.warning("channel %s: %s is still on: %s", self._channel.id, point, error)
                await asyncio.sleep(OFF_PAUSE_S)
        await asyncio.to_thread(self._pulses.end, self._channel.id, point)

    async def _verify(self, job: Job, before: Write | None, told: asyncio.Task[None]) -> None:
        """Read the address back, a few times: some devices show a value a moment later.

        What it shows is reported after the acknowledgment, which may still be on its way.
        """
        state: str = "failed"
        reason: str | None = "no read-back"
        value: Value | None = None
        wanted, tolerance = job.write.value, job.options.verify_tolerance or 0.0
        for pause_ms in (job.options.verify_delay_ms or 0, *READ_BACK_PAUSES_MS[1:]):
            await asyncio.sleep(pause_ms / 1000)
            try:
                async with self._line.for_command():
                    found = await self._plugin.read_back(job.write)
            except DeviceError as error:
                state, reason = "failed", f"the device acknowledged, but the read-back failed: {error}"
                continue
            value = found.value
            if found.matches or same(value, wanted, tolerance):
                state, reason = "verified", None
                break
            state, reason = "mismatch", unlike(value, wanted)
            if before is not None and same(value, before.value, tolerance):
                reason += ": the device acknowledged and still shows its previous value"
        await told
        await self._complete(job.id, state, reason, value)

    async def write(self, point: str, value: float) -> bool:
        """Write a value that is no command: a fall-back, a refreshed value, a heartbeat; False where it can't be."""
        write = prepared(self._channel, self._plugin, point, value)
        if write is None:
            return False
        try:
            async with self._line.for_command():
                await self._plugin.write_point(write)
        except (DeviceError, InvalidError) as error:
            log.warning("channel %s: %s could not be written: %s", self._channel.id, point, error)
            return False
        self.confirmed[point] = write
        return True

    async def shown(self, point: str) -> Value | None:
        """Return what the device shows for a point that was written, where that is another value; None if not."""
        write = self.confirmed.get(point)
        if write is None or point in self._verifying:
            return None
        try:
            async with self._line.for_poll():
                found = await self._plugin.read_back(write)
        except DeviceError:
            return None
        point_of = self._channel.find(PointKind(point[0]), point[2:])
        options = point_of.command if point_of else None
        tolerance = (options.verify_tolerance if options else None) or 0.0
        unchanged = found.matches or same(found.value, write.value, tolerance)
        return None if unchanged or self.confirmed.get(point) is not write else found.value

    def accept(self, point: str, value: Value) -> None:
        """Take the value that another master wrote for what the point has."""
        write = prepared(self._channel, self._plugin, point, value)
        if write is not None:
            self.confirmed[point] = write

    async def _complete_all(self, jobs: list[Job], state: str, reason: str) -> None:
        for job in jobs:
            await self._complete(job.id, state, reason)

    async def _complete(self, command_id: str, state: str, reason: str | None, value: Value | None = None) -> None:
        """Report an outcome until Redis has it. After a loss of the lease Redis has ended the command itself."""
        document: dict[str, Any] = {"id": command_id, "state": state}
        if reason is not None:
            document["reason"] = reason[:512]
        if isinstance(value, str) or (value is not None and abs(value) < float("inf")):
            document["value"] = value
        backoff = Backoff(100, 2000)
        while True:
            try:
                command = await self._functions.complete(self._channel.id, document | {"epoch": self._epoch()})
            except UnavailableError:
                await backoff.pause()
            except (ConflictError, StateError, NotFoundError) as error:
                log.warning("command %s: %s is not taken: %s", command_id, state, error)
                return
            else:
                self._outcomes.tell(command)
                log.info("command %s: %s %s", command_id, state, reason or "")
                return


async def _ended(tasks: Collection[asyncio.Task[None]], longest_s: float) -> None:
    """Wait until tasks have ended, also while being cancelled again and again; what lasts too long is cancelled."""
    left, end = set(tasks), monotonic_ms() + int(1000 * longest_s)
    while left and (left_ms := end - monotonic_ms()) > 0:
        with suppress(asyncio.CancelledError):
            _, left = await asyncio.wait(left, timeout=left_ms / 1000)
    await cancel(*left)
