"""Definitions in Redis: created, changed, brought back and applied from files through their functions.

Who changed what, and what was before, is kept by the functions (redis_functions/core/versions.lua).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from libs.config.desired import Entry
from libs.config.differences import differences
from libs.definitions import Change, Definition, Proposal, digest, new_id, said_of
from libs.errors import ConfigurationError, InvalidError, NotFoundError, Problem, UnavailableError, VoltageError
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

    @property
    def kind(self) -> str:
        """The kind, as the functions of versions name it."""
        return self.noun.replace(" ", "_")


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

    async def create(self, definition: Definition, change: Change) -> bytes:
        """Store a new definition and return it.

        Raises:
            ConflictError: its id is taken.
        """
        return await self._put(definition.id or new_id(), definition, {**change.document(), "version": 0})

    async def change(self, definition_id: str, definition: Definition, change: Change) -> bytes:
        """Change a stored definition and return it; what says the same changes nothing.

        Raises:
            NotFoundError: there is none.
            ConflictError: it was changed since the version that was seen.
            StateError: it requires approval.
        """
        if definition.id not in {None, definition_id}:
            raise InvalidError(f"id {definition.id} is not the path's {definition_id}")
        return await self._put(definition_id, definition, {**change.document(), "existing": True})

    async def delete(self, definition_id: str, change: Change) -> bytes:
        """Delete a definition, or raise NotFoundError."""
        return await self.functions.call(self.names.delete, definition_id, change.document())

    async def versions(self, definition_id: str) -> bytes:
        """Return the versions that are kept, newest first: {items, cursor}."""
        return await self.functions.read("definition_versions", definition_id, {"kind": self.names.kind})

    async def version(self, definition_id: str, version: int) -> bytes:
        """Return what a version said, and what is known of it."""
        asked = {"kind": self.names.kind, "version": version}
        return await self.functions.read("definition_version", definition_id, asked)

    async def diff(self, definition_id: str, old: int | None, new: int | None) -> dict[str, Any]:
        """Return what differs between two versions; without them the last change."""
        if new is None:
            new = int(orjson.loads(await self.versions(definition_id))["items"][0]["version"])
        if old is None:
            old = max(new - 1, 0)
        before, after = [await self._said_in(definition_id, number) for number in (old, new)]
        return {"from": old, "to": new, "changes": _documents(before, after)}

    async def _said_in(self, definition_id: str, version: int) -> dict[str, Any]:
        """Return what a version said: nothing before the first one, and of a deletion."""
        if version == 0:
            return {}
        said: dict[str, Any] | None = orjson.loads(await self.version(definition_id, version))["definition"]
        return said or {}

    async def rollback(self, definition_id: str, version: int, change: Change) -> bytes:
        """Bring a version back as the newest one, and return the definition."""
        wanted = change.document()
        expected = wanted.pop("version", None)
        wanted |= {"kind": self.names.kind, "version": version} | ({} if expected is None else {"expected": expected})
        return await self.functions.call("definition_rollback", definition_id, wanted)

    async def propose(self, definition_id: str, proposal: Proposal, by: str) -> bytes:
        """Propose a change of a definition that requires approval; returns the proposal."""
        document = {"id": new_id(), **proposal.asked(definition_id), "kind": self.names.kind, "by": by}
        return await self.functions.call("definition_propose", definition_id, document)

    async def proposals(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page of proposals, newest first; what waits says what it would change now."""
        found = await self.functions.read("definition_proposals", None, {**filters, "kind": self.names.kind})
        page: dict[str, Any] = orjson.loads(found)
        for proposal in page["items"]:
            if proposal["status"] == "pending":
                present = said_of(await self._find(proposal["of"]) or {})
                proposal["changes"] = _documents(present, proposal["definition"] or {})
        return orjson.dumps(page)

    async def decide(self, proposal: str, by: str, comment: str | None, *, approve: bool) -> bytes:
        """Approve or reject a proposal; returns it."""
        document = {"by": by} | ({"comment": comment} if comment else {})
        return await self.functions.call("definition_approve" if approve else "definition_reject", proposal, document)

    async def _find(self, definition_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = orjson.loads(await self.get(definition_id))
        except NotFoundError:
            return None
        return found

    async def _put(self, definition_id: str, definition: Definition, change: dict[str, Any]) -> bytes:
        said = {"id": definition_id, **definition.said()}
        return await self.functions.call(self.names.upsert, definition_id, said, change)

    async def difference(self, entry: Entry) -> dict[str, Any] | None:
        """Return what an entry of a file would change; None for nothing."""
        before, said = await self._find(entry.id), entry.definition.said()
        if before is None:
            return _change(self, entry.id, "create", {}, said)
        if digest(said_of(before)) == digest(said):
            return None
        return _change(self, entry.id, "propose" if _guarded(before) else "change", said_of(before), said)

    async def from_file(self, definition_id: str) -> dict[str, Any] | None:
        """Return the stored definition, where its last change came from a file."""
        found = await self._find(definition_id)
        author = str((found or {}).get("author"))
        return found if author == FROM_FILE or author.startswith(f"{FROM_FILE}:") else None

    async def apply(self, entry: Entry, change: Change) -> bool:
        """Bring one entry of a file to Redis; return whether that changed anything.

        A definition that requires approval gets a proposal: files have no second person.
        """
        before, said = await self._find(entry.id), entry.definition.said()
        if before is not None and digest(said_of(before)) == digest(said):
            return False
        reason = entry.definition.reason or change.reason or entry.where
        if before is not None and _guarded(before):
            await self.propose(entry.id, Proposal(definition=said, reason=reason), change.by)
        else:
            await self._put(entry.id, entry.definition, change._replace(reason=reason).document())
        return True

    async def remove(self, before: Mapping[str, Any], change: Change) -> None:
        """Delete a stored definition that left the files, or propose that."""
        if _guarded(before):
            await self.propose(before["id"], Proposal(delete=True, reason=change.reason), change.by)
        else:
            await self.delete(before["id"], change)


def _guarded(document: Mapping[str, Any]) -> bool:
    return document.get("requires_approval") is True


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
            action = "propose" if _guarded(before) else "delete"
            changes.append(_change(kind, definition_id, action, said_of(before), {}))
    return [change for change in changes if change is not None]


async def remove_gone(
    functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry], change: Change
) -> int:
    """Delete the definitions that left the files, unless the API changed them since; return how many."""
    applied_key = functions.key(key("applied"))
    applied = await execute(functions.client, "HGETALL", applied_key)
    removed = 0
    for kind, definition_id in _gone(kinds, applied, list(entries)):
        before = await kind.from_file(definition_id)
        if before is not None:
            await kind.remove(before, change._replace(reason=change.reason or "left the files"))
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
    changes = _documents(old, new) if new else []
    return {"kind": kind.names.noun, "id": definition_id, "action": action, "changes": changes}


def _documents(old: Any, new: Any) -> list[dict[str, Any]]:
    return [difference.document() for difference in differences(old, new)]


async def apply_desired(
    functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry], change: Change
) -> int:
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
                changed += await kind.apply(entry, change)
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
