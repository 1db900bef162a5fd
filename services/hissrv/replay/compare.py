"""What was written to the journals then and now, entry by entry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from libs.redis import keys
from services.hissrv.replay.entries import Output
from services.hissrv.replay.span import Outcome

FIRINGS: Final = keys.key("firings")
ALARMS: Final = keys.key("alarm_journal")
COMMANDS: Final = keys.key("operations")
# Differences that are kept; all are counted.
MOST: Final = 10_000
# With a definition changed, what only counts or names differs everywhere and says nothing.
_COUNTING: Final = frozenset({"number", "previous", "version", "seq", "alarm", "id"})
# That these are refused once and not twice says nothing where a definition is another one.
_DEFINING: Final = re.compile(r"definition_.*|rule_(upsert|delete|enable)|alarm_(define|definition_delete)")
_NAMES: Final = re.compile(r'"(al|cmd)-\d+-\d+"')


class Difference(NamedTuple):
    """An entry that was written once and not twice, or a call that was refused once and not twice."""

    at_ms: int
    only: str  # live or replay
    journal: str
    fields: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"only": self.only, "journal": self.journal, **self.fields, "at_ms": self.at_ms}

    def said(self) -> str:
        """Say it in a line."""
        fields = self.fields
        if self.journal == FIRINGS:
            return f"rule {fields.get('rule')} {fields.get('event')}"
        if self.journal == ALARMS:
            name = fields.get("origin") or fields.get("alarm")
            return f"{fields.get('event')}: {fields.get('title')} ({name})"
        if self.journal == "calls":
            return f"{fields.get('function')} {fields.get('key')}: {fields.get('problem') or 'accepted'}"
        what = fields.get("state") or fields.get("what")
        return f"command {fields.get('point')} = {fields.get('value')} {what}, by {fields.get('by')}"


class Comparison:
    """Takes a replay's outcomes and says what differs.

    Without a change two journals are the same only byte for byte and in the same order. With a definition
    changed, numbers, hashes and ids differ from its first difference on; entries are compared without them.
    """

    def __init__(self, *, changed: bool) -> None:
        """Start with nothing."""
        self._changed = changed
        self.entries = 0
        self.by_journal: dict[str, int] = {}
        self._open: dict[Any, list[Difference]] = {}
        self._exactly: list[Difference] = []
        self.count = 0

    def take(self, outcome: Outcome) -> None:
        """Compare what one call wrote."""
        self.entries += len(outcome.then)
        for one in outcome.then:
            self.by_journal[one.journal] = self.by_journal.get(one.journal, 0) + 1
        if outcome.same:
            return
        if self._changed:
            self._tally(outcome)
            return
        for then, now in _aligned(outcome.then, outcome.now):
            self._note("live", then, outcome)
            self._note("replay", now, outcome)
        self._refusals(outcome)

    def _tally(self, outcome: Outcome) -> None:
        for only, other, outputs in (("live", "replay", outcome.then), ("replay", "live", outcome.now)):
            for one in outputs:
                name = _normal(one)
                waiting = self._open.setdefault(name, [])
                if waiting and waiting[0].only == other:
                    waiting.pop(0)
                else:
                    waiting.append(_difference(only, one, outcome))
        self._refusals(outcome)

    def _refusals(self, outcome: Outcome) -> None:
        entry = outcome.entry
        if self._changed and _DEFINING.fullmatch(entry.function):
            return
        if bool(outcome.problem) != outcome.refused_then:
            only = "replay" if outcome.problem else "live"
            fields = {"function": entry.function, "key": entry.key, "problem": outcome.problem}
            self._keep(Difference(entry.at_ms, only, "calls", fields))

    def _note(self, only: str, output: Output | None, outcome: Outcome) -> None:
        if output is not None:
            self._keep(_difference(only, output, outcome))

    def _keep(self, difference: Difference) -> None:
        self.count += 1
        if len(self._exactly) < MOST:
            self._exactly.append(difference)

    def differences(self) -> list[Difference]:
        """Return what differs, in order."""
        found = [*self._exactly, *(one for waiting in self._open.values() for one in waiting)]
        return sorted(found, key=lambda one: one.at_ms)[:MOST]

    @property
    def total(self) -> int:
        """How many differ."""
        return self.count + sum(len(waiting) for waiting in self._open.values())


def _aligned(then: list[Output], now: list[Output]) -> Iterable[tuple[Output | None, Output | None]]:
    for number in range(max(len(then), len(now))):
        one = then[number] if number < len(then) else None
        other = now[number] if number < len(now) else None
        if one != other:
            yield one, other


def _difference(only: str, output: Output, outcome: Outcome) -> Difference:
    return Difference(int(output.fields.get("at_ms") or outcome.entry.at_ms), only, output.journal, output.fields)


def _normal(output: Output) -> tuple[Any, ...]:
    fields = ((name, _NAMES.sub('"*"', text)) for name, text in output.fields.items() if name not in _COUNTING)
    return (output.journal, *fields)
