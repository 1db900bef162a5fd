"""One rule or alarm definition over the past: what it did, and what it would have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from services.hissrv.replay.compare import ALARMS, FIRINGS
from services.hissrv.replay.entries import Output
from services.hissrv.replay.run import Change, Outcome


class Kind(NamedTuple):
    """A kind of definition: how it is stored, what it is called, and where what it does is written."""

    upsert: str
    noun: str
    journal: str
    # The field that names it, and how.
    field: str
    prefix: str
    # What begins and ends what lasts; by whose name several go on side by side.
    begins: frozenset[str]
    ends: frozenset[str]
    thread: str


KINDS: Final = {
    "rule": Kind(
        "rule_upsert",
        "rule",
        FIRINGS,
        "rule",
        "",
        frozenset({"fired"}),
        frozenset({"cleared"}),
        "rule",
    ),
    "alarm": Kind(
        "alarm_define",
        "alarm_definition",
        ALARMS,
        "origin",
        "alarm:",
        frozenset({"raised", "recurred"}),
        frozenset({"returned", "resolved"}),
        "alarm",
    ),
}
# Texts of the journals that hold JSON.
_JSON: Final = frozenset({"inputs", "actions"})
_NUMBERS: Final = frozenset({"at_ms", "number", "version"})
# What is no news to who asks for one definition.
_DROPPED: Final = frozenset({"previous", "number"})


def change_of(kind: str, definition: Mapping[str, Any]) -> Change:
    """Return the definition as one that stands in place of what was live; it is enabled, or nothing is asked."""
    one = KINDS[kind]
    document = orjson.dumps({**definition, "enabled": True})
    return Change(one.upsert, one.noun, str(definition["id"]), document)


class Side:
    """What one definition did, then or now."""

    def __init__(self, kind: Kind, name: str) -> None:
        """Start with nothing."""
        self._kind = kind
        self._name = kind.prefix + name
        self._open: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def take(self, outputs: list[Output]) -> None:
        """Take what a call wrote."""
        for one in outputs:
            if one.journal == self._kind.journal and one.fields.get(self._kind.field) == self._name:
                self._add(_readable(one.fields))

    def _add(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        thread = str(event.get(self._kind.thread))
        if event["event"] in self._kind.begins:
            self._open.setdefault(thread, event)
        elif event["event"] in self._kind.ends and (begun := self._open.pop(thread, None)):
            begun["until_ms"] = event["at_ms"]
            begun["duration_ms"] = event["at_ms"] - begun["at_ms"]

    def finish(self, end_ms: int) -> dict[str, Any]:
        """Return how often and how long, and what its actions came to; what still lasts is counted until the end."""
        for one in self._open.values():
            one |= {"until_ms": None, "duration_ms": max(0, end_ms - one["at_ms"])}
        actions = Counter(
            f"{action['type']}{', not done' if 'problem' in action else ''}"
            for one in self.events
            for action in one.get("actions") or []
        )
        return {
            "events": dict(Counter(one["event"] for one in self.events)),
            "lasted_ms": sum(one.get("duration_ms", 0) for one in self.events),
            "actions": dict(actions),
        }


class Backtest:
    """Takes a replay's outcomes and keeps those of one definition, then and now."""

    def __init__(self, kind: str, name: str) -> None:
        """Start with nothing."""
        self.then = Side(KINDS[kind], name)
        self.now = Side(KINDS[kind], name)

    def take(self, outcome: Outcome) -> None:
        """Take what a call wrote, then and now."""
        self.then.take(outcome.then)
        self.now.take(outcome.now)

    def report(self, end_ms: int) -> dict[str, Any]:
        """Return both sides in numbers, and every event: those of now, marked where they were then; and those gone."""
        totals = {"then": self.then.finish(end_ms), "now": self.now.finish(end_ms)}
        then = Counter((one["at_ms"], one["event"]) for one in self.then.events)
        events = []
        for one in self.now.events:
            moment = one["at_ms"], one["event"]
            was = then[moment] > 0
            then[moment] -= was
            events.append({"in": "both" if was else "now", **one})
        for one in self.then.events:
            moment = one["at_ms"], one["event"]
            if then[moment] > 0:
                then[moment] -= 1
                events.append({"in": "then", **one})
        events.sort(key=lambda one: one["at_ms"])
        return {"totals": totals, "events": events}


def _readable(fields: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in fields.items():
        if name in _JSON:
            found[name] = _parsed(text)
        elif name not in _DROPPED:
            found[name] = int(text) if name in _NUMBERS and text.isdecimal() else text
    return found


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
