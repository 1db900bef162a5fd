"""Keep one child running: watch it, start it again, slower each time it fails."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Final

from libs.errors import ConfigurationError, VoltageError
from services.supervisor.child import Child
from services.supervisor.health import Check, Health

STARTING_INTERVAL_S: Final = 0.2
INTERVAL_S: Final = 1.0
# What is not alive this long after its start counts as not answering.
START_GRACE_S: Final = 30.0
FIRST_DELAY_S: Final = 0.5
LAST_DELAY_S: Final = 30.0
# Who ran this long is not failing in a circle: the delay starts anew.
STEADY_S: Final = 60.0


class RefusedError(VoltageError):
    """A child refused to start because of the configuration; its text is the child's own."""

    exit_code: Final = ConfigurationError.exit_code


class Keeper:
    """One child, kept running until `stop`."""

    def __init__(
        self,
        child: Child,
        check: Check | None,
        say: Callable[[str], None],
        *,
        misses: int = 3,
        restart: bool = True,
    ) -> None:
        """Describe it. Without a check, a child that runs is ready."""
        self.child = child
        self.ready = asyncio.Event()
        self.health = Health(alive=False, ready=False, detail="not started")
        self.restarts = 0
        # How often it ended unasked, and why the last time.
        self.ended = 0
        self.reason = ""
        self._check = check
        self._say = say
        self._misses = misses
        self._restart = restart
        self._stopping = False
        self._was_ready = False

    @property
    def name(self) -> str:
        """The child's name."""
        return self.child.name

    async def run(self) -> None:
        """Run it until `stop`.

        Raises:
            RefusedError: it never was ready and says that its configuration is wrong.
        """
        delay = FIRST_DELAY_S
        while not self._over():
            started = time.monotonic()
            await self.child.start()
            if self._over():
                # Asked to stop while it was being started, when there was nothing to stop yet.
                await self.child.stop(FIRST_DELAY_S)
                return
            code, reason = await self._watch(started)
            self.ready.clear()
            self.health = Health(alive=False, ready=False, detail=reason)
            if self._over():
                return
            self.ended, self.reason = self.ended + 1, reason
            if code == ConfigurationError.exit_code and not self._was_ready:
                raise RefusedError(f"{self.name} refuses to start:\n{self.child.complaint()}")
            if time.monotonic() - started > STEADY_S:
                delay = FIRST_DELAY_S
            if not self._restart:
                self._say(f"{self.name} {reason}; it stays down (--no-restart)")
                return
            last = " ".join(self.child.last_lines(1)).strip() or "nothing in its log"
            self._say(f"{self.name} {reason} ({last}); starting it again in {delay:g} s; log: {self.child.log}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_DELAY_S)
            self.restarts += 1

    def _over(self) -> bool:
        return self._stopping

    async def _watch(self, started: float) -> tuple[int, str]:
        """Wait for the child's end, or end it when it stops answering; return exit code and reason."""
        ended = asyncio.create_task(self.child.wait())
        missed = 0
        answered = False
        try:
            while True:
                interval = INTERVAL_S if self.ready.is_set() else STARTING_INTERVAL_S
                if (await asyncio.wait({ended}, timeout=interval))[0]:
                    return ended.result(), _ending(ended.result())
                self.child.rotate()
                await self._probe()
                answered = answered or self.health.alive
                if self.health.alive:
                    missed = 0
                elif answered or time.monotonic() - started > START_GRACE_S:
                    missed += 1
                if missed >= self._misses:
                    self.child.send(signal.SIGKILL)
                    return await ended, f"missed {missed} health probes and was killed"
        finally:
            ended.cancel()

    async def _probe(self) -> None:
        self.health = await self._check() if self._check else Health(alive=True, ready=True, detail="running")
        if not self.health.ready:
            if self.ready.is_set():
                self._say(f"{self.name} is not ready: {self.health.detail}")
            self.ready.clear()
        elif not self.ready.is_set():
            self.ready.set()
            if self._was_ready:
                self._say(f"{self.name} is ready again")
            self._was_ready = True

    async def stop(self, grace_s: float) -> None:
        """End the child for good."""
        self._stopping = True
        await self.child.stop(grace_s)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
