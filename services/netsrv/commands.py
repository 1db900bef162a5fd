"""Commands from a broker: checked, put into the ledger, answered with what became of them.

A command counts once: its `id` is the ledger's idempotency key, so a QoS 1 repeat changes
nothing. A retained one is refused, and so is one that is older than its time to live.
"""

from __future__ import annotations

import asyncio
import logging
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson
from pydantic import ValidationError

from libs.clock import now_ms
from libs.errors import InvalidError, NotFoundError, UnavailableError, VoltageError
from libs.points import Reference, parse_reference
from libs.validation import problems_of
from services.netsrv.disk_queue import DiskQueue
from services.netsrv.functions import NetworkFunctions
from services.netsrv.router import ANSWERS, Message
from services.netsrv.schemas import CommandMessage, CommandSettings

_LOG = logging.getLogger(__name__)
MAX_BYTES: Final = 16_384
MAX_ASKED: Final = 100
# How far the sender's clock may be ahead of ours.
AHEAD_MS: Final = 5000
FOLLOW_S: Final = 0.2
# What a command takes beyond its time to live: sending, reading back.
FINISH_MS: Final = 60_000


class Commands:
    """What one network may command."""

    def __init__(self, network: str, settings: CommandSettings, functions: NetworkFunctions, queue: DiskQueue) -> None:
        self._network = network
        self._settings = settings
        self._functions = functions
        self._queue = queue
        self._new = asyncio.Event()
        self._new.set()

    async def take(self, payload: bytes, *, retained: bool) -> None:
        """Handle one message of the command topic; whatever it is, it gets an answer."""
        said_id: str | None = None
        try:
            message = _parse(payload)
            said_id = message.id
            if retained:
                raise InvalidError("a retained command is refused: it would fire again at each connection")
            reference = self._allowed(message)
            await self._submit(message, reference, self._ttl_left(message))
        except UnavailableError as error:
            # It may have been queued all the same; the same id again tells.
            await self._say({"id": said_id, "state": "unknown", "reason": f"{error}; send it again with the same id"})
        except VoltageError as error:
            _LOG.warning("network %s: command %s refused: %s", self._network, said_id, error)
            await self._say({"id": said_id, "state": "refused", "code": error.code, "reason": str(error)})

    def _allowed(self, message: CommandMessage) -> Reference:
        reference = parse_reference(message.reference)
        if reference.service != "comsrv" or str(reference.kind) not in {"C", "A"}:
            raise InvalidError(f"{reference} is no point that can be commanded")
        if not any(fnmatchcase(str(reference), pattern) for pattern in self._settings.allow):
            raise InvalidError(f"{reference} is not in the allow-list of network {self._network}")
        return reference

    def _ttl_left(self, message: CommandMessage) -> int:
        ttl_ms = min(message.ttl_ms or self._settings.ttl_ms, self._settings.max_ttl_ms)
        if message.at_ms is None:
            return ttl_ms
        left_ms = message.at_ms + ttl_ms - now_ms()
        if left_ms <= 0:
            raise InvalidError(f"late by {-left_ms} ms: sent at {message.at_ms}, time to live {ttl_ms} ms")
        if left_ms > ttl_ms + AHEAD_MS:
            raise InvalidError(f"sent {left_ms - ttl_ms} ms in the future: one of the clocks is wrong")
        return min(left_ms, ttl_ms)

    async def _submit(self, message: CommandMessage, reference: Reference, ttl_ms: int) -> None:
        if len(await self._queue.asked()) >= MAX_ASKED:
            raise InvalidError(f"{MAX_ASKED} commands wait for their outcome already")
        command = await self._functions.submit(
            reference.owner,
            {
                "id": message.id,
                "type": str(reference.kind),
                "point": int(reference.point),
                "value": message.value,
                "ttl_ms": ttl_ms,
                "source": {"kind": "network", "name": self._network},
            },
        )
        if command["source"] != {"kind": "network", "name": self._network} or _place(command) != str(reference):
            raise InvalidError(f"id {message.id} is taken by another command")
        await self._queue.ask(message.id, now_ms() + ttl_ms + FINISH_MS, [self._message(_outcome(command))])
        self._new.set()

    async def follow(self) -> None:
        """Answer each command once its outcome is known; what was asked before a restart is asked again."""
        while True:
            await self._new.wait()
            self._new.clear()
            while waiting := await self._queue.asked():
                for command_id, until_ms in waiting:
                    await self._look(command_id, until_ms)
                await asyncio.sleep(FOLLOW_S)

    async def _look(self, command_id: str, until_ms: int) -> None:
        try:
            command = await self._functions.command(command_id)
        except NotFoundError:
            answer = {"id": command_id, "state": "unknown", "reason": "the ledger has forgotten it"}
        except UnavailableError:
            return
        else:
            if not command["final"] and now_ms() < until_ms:
                return
            answer = _outcome(command)
        await self._queue.answer(command_id, [self._message(answer)])

    async def _say(self, answer: dict[str, Any]) -> None:
        await self._queue.put([self._message(answer)])

    def _message(self, answer: dict[str, Any]) -> Message:
        at_ms = now_ms()
        payload = orjson.dumps({**answer, "at_ms": at_ms})
        return Message("", self._settings.response_topic, payload, at_ms, lane=ANSWERS)


def _parse(payload: bytes) -> CommandMessage:
    if len(payload) > MAX_BYTES:
        raise InvalidError(f"a command of {len(payload)} bytes; at most {MAX_BYTES} are taken")
    try:
        return CommandMessage.model_validate_json(payload)
    except ValidationError as error:
        raise InvalidError("; ".join(str(problem) for problem in problems_of(error, CommandMessage))) from None


def _place(command: dict[str, Any]) -> str:
    return f"comsrv:{command['channel']}:{command['type']}:{command['point']}"


def _outcome(command: dict[str, Any]) -> dict[str, Any]:
    """Return what the ledger says about a command, as the other side reads it."""
    return {
        "id": command["id"],
        "ref": _place(command),
        "value": command["value"],
        "state": command["state"],
        "final": command["final"],
        "reason": command["reason"],
        "read_back": command["read_back"],
    }
