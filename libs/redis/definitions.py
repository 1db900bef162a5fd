"""Definitions in Redis: created, changed and applied from files through their functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from libs.clock import now_ms
from libs.config.desired import Entry
from libs.config.differences import differences
from libs.definitions import Definition, digest, new_id, said_of, stamp
from libs.errors import (
    ConfigurationError,
    ConflictError,
    InvalidError,
    NotFoundError,
    Problem,
    UnavailableError,
    VoltageError,
)
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key

FROM_FILE = "file"


class Names(NamedTuple):
    """A kind of definition and the functions that keep it."""

    noun: str
    upsert: str
    get: str
    list: str
    delete: str


class Definitions:
    """One kind of definition. Documents are passed on as the functions store them."""

    def __init__(self, functions: Functions, names: Names) -> None:
        """Keep the gate and the names of the functions."""
        self.functions = functions
        self.names = names

    async def page(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page: {items, cursor}."""
        return await self.functions.read(self.names.list, None, dict(filters))

    async def get(self, definition_id: str) -> bytes:
        """Return a definition as it was stored, or raise NotFoundError."""
        return await self.functions.read(self.names.get, definition_id)

    async def create(self, definition: Definition, author: str) -> bytes:
        """Store a new definition and return it.

        Raises:
            ConflictError: its id is taken.
        """
        definition_id = definition.id or new_id()
        if await self._find(definition_id) is not None:
            raise ConflictError(f"{self.names.noun} {definition_id} exists")
        return await self._put(definition_id, definition, None, author, definition.reason)

    async def change(self, definition_id: str, definition: Definition, author: str) -> bytes:
        """Change a stored definition and return it; what says the same changes nothing.

        Raises:
            NotFoundError: there is none.
            ConflictError: it was changed since the version that was sent.
        """
        if definition.id not in {None, definition_id}:
            raise InvalidError(f"id {definition.id} is not the path's {definition_id}")
        stored = await self.get(definition_id)
        before = orjson.loads(stored)
        if definition.version not in {None, before.get("version")}:
            raise ConflictError(
                f"{self.names.noun} {definition_id} has version {before.get('version')}, not {definition.version}"
            )
        if digest({**definition.said(), "id": definition_id}) == digest(said_of(before)):
            return stored
        return await self._put(definition_id, definition, before, author, definition.reason)

    async def delete(self, definition_id: str) -> bytes:
        """Delete a definition, or raise NotFoundError."""
        return await self.functions.call(self.names.delete, definition_id)

    async def _find(self, definition_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = orjson.loads(await self.get(definition_id))
        except NotFoundError:
            return None
        return found

    async def _put(
        self,
        definition_id: str,
        definition: Definition,
        before: Mapping[str, Any] | None,
        author: str,
        reason: str | None,
    ) -> bytes:
        said = {"id": definition_id, **definition.said()}
        document = stamp(said, before, author=author, reason=reason, now_ms=now_ms())
        return await self.functions.call(self.names.upsert, definition_id, document)

    async def difference(self, entry: Entry) -> dict[str, Any] | None:
        """Return what an entry of a file would change; None for nothing."""
        before, said = await self._find(entry.id), entry.definition.said()
        if before is None:
            return _change(self, entry.id, "create", {}, said)
        if digest(said_of(before)) == digest(said):
            return None
        return _change(self, entry.id, "change", said_of(before), said)

    async def from_file(self, definition_id: str) -> dict[str, Any] | None:
        """Return the stored definition, where its last change came from a file."""
        found = await self._find(definition_id)
        return found if found is not None and found.get("author") == FROM_FILE else None

    async def apply(self, entry: Entry) -> bool:
        """Bring one entry of a file to Redis; return whether that changed anything."""
        before = await self._find(entry.id)
        if before is not None and digest(said_of(before)) == digest(entry.definition.said()):
            return False
        await self._put(entry.id, entry.definition, before, FROM_FILE, entry.definition.reason or entry.where)
        return True


async def plan_desired(
    functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry]
) -> list[dict[str, Any]]:
    """Return what applying files would change: {kind, id, action, changes}.

    A definition that left the files goes, unless the API changed it since.
    """
    applied = await execute(functions.client, "HGETALL", functions.key(key("applied")))
    listed = list(entries)
    waiting = [entry for entry in listed if applied.get(_field(kinds, entry).encode()) != _said(entry).encode()]
    changes = [await kinds[entry.section].difference(entry) for entry in waiting]
    for kind, definition_id in _gone(kinds, applied, listed):
        before = await kind.from_file(definition_id)
        if before is not None:
            changes.append(_change(kind, definition_id, "delete", said_of(before), {}))
    return [change for change in changes if change is not None]


async def remove_gone(functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry]) -> int:
    """Delete the definitions that left the files, unless the API changed them since; return how many."""
    applied_key = functions.key(key("applied"))
    applied = await execute(functions.client, "HGETALL", applied_key)
    removed = 0
    for kind, definition_id in _gone(kinds, applied, list(entries)):
        if await kind.from_file(definition_id) is not None:
            await kind.delete(definition_id)
            removed += 1
        await execute(functions.client, "HDEL", applied_key, f"{kind.names.noun}:{definition_id}")
    return removed


def _gone(
    kinds: Mapping[str, Definitions], applied: Mapping[bytes, bytes], entries: list[Entry]
) -> list[tuple[Definitions, str]]:
    """Return what was applied from files that say nothing of it any more; dependents come before what they need."""
    present = {_field(kinds, entry) for entry in entries}
    by_noun = {kind.names.noun: kind for kind in kinds.values()}
    order = list(by_noun)
    found = [name.decode().partition(":") for name in sorted(applied) if name.decode() not in present]
    gone = [(by_noun[noun], definition_id) for noun, _, definition_id in found if noun in by_noun]
    return sorted(gone, key=lambda one: -order.index(one[0].names.noun))


def _change(kind: Definitions, definition_id: str, action: str, old: Any, new: Any) -> dict[str, Any]:
    changes = [] if action == "delete" else [difference.document() for difference in differences(old, new)]
    return {"kind": kind.names.noun, "id": definition_id, "action": action, "changes": changes}


async def apply_desired(functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry]) -> int:
    """Bring files to Redis; return how many definitions changed.

    An entry counts once: what the API changed or deleted later stays so until
    the file says something new. `voltage:applied` remembers what was applied.

    Raises:
        ConfigurationError: what the functions refused, with file and line.
    """
    applied_key = functions.key(key("applied"))
    applied = await execute(functions.client, "HGETALL", applied_key)
    waiting = [entry for entry in entries if applied.get(_field(kinds, entry).encode()) != _said(entry).encode()]
    changed = 0
    while waiting:
        problems: list[Problem] = []
        refused: list[Entry] = []
        for entry in waiting:
            kind = kinds[entry.section]
            try:
                changed += await kind.apply(entry)
            except UnavailableError:
                raise
            except VoltageError as error:
                problems.append(Problem(entry.where, f"{kind.names.noun} {entry.id}: {error}"))
                refused.append(entry)
            else:
                await execute(functions.client, "HSET", applied_key, _field(kinds, entry), _said(entry))
        # What one entry is refused for may be what a later one changes: two limits that move, a name that swaps.
        if len(refused) == len(waiting):
            raise ConfigurationError(problems)
        waiting = refused
    return changed


def _field(kinds: Mapping[str, Definitions], entry: Entry) -> str:
    return f"{kinds[entry.section].names.noun}:{entry.id}"


def _said(entry: Entry) -> str:
    return digest(entry.definition.said())
