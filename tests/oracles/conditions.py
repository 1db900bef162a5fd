"""Conditions and rules in plain Python, written from docs/rules.md, not from the Lua.

Points with value and quality, trees of conditions with Kleene logic, holds, hysteresis, changes
and aggregates over windows. Slow and simple: every rule is looked at in full whenever anything
happens, and an aggregate is added up anew from all that its point ever said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.numbers import format_value
from tests.oracles.process_image import kleene_all, kleene_any

SLICES = 60
MEMORY = ("on", "held", "since", "elapsed", "noted", "changed_at")
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


@dataclass
class Point:
    """The last good value, and the quality (None is good)."""

    value: float | None = None
    quality: str | None = None

    @property
    def good(self) -> float | None:
        """Return the value where it is good."""
        return None if self.quality else self.value


@dataclass
class Leaf:
    """A condition, its place, and what it remembers."""

    spec: dict[str, Any]
    path: str
    timer: str
    on: bool = False
    held: bool = False
    since: int | None = None
    elapsed: int = 0
    noted: float | None = None
    changed_at: int | None = None

    @property
    def window(self) -> tuple[str, int, str] | None:
        """Return what names its window: point, length, what is counted."""
        if "aggregate" not in self.spec:
            return None
        return self.spec["source"], self.spec["window_ms"], str(self.spec.get("when", ""))


@dataclass
class Window:
    """All that a point said since its window began: (from, value or None), the last still stands."""

    when: dict[str, Any] | None
    length: int
    said: list[tuple[int, float | None]]
    look: int

    def sums(self) -> tuple[float, float, list[float], int]:
        """Return good time, integral, the values seen and what was counted, at the last look."""
        last = self.look // self.length
        first = last - SLICES + 1
        good, integral, seen, count = 0.0, 0.0, [], 0
        before = None
        for i, (begin, value) in enumerate(self.said):
            end = self.said[i + 1][0] if i + 1 < len(self.said) else self.look
            if value is None:
                continue
            time = max(0, end - max(begin, first * self.length))
            good, integral = good + time, integral + time * value
            # A slice has seen what stood in it for a time, and what came in it.
            if max(begin // self.length, -(-end // self.length) - 1) >= first:
                seen.append(value)
            if before is not None and begin // self.length >= first and self.counts(before, value):
                count += 1
            before = value
        return good, integral, seen, count

    def counts(self, before: float, value: float) -> bool:
        """Return whether a value after another counts."""
        if self.when is None:
            return before != value
        fits = COMPARE[self.when["operator"]]
        return fits(value, self.when["value"]) and not fits(before, self.when["value"])

    def value(self, kind: str, coverage: float) -> float | None:
        """Return the aggregate at the last look, None where it is unknown."""
        now = self.said[-1][1]
        good, integral, seen, count = self.sums()
        if now is None or good < coverage * (self.look - (self.look // self.length - SLICES + 1) * self.length):
            return None
        found = {"mean": integral / good if good else now, "min": min([*seen, now]), "max": max([*seen, now])}
        return float(format_value(found.get(kind, count)))


@dataclass
class Rule:
    """A rule and its state."""

    name: str
    document: dict[str, Any]
    leaves: list[Leaf] = field(default_factory=list)
    tree: Any = None
    truth: bool | None = None
    active: bool = False
    said: dict[str, bool | None] = field(default_factory=dict)


@dataclass
class Firing:
    """What a rule did, when, and what each condition said then."""

    rule: str
    event: str
    at: int
    said: dict[str, bool | None]
    commands: bool


class Site:
    """Points, rules over them, and time."""

    def __init__(self, now: int) -> None:
        """Begin with nothing."""
        self.now = now
        self.points: dict[str, Point] = {}
        self.rules: dict[str, Rule] = {}
        self.windows: dict[tuple[str, int, str], Window] = {}
        self.timers: dict[str, int] = {}
        self.firings: list[Firing] = []

    # ------------------------------------------------------------ what happens

    def define(self, name: str, document: dict[str, Any]) -> None:
        """Store a rule: it starts anew."""
        before = self.rules.pop(name, None)
        if before:
            for timer in [timer for timer in self.timers if f"rule:{name}" in timer.replace("#", "|").split("|")]:
                del self.timers[timer]
            if before.active:
                # The document that was there decides what is said of it.
                self.firings.append(Firing(name, "cleared", self.now, {}, commands=False))
        rule = Rule(name, document)
        rule.tree = self.build(rule, document["conditions"], "conditions")
        self.rules[name] = rule
        wanted = {leaf.window: leaf for each in self.rules.values() for leaf in each.leaves if leaf.window}
        self.windows = {key: window for key, window in self.windows.items() if key in wanted}
        for key in wanted.keys() - self.windows.keys():
            said = [(self.now, self.point(key[0]).good)]
            length = max(100, math.ceil(key[1] / SLICES))
            self.windows[key] = Window(wanted[key].spec.get("when"), length, said, self.now)
            self.timers.setdefault(f"slices|{length}", (self.now // length + 1) * length)
        for leaf in rule.leaves:
            leaf.noted = self.point(leaf.spec["source"]).good
        self.evaluate(rule, self.now)

    def put(self, values: Mapping[str, float], quality: Mapping[str, str]) -> None:
        """Take values and qualities."""
        for name, value in values.items():
            self.points[name] = Point(value, quality.get(name))
        for name, text in quality.items():
            self.points.setdefault(name, Point()).quality = text
        for (source, _, _), window in self.windows.items():
            if source.rpartition(":")[2] in values.keys() | quality.keys():
                window.said.append((self.now, self.point(source).good))
                window.look = self.now
        self.settle(self.now)

    def run(self, duration: int) -> None:
        """Let time pass: what is due fires in the order (due, name)."""
        self.now += duration
        while found := sorted((due, name) for name, due in self.timers.items() if due <= self.now):
            for due, name in found:
                if due == found[0][0] and self.timers.get(name) == due:
                    del self.timers[name]
                    self.fire(name, due)

    def fire(self, name: str, due: int) -> None:
        """Fire a timer at its due instant."""
        kind, _, which = name.partition("|")
        if kind == "slices":
            moved = [window for window in self.windows.values() if str(window.length) == which]
            for window in moved:
                window.look = due
            if moved:
                self.timers[name] = due + moved[0].length
            self.settle(due)
            return
        rule = self.rules[which.partition("#")[0].removeprefix("rule:")]
        if kind == "cooldown":
            if rule.truth is True and not rule.active:
                self.turn(rule, "fired", due)
            return
        if kind == "hold":
            leaf = next(leaf for leaf in rule.leaves if leaf.timer == which)
            leaf.held = leaf.held or leaf.since is not None
        self.evaluate(rule, due)

    # ------------------------------------------------------------ rules

    def settle(self, at: int) -> None:
        """Look at every rule, the highest priority first."""
        for rule in sorted(self.rules.values(), key=lambda rule: (-rule.document["priority"], rule.name)):
            self.evaluate(rule, at)

    def evaluate(self, rule: Rule, at: int) -> None:
        """Evaluate a rule, and once more after a change, which is there for a moment only."""
        for _ in range(2):
            rule.said = {leaf.path: self.truth(rule, leaf, at) for leaf in rule.leaves}
            before, rule.truth = rule.truth, decide(rule.tree, rule.said)
            if rule.truth == before:
                continue
            if rule.truth is True and not rule.active and f"cooldown|rule:{rule.name}" not in self.timers:
                self.turn(rule, "fired", at)
            elif rule.truth is False and rule.active:
                self.turn(rule, "cleared", at)

    def turn(self, rule: Rule, event: str, at: int) -> None:
        """Fire or clear; a command needs every input good, or the rule's word that the last will do."""
        rule.active = event == "fired"
        if rule.active and rule.document["cooldown_ms"]:
            self.timers[f"cooldown|rule:{rule.name}"] = at + rule.document["cooldown_ms"]
        good = rule.document["on_bad"] == "last" or all(self.all_good(leaf) for leaf in rule.leaves)
        self.firings.append(Firing(rule.name, event, at, dict(rule.said), rule.active and good))

    def all_good(self, leaf: Leaf) -> bool:
        """Return whether all that a condition looks at is good."""
        value = leaf.spec.get("value")
        other = self.point(value["source"]).good if isinstance(value, dict) else 0.0
        return other is not None and self.input(leaf, last=False) is not None

    # ------------------------------------------------------------ conditions

    def point(self, source: str) -> Point:
        """Return a point; one that never was has no value."""
        return self.points.get(source.rpartition(":")[2], Point())

    def input(self, leaf: Leaf, *, last: bool) -> float | None:
        """Return the value a condition compares, None where it is unknown."""
        key = leaf.window
        if key is not None:
            return self.windows[key].value(leaf.spec["aggregate"], leaf.spec.get("coverage", 0.5))
        point = self.point(leaf.spec["source"])
        return point.value if last else point.good

    def truth(self, rule: Rule, leaf: Leaf, at: int) -> bool | None:
        """Return what a condition says, with its hold."""
        raw = self.raw(leaf, at, last=rule.document["on_bad"] == "last")
        for_ms = leaf.spec["value"] if leaf.spec["operator"] == "no_data" else leaf.spec.get("for_ms", 0)
        return self.hold(leaf, raw, at, for_ms) if for_ms else raw

    def raw(self, leaf: Leaf, at: int, *, last: bool) -> bool | None:
        """Return what a condition says at the moment."""
        operator, point = leaf.spec["operator"], self.point(leaf.spec["source"])
        if operator == "quality":
            quality = point.quality or ("missing" if point.value is None else "good")
            return leaf.spec["value"] in (quality, quality.partition(":")[0])
        if operator == "no_data":
            return point.value is None or (point.quality or "").startswith("bad")
        if operator in {"changed", "rising", "falling"}:
            return self.change(leaf, point.good, at)
        value, limit = self.input(leaf, last=last), leaf.spec["value"]
        if isinstance(limit, dict):
            other = self.point(limit["source"])
            limit = other.value if last else other.good
        if value is None or limit is None:
            return None
        margin = leaf.spec.get("hysteresis", 0) if leaf.on else 0
        if operator == "in":
            return value in limit
        if operator == "between":
            leaf.on = limit[0] - margin <= value <= limit[1] + margin
        else:
            leaf.on = COMPARE[operator](value, limit - margin if operator in {">", ">="} else limit + margin)
        return leaf.on

    def change(self, leaf: Leaf, value: float | None, at: int) -> bool | None:
        """Return whether the value is another one than the last good one, now or within its time."""
        if value is None:
            return None
        before, leaf.noted = leaf.noted, value
        operator, within = leaf.spec["operator"], leaf.spec.get("within_ms", 0)
        now = (
            before is not None
            and value != before
            and operator in ("changed", "rising" if value > before else "falling")
        )
        if not within:
            return now
        if now:
            leaf.changed_at = at
            self.timers[f"again|{leaf.timer}"] = at + within
        return leaf.changed_at is not None and at < leaf.changed_at + within

    def hold(self, leaf: Leaf, raw: bool | None, at: int, for_ms: int) -> bool | None:
        """Return the truth of a condition that must stand for a time; unknown pauses it."""
        timer = f"hold|{leaf.timer}"
        if raw is True:
            if not leaf.held and leaf.since is None:
                leaf.since = at
                self.timers[timer] = at + for_ms - leaf.elapsed
            return leaf.held
        if raw is None:
            if not leaf.held and leaf.since is not None:
                leaf.elapsed = max(leaf.elapsed, for_ms - max(0, self.timers.pop(timer, at) - at))
                leaf.since = None
            return None
        leaf.held, leaf.since, leaf.elapsed = False, None, 0
        self.timers.pop(timer, None)
        return False

    def build(self, rule: Rule, node: Any, path: str) -> Any:
        """Return a tree of (kind, items) and paths of leaves."""
        if isinstance(node, list):
            return ("all", [self.build(rule, item, f"{path}[{i}]") for i, item in enumerate(node)])
        for kind in ("all", "any"):
            if kind in node:
                return (kind, [self.build(rule, item, f"{path}.{kind}[{i}]") for i, item in enumerate(node[kind])])
        if "not" in node:
            return ("not", [self.build(rule, node["not"], f"{path}.not")])
        rule.leaves.append(Leaf(node, path, f"rule:{rule.name}#{len(rule.leaves) + 1}"))
        return path


def decide(tree: Any, said: Mapping[str, bool | None]) -> bool | None:
    """Return a tree's truth from those of its leaves; what is not said is unknown."""
    if isinstance(tree, str):
        return said.get(tree)
    kind, below = tree
    truths = [decide(item, said) for item in below]
    if kind == "not":
        return None if truths[0] is None else not truths[0]
    return kleene_all(truths) if kind == "all" else kleene_any(truths)
