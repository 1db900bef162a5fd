"""Definitions in Redis: created, changed, brought back and applied from files through their functions.

Who changed what, and what was before, is kept by the functions (redis_functions/core/versions.lua).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from libs.config.desired import Entry
from libs.config.differences import differences
from libs.definitions import Call, Change, Definition, Proposal, digest, new_id, said_of
from libs.errors import ConfigurationError, InvalidError, NotFoundError, Problem, UnavailableError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key

FROM_FILE = "file"
PROPOSE: Final = "definition_propose"

# Redis has one thread: so many definitions are read, or looked at, in a call.
READ_A_CALL: Final = 100
WARNED_A_CALL: Final = 50


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

    def putting(self, entry: Entry, change: Change) -> Call:
        """Return the call that stores what a file says."""
        said = {"id": entry.id, **entry.definition.said()}
        return Call(f"{self.noun} {entry.id}", entry.where, self.upsert, entry.id, (said, change.document()))


class Definitions:
    """One kind of definition. Documents are passed on as the functions store them."""

    def __init__(self, functions: Functions, names: Names) -> None:
        """Keep the gate and the names of the functions."""
        self.functions = functions
        self.names = names

    async def page(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page: {items, cursor}."""
        return orjson.dumps(await self._page(filters))

    async def _page(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        return await self.functions.read_page(self.names.list, filters, READ_A_CALL)

    async def all(self) -> list[dict[str, Any]]:
        """Return every definition."""
        return await self.functions.read_all(self.names.list, READ_A_CALL)

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
        return await self.functions.call(PROPOSE, definition_id, self._proposed(definition_id, proposal, by))

    def _proposed(self, definition_id: str, proposal: Proposal, by: str) -> dict[str, Any]:
        return {"id": new_id(), **proposal.asked(definition_id), "kind": self.names.kind, "by": by}

    async def proposals(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page of proposals, newest first; what waits says what it would change now."""
        found = await self.functions.read("definition_proposals", None, {**filters, "kind": self.names.kind})
        page: dict[str, Any] = orjson.loads(found)
        for proposal in page["items"]:
            if proposal["status"] == "pending":
                present = said_of(await self.find(proposal["of"]) or {})
                proposal["changes"] = _documents(present, proposal["definition"] or {})
        return orjson.dumps(page)

    async def decide(self, proposal: str, by: str, comment: str | None, *, approve: bool) -> bytes:
        """Approve or reject a proposal; returns it."""
        document = {"by": by} | ({"comment": comment} if comment else {})
        return await self.functions.call("definition_approve" if approve else "definition_reject", proposal, document)

    async def find(self, definition_id: str) -> dict[str, Any] | None:
        """Return a stored definition, or None."""
        try:
            found: dict[str, Any] = orjson.loads(await self.get(definition_id))
        except NotFoundError:
            return None
        return found

    async def _put(self, definition_id: str, definition: Definition, change: dict[str, Any]) -> bytes:
        said = {"id": definition_id, **definition.said()}
        return await self.functions.call(self.names.upsert, definition_id, said, change)

    async def from_file(self, definition_id: str) -> dict[str, Any] | None:
        """Return the stored definition, where its last change came from a file."""
        found = await self.find(definition_id)
        author = str((found or {}).get("author"))
        return found if author == FROM_FILE or author.startswith(f"{FROM_FILE}:") else None

    def applying(self, entry: Entry, before: Mapping[str, Any] | None, change: Change) -> Call | None:
        """Return the call that brings one entry of a file to Redis, where `before` is; None where that says the same.

        A definition that requires approval gets a proposal: files have no second person.
        """
        said = entry.definition.said()
        if before is not None and digest(said_of(before)) == digest(said):
            return None
        reason = entry.definition.reason or change.reason or entry.where
        call = self.names.putting(entry, change._replace(reason=reason))
        if before is None or not _guarded(before):
            return call
        document = self._proposed(entry.id, Proposal(definition=said, reason=reason), change.by)
        return call._replace(function=PROPOSE, arguments=(document,))

    def removing(self, before: Mapping[str, Any], change: Change) -> Call:
        """Return the call that deletes a stored definition that left the files, or proposes that."""
        change = change._replace(reason=change.reason or "left the files")
        name = str(before["id"])
        call = Call(f"{self.names.noun} {name}", "left the files", self.names.delete, name, (change.document(),))
        if not _guarded(before):
            return call
        document = self._proposed(name, Proposal(delete=True, reason=change.reason), change.by)
        return call._replace(function=PROPOSE, arguments=(document,))


def _guarded(document: Mapping[str, Any]) -> bool:
    return document.get("requires_approval") is True


class Step(NamedTuple):
    """What files say of one definition that they did not say before."""

    kind: Definitions
    id: str
    before: dict[str, Any] | None
    """What is stored now; of one that left the files only where its last change came from a file."""
    entry: Entry | None
    """What it shall be; None where it left the files."""

    def call(self, change: Change) -> Call | None:
        """Return the call that does it; None where there is nothing to do."""
        if self.entry is not None:
            return self.kind.applying(self.entry, self.before, change)
        return None if self.before is None else self.kind.removing(self.before, change)

    def trial(self, change: Change) -> Call | None:
        """Return the call to try: also of what requires approval the change itself, not that it is proposed."""
        before = self.before and {name: value for name, value in self.before.items() if name != "requires_approval"}
        return self._replace(before=before).call(change)

    def difference(self) -> dict[str, Any] | None:
        """Return what this would change, {kind, id, action, changes}; None for nothing."""
        old = said_of(self.before or {})
        new = self.entry.definition.said() if self.entry else {}
        if (self.before is None and self.entry is None) or (self.before is not None and digest(old) == digest(new)):
            return None
        action = "create" if self.before is None else "change" if self.entry else "delete"
        return {
            "kind": self.kind.names.noun,
            "id": self.id,
            "action": "propose" if self.before and _guarded(self.before) else action,
            "changes": _documents(old, new) if new else [],
        }


async def look(
    functions: Functions, kinds: Mapping[str, Definitions], entries: Iterable[Entry], *, gone: bool = True
) -> list[Step]:
    """Return what files say that was not applied yet, and with `gone` what left them; each is read once.

    An entry counts once: what the API changed or deleted later stays so until
    the file says something new. `voltage:applied` remembers what was applied.
    """
    applied = await execute(functions.client, "HGETALL", functions.key(key("applied")))
    listed = list(entries)
    steps = []
    for entry in listed:
        kind = kinds[entry.section]
        if applied.get(_field(kind, entry.id).encode()) != _said(entry).encode():
            steps.append(Step(kind, entry.id, await kind.find(entry.id), entry))
    for kind, definition_id in _gone(kinds, applied, listed) if gone else ():
        steps.append(Step(kind, definition_id, await kind.from_file(definition_id), None))
    return steps


async def apply_desired(functions: Functions, steps: Iterable[Step], change: Change) -> int:
    """Bring Redis in line with files; return how many definitions changed.

    Raises:
        ConfigurationError: what the functions refused, with file and line.
    """
    applied_key = functions.key(key("applied"))
    waiting = list(steps)
    changed = 0
    while waiting:
        problems: list[Problem] = []
        refused: list[Step] = []
        for step in waiting:
            call = step.call(change)
            if problem := await _made(functions, call):
                problems.append(problem)
                refused.append(step)
                continue
            changed += call is not None
            field = _field(step.kind, step.id)
            if step.entry is None:
                await execute(functions.client, "HDEL", applied_key, field)
            else:
                await execute(functions.client, "HSET", applied_key, field, _said(step.entry))
        # What one is refused for may be what a later one changes: two limits that move, a name that is another's now.
        if len(refused) == len(waiting):
            raise ConfigurationError(problems)
        waiting = refused
    return changed


async def _made(functions: Functions, call: Call | None) -> Problem | None:
    """Make a call, if there is one; return why it was refused."""
    if call is None:
        return None
    try:
        await functions.call(call.function, call.key, *call.arguments)
    except UnavailableError:
        raise
    except VoltageError as error:
        return call.refused(error.code, str(error))
    return None


def _gone(
    kinds: Mapping[str, Definitions], applied: Mapping[bytes, bytes], entries: list[Entry]
) -> list[tuple[Definitions, str]]:
    """Return what was applied from files that say nothing of it any more; dependents come before what they need."""
    present = {_field(kinds[entry.section], entry.id) for entry in entries}
    by_noun = {kind.names.noun: kind for kind in kinds.values()}
    order = list(by_noun)
    found = [name.decode().partition(":") for name in sorted(applied) if name.decode() not in present]
    gone = [(by_noun[noun], definition_id) for noun, _, definition_id in found if noun in by_noun]
    return sorted(gone, key=lambda one: -order.index(one[0].names.noun))


def _documents(old: Any, new: Any) -> list[dict[str, Any]]:
    return [difference.document() for difference in differences(old, new)]


def _field(kind: Definitions, definition_id: str) -> str:
    return f"{kind.names.noun}:{definition_id}"


def _said(entry: Entry) -> str:
    return digest(entry.definition.said())


class Warned(Definitions):
    """Definitions that may name what does not exist yet: they are answered with `warnings` then."""

    def __init__(self, functions: Functions, names: Names, warnings: str) -> None:
        """Keep the gate, the names of the functions, and the one that knows the warnings."""
        super().__init__(functions, names)
        self._warnings_of = warnings

    async def warned(self, definition: bytes) -> bytes:
        """Return a definition with its warnings, if it has any."""
        document = orjson.loads(definition)
        found = await self._warnings([document["id"]])
        return orjson.dumps(document | {"warnings": found[document["id"]]}) if found else definition

    async def warned_page(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page of definitions, with their warnings."""
        page = await self._page(filters)
        found = await self._warnings([item["id"] for item in page["items"]])
        items = [item | {"warnings": found[item["id"]]} if item["id"] in found else item for item in page["items"]]
        return orjson.dumps(page | {"items": items})

    async def _warnings(self, ids: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for first in range(0, len(ids), WARNED_A_CALL):
            asked = {"ids": ids[first : first + WARNED_A_CALL]}
            found |= await self.functions.read_json(self._warnings_of, None, asked)
        return found
