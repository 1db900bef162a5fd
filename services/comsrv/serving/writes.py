"""A write from a Modbus master: commands of the ledger, answered with what became of them.

Everything that can be known before is checked for all values of a request before the
first becomes a command, so that a refused request changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from libs.clock import monotonic_ms
from libs.errors import InvalidError, NotFoundError, UnavailableError, VoltageError
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.runner import Runner
from services.comsrv.serving.image import (
    ACKNOWLEDGE,
    BUSY,
    DEVICE_FAILURE,
    GATEWAY_TARGET,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    RefusedRequest,
)
from services.comsrv.serving.table import Served

log = logging.getLogger(__name__)

LOOK_S: Final = 0.02
GOOD_STATES: Final = frozenset(("verified", "acknowledged"))


class Wish(NamedTuple):
    """A value that a master wants a point to have."""

    served: Served
    value: float


class Writer:
    """Puts writes into the ledger."""

    def __init__(self, functions: ComsrvFunctions, runners: Mapping[int, Runner], *, ttl_ms: int, wait_ms: int) -> None:
        """Keep what it works with; an answer waits at most `wait_ms` for the device."""
        self._functions = functions
        self._runners = runners
        self._ttl_ms = ttl_ms
        self._wait_ms = wait_ms

    async def write(self, wishes: list[Wish], master: str) -> None:
        """Command every value and wait for what becomes of it.

        Raises:
            RefusedRequest: 2 no such point, 3 a value it can't take, 4 the device refused it or shows
                another value, 5 accepted but not done yet, 6 not now (tagged, selected, queue full),
                11 the device can't be reached.
        """
        for wish in wishes:
            self._check(wish)
        commands = [await self._submit(wish, master) for wish in wishes]
        end = monotonic_ms() + self._wait_ms
        for command in commands:
            await self._follow(command, end)

    def _check(self, wish: Wish) -> None:
        ref = wish.served.point
        runner = self._runners.get(int(ref.owner))
        point = runner.channel.find(str(ref.kind), ref.point) if runner else None
        if point is None:
            raise RefusedRequest(ILLEGAL_ADDRESS)
        low, high = (-math.inf if point.min is None else point.min), (math.inf if point.max is None else point.max)
        if not math.isfinite(wish.value) or not low <= wish.value <= high:
            raise RefusedRequest(ILLEGAL_VALUE)

    async def _submit(self, wish: Wish, master: str) -> dict[str, Any]:
        ref = wish.served.point
        document = {
            "type": str(ref.kind),
            "point": ref.point,
            "value": wish.value,
            "ttl_ms": self._ttl_ms,
            "source": {"kind": "network", "name": f"modbus {master}"},
        }
        try:
            return await self._functions.submit(int(ref.owner), document)
        except VoltageError as error:
            log.warning("a write of %s to %s is refused: %s", master, wish.served.reference, error)
            raise RefusedRequest(_code(error)) from None

    async def _follow(self, command: dict[str, Any], end: int) -> None:
        """Wait for an outcome. The command goes on where the answer can't wait for it any longer."""
        while not command["final"]:
            if monotonic_ms() >= end:
                raise RefusedRequest(ACKNOWLEDGE)
            await asyncio.sleep(LOOK_S)
            try:
                command = await self._functions.command(command["id"])
            except UnavailableError:
                raise RefusedRequest(GATEWAY_TARGET) from None
        if command["state"] not in GOOD_STATES:
            raise RefusedRequest(GATEWAY_TARGET if command["state"] in {"failed", "expired"} else DEVICE_FAILURE)


def _code(error: VoltageError) -> int:
    if isinstance(error, InvalidError):
        return ILLEGAL_VALUE
    if isinstance(error, NotFoundError):
        return ILLEGAL_ADDRESS
    return GATEWAY_TARGET if isinstance(error, UnavailableError) else BUSY
