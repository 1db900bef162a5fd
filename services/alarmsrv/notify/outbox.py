"""The outbox in Redis from alarmsrv's side: one stream, one consumer group, acknowledged after the effect."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import orjson

from libs.errors import InternalError, NotFoundError
from libs.redis.client import Client, execute
from libs.redis.definitions import READ_A_CALL
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.alarmsrv.notify.messages import Message, Told

GROUP: Final = "alarmsrv"
CONSUMER: Final = "alarmsrv"
STEP: Final = 500
WAIT_MS: Final = 1000


class Sending(NamedTuple):
    """A message that left, or was about to, when the service stopped: it goes once more under its id."""

    id: str
    entries: list[str]


class Letter(NamedTuple):
    """A message that was given up."""

    id: str
    target: str
    reason: str
    at_ms: int
    attempts: int
    message: dict[str, Any]


class Outbox:
    """Takes entries, and says what became of them."""

    def __init__(self, functions: Functions, blocking: Client) -> None:
        """Keep the gate, and a client whose calls may wait."""
        self._functions = functions
        self._blocking = blocking
        self._stream = functions.key(key("alarm_outbox"))

    async def pending(self, after: str) -> list[Told]:
        """Return entries that were taken and are not finished, behind an id."""
        return await self._read(after)

    async def wait(self) -> list[Told]:
        """Return new entries; wait a second for them."""
        return await self._read(">")

    async def _read(self, start: str) -> list[Told]:
        words = ("GROUP", GROUP, CONSUMER, "COUNT", STEP, "BLOCK", WAIT_MS, "STREAMS", self._stream, start)
        try:
            found = await execute(self._blocking, "XREADGROUP", *words)
        except InternalError as error:
            if "NOGROUP" not in str(error):
                raise
            # A Redis that came back empty; routes made it, and files bring routes back at our start only.
            await execute(self._blocking, "XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
            return []
        # redis-py gives {stream: [[(id, fields), ...]]}, and {} when the wait was in vain.
        return [_told(entry_id, fields) for entry_id, fields in found[self._stream.encode()][0]] if found else []

    async def done(self) -> set[str]:
        """Return `entry|target` of what a target has while others wait."""
        found = await execute(self._functions.client, "SMEMBERS", self._functions.key(key("alarm_outbox_done")))
        return {item.decode() for item in found}

    async def sending(self) -> dict[str, Sending]:
        """Return the message each target was being sent."""
        found = await self._hash("alarm_outbox_sending")
        return {target: Sending(**orjson.loads(text)) for target, text in found.items()}

    async def targets(self) -> dict[str, str]:
        """Return what is kept of each target."""
        return await self._hash("alarm_outbox_targets")

    async def _hash(self, name: str) -> dict[str, str]:
        found = await execute(self._functions.client, "HGETALL", self._functions.key(key(name)))
        return {field.decode(): text.decode() for field, text in found.items()}

    async def begin(self, message: Message, entries: list[str]) -> None:
        """Note that a message leaves."""
        document = {"target": message.target, "id": message.id, "entries": entries}
        await self._functions.call("alarm_outbox_begin", None, document)

    async def settle(
        self,
        target: str,
        *,
        mark: list[str],
        finished: list[str],
        unmark: list[str],
        state: str | None = None,
        letter: dict[str, Any] | None = None,
    ) -> None:
        """Say what became of a target's message."""
        document: dict[str, Any] = {"target": target, "mark": mark, "finished": finished, "unmark": unmark}
        if state is not None:
            document["state"] = state
        if letter is not None:
            document["letter"] = letter
        await self._functions.call("alarm_outbox_settle", None, document)

    async def keep(self, target: str, state: str) -> None:
        """Keep what is known of a target."""
        await execute(self._functions.client, "HSET", self._functions.key(key("alarm_outbox_targets")), target, state)

    async def letters(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return a page of dead letters, newest first."""
        stream = self._functions.key(key("alarm_outbox_dead"))
        end = f"({cursor}" if cursor else "+"
        found = await execute(self._functions.client, "XREVRANGE", stream, end, "-", "COUNT", limit)
        items = [_letter(entry_id, fields)._asdict() for entry_id, fields in found]
        return {"items": items, "cursor": items[-1]["id"] if len(items) == limit else None}

    async def letter(self, letter_id: str) -> Letter:
        """Return a dead letter, or raise NotFoundError."""
        stream = self._functions.key(key("alarm_outbox_dead"))
        found = await execute(self._functions.client, "XRANGE", stream, letter_id, letter_id)
        if not found:
            raise NotFoundError(f"dead letter {letter_id}")
        return _letter(*found[0])

    async def forget_letter(self, letter_id: str) -> None:
        """Remove a dead letter."""
        await execute(self._functions.client, "XDEL", self._functions.key(key("alarm_outbox_dead")), letter_id)

    async def counts(self) -> tuple[int, int]:
        """Return how many entries and how many dead letters there are."""
        waiting = await execute(self._functions.client, "XLEN", self._stream)
        dead = await execute(self._functions.client, "XLEN", self._functions.key(key("alarm_outbox_dead")))
        return int(waiting), int(dead)

    async def routes(self) -> list[dict[str, Any]]:
        """Return all routes."""
        return await self._functions.read_all("alarm_route_list", READ_A_CALL)


def _told(entry_id: bytes, raw: dict[bytes, bytes] | None) -> Told:
    # An entry that was trimmed while it was pending comes without fields.
    fields = {name.decode(): value.decode() for name, value in (raw or {}).items()}
    return Told(entry_id.decode(), fields.pop("kind", "gone"), fields)


def _letter(entry_id: bytes, fields: dict[bytes, bytes]) -> Letter:
    said = json.loads(fields[b"letter"])
    return Letter(
        entry_id.decode(), fields[b"target"].decode(), str(said["reason"]), int(said["at_ms"]), int(said["attempts"]),
        orjson.loads(said["message"]),
    )  # fmt: skip
