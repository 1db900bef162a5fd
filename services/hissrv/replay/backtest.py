"""One rule or alarm definition over the past: what it did, and what it would have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from services.hissrv.replay.compare import ALARMS, FIRINGS
from services.hissrv.replay.entries import Output
from services.hissrv.replay.private import Private
from services.hissrv.replay.span import Change, Outcome


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
_JSON: Final = frozenset({"inputs", "branch", "actions"})
_NUMBERS: Final = frozenset({"at_ms", "number", "version"})
# What lasts when the span begins; no journal has this word.
STANDING: Final = "standing"
# What is no news to who asks for one definition.
_DROPPED: Final = frozenset({"previous", "number"})


def change_of(kind: str, definition: Mapping[str, Any]) -> Change:
    """Return the definition as one that stands in place of what was live; it is enabled, or nothing is asked."""
    one = KINDS[kind]
    document = orjson.dumps({**definition, "enabled": True})
    return Change(one.upsert, one.noun, str(definition["id"]), document)


class Side:
    """What one definition did, then or now; what lasts when the span begins is the event `standing` of its start."""

    def __init__(self, kind: Kind, name: str, start_ms: int) -> None:
        """Start with nothing."""
        self._kind = kind
        self._name = kind.prefix + name
        self._start_ms = start_ms
        self._began = False
        self._open: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def stands(self, thread: str) -> None:
        """Take what lasts before the span begins."""
        standing = {"event": STANDING, "at_ms": self._start_ms, self._kind.thread: thread}
        self._open.setdefault(thread, standing)

    def lead(self, outputs: list[Output]) -> None:
        """Take what a call wrote before the span begins."""
        for one in self._mine(outputs):
            thread = one.fields.get(self._kind.thread, "")
            if one.fields.get("event") in self._kind.begins:
                self.stands(thread)
            elif one.fields.get("event") in self._kind.ends:
                self._open.pop(thread, None)

    def take(self, outputs: list[Output]) -> None:
        """Take what a call wrote."""
        for one in self._mine(outputs):
            self._begin()
            self._add(_readable(one.fields))

    def _mine(self, outputs: list[Output]) -> Iterator[Output]:
        for one in outputs:
            if one.journal == self._kind.journal and one.fields.get(self._kind.field) == self._name:
                yield one

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self.events.extend(self._open.values())

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
        self._begin()
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

    def __init__(self, kind: str, name: str, start_ms: int) -> None:
        """Start with nothing."""
        self._name = name
        self._standing = STANDS[kind]
        self.then = Side(KINDS[kind], name, start_ms)
        self.now = Side(KINDS[kind], name, start_ms)

    def stands(self, private: Private, *, changed: bool) -> None:
        """Take what lasts where the replay begins, before and after the definition is changed."""
        thread = self._standing(private, self._name)
        if thread is not None:
            (self.now if changed else self.then).stands(thread)

    def lead(self, then: list[Output], now: list[Output]) -> None:
        """Take what a call wrote before the span begins."""
        self.then.lead(then)
        self.now.lead(now)

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


def _rule_stands(private: Private, name: str) -> str | None:
    """Return the thread of a rule whose condition holds."""
    if not private.call("EXISTS", private.key("rule", id=name)):
        return None
    return name if orjson.loads(private.function("rule_explain", name))["active"] else None


def _alarm_stands(private: Private, name: str) -> str | None:
    """Return the thread of a definition's alarm whose condition holds."""
    alarm = private.call("HGET", private.key("alarms_open"), KINDS["alarm"].prefix + name)
    if alarm is None:
        return None
    found = orjson.loads(private.function("get_alarm", alarm.decode()))
    return found["id"] if found["active"] else None


STANDS: Final[Mapping[str, Callable[[Private, str], str | None]]] = {"rule": _rule_stands, "alarm": _alarm_stands}


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
