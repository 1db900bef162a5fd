"""Executes one channel's commands: claim, check, note on disk, write, read back, report.

At most once on the wire: the id is on the disk before the bytes leave, and an id that
stands there is never sent. What became of a command is reported until Redis has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from libs.clock import monotonic_ms
from libs.errors import ConflictError, InvalidError, NotFoundError, StateError, UnavailableError
from libs.points import PointKind
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase, DeviceError, NotConnectedError, RefusedError, Write
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.line import Line
from services.comsrv.sentfile import SentFile

log = logging.getLogger(__name__)

# A device may need a moment before the address shows what was written.
READ_BACK_PAUSES_MS: Final = (0, 50, 200, 500)
# Devices close idle connections: the poller has a new one soon. A write whose bytes left is never repeated.
RECONNECT_WAIT_MS: Final = 1000
RECONNECT_LOOK_S: Final = 0.02
# Without a wake-up the queue is looked at this often, so that a lost wake-up costs no more.
LOOK_S: Final = 1.0


class Commander:
    """Executes the commands of a channel whose lease this process holds."""

    def __init__(
        self,
        functions: ComsrvFunctions,
        channel: Channel,
        plugin: ComBase,
        line: Line,
        sent: SentFile,
        epoch: Callable[[], int],
    ) -> None:
        """Keep what it works with; `epoch` returns the present one."""
        self.wake = asyncio.Event()
        self.executed = 0
        self._functions = functions
        self._channel = channel
        self._plugin = plugin
        self._line = line
        self._sent = sent
        self._epoch = epoch

    async def run(self) -> None:
        """Execute what comes, for ever."""
        backoff = Backoff(200, 2000)
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
                async with asyncio.timeout(LOOK_S):
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def _next(self) -> bool:
        """Execute the first command of the queue; False where there is none.

        One at a time: a command of higher priority that comes meanwhile goes first.
        """
        asked_ms = monotonic_ms()
        found = await self._functions.claim_commands(self._channel.id, self._epoch(), 1)
        for command in found:
            # What was left of its life when Redis gave it out, counted on by a clock that never steps.
            left_ms = command["expires_at_ms"] - command["transitions"][-1]["at_ms"]
            await self._execute(command, asked_ms + left_ms)
        return bool(found)

    async def _execute(self, command: dict[str, Any], deadline_ms: int) -> None:
        command_id = command["id"]
        if command_id in self._sent:
            await self._complete(command_id, "failed", "unknown outcome: it was sent before a crash")
            return
        try:
            write = self._prepare(command)
        except (InvalidError, NotFoundError) as error:
            await self._complete(command_id, "rejected", str(error))
            return
        self.executed += 1
        try:
            await self._sent.add(command_id)
        except UnavailableError as error:
            await self._complete(command_id, "failed", f"not sent: {error}")
            return
        try:
            if not await self._write(write, deadline_ms):
                await self._complete(command_id, "expired", "its time to live ran out before it was sent")
                return
        except (RefusedError, InvalidError) as error:
            await self._complete(command_id, "rejected", str(error))
            return
        except DeviceError as error:
            unknown = "unknown outcome: " if error.sent else ""
            await self._complete(command_id, "failed", f"{unknown}{error}")
            return
        await self._complete(command_id, "acknowledged", None, write.value)
        if command["verify"]:
            await self._verify(command_id, write)

    async def _write(self, write: Write, deadline_ms: int) -> bool:
        """Send a write once; False where its time ran out before.

        A connection that is just being made again is waited for, shortly, with the line
        free for the poller that makes it.
        """
        last_ms = monotonic_ms() + RECONNECT_WAIT_MS
        while True:
            try:
                async with self._line.for_command():
                    if monotonic_ms() > deadline_ms:
                        return False
                    await self._plugin.write_point(write)
                    return True
            except NotConnectedError as error:
                if error.sent or monotonic_ms() >= last_ms:
                    raise
                await asyncio.sleep(RECONNECT_LOOK_S)

    def _prepare(self, command: dict[str, Any]) -> Write:
        kind = PointKind(command["type"])
        point = self._channel.find(kind, command["point"])
        if point is None:
            raise NotFoundError(f"channel {self._channel.id} has no point {kind}:{command['point']}")
        return self._plugin.prepare_write(kind, point, float(command["value"]))

    async def _verify(self, command_id: str, write: Write) -> None:
        """Read the address back, a few times: some devices show a value a moment later."""
        state, reason, value = "failed", "no read-back", None
        for pause_ms in READ_BACK_PAUSES_MS:
            await asyncio.sleep(pause_ms / 1000)
            try:
                async with self._line.for_command():
                    found = await self._plugin.read_back(write)
            except DeviceError as error:
                state, reason = "failed", f"the device acknowledged, but the read-back failed: {error}"
                continue
            value = found.value
            if found.matches:
                await self._complete(command_id, "verified", None, value)
                return
            state, reason = "mismatch", f"read back {value:g} instead of {write.value:g}"
        await self._complete(command_id, state, reason, value)

    async def _complete(self, command_id: str, state: str, reason: str | None, value: float | None = None) -> None:
        """Report an outcome until Redis has it. After a loss of the lease Redis has ended the command itself."""
        document: dict[str, Any] = {"id": command_id, "state": state}
        if reason is not None:
            document["reason"] = reason[:512]
        if value is not None and abs(value) < float("inf"):
            document["value"] = value
        backoff = Backoff(100, 2000)
        while True:
            try:
                await self._functions.complete(self._channel.id, document | {"epoch": self._epoch()})
            except UnavailableError:
                await backoff.pause()
            except (ConflictError, StateError, NotFoundError) as error:
                log.warning("command %s: %s is not taken: %s", command_id, state, error)
                return
            else:
                log.info("command %s: %s %s", command_id, state, reason or "")
                return
