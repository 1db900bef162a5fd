"""The process image in plain Python, written from DESIGN.md, not from the Lua.

One channel with telemetry and text points (named x and their number), its lease, and rules
over them. Slow and simple: no index, no cache, every rule is looked at in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEASE_MS = 3000
Tree = dict[str, Any]


@dataclass
class Point:
    """A point: its last good value, the instant of its last change, its quality (None is good)."""

    value: float | str | None = None
    at: int = 0
    quality: str | None = None


@dataclass
class Leaf:
    """A condition and what it remembers."""

    point: str
    operator: str
    limit: float | str
    for_ms: int | None
    hysteresis: float | None
    name: str = ""
    on: bool = False
    held: bool = False
    since: int | None = None
    elapsed: int = 0


@dataclass
class Alarm:
    """The open alarm of a rule."""

    status: str = "New"
    count: int = 1
    uncertain: bool = False


@dataclass
class Rule:
    """A rule and its state."""

    name: str
    document: dict[str, Any]
    tree: Any
    leaves: list[Leaf]
    truth: bool | None = None
    active: bool = False
    count: int = 0

    @property
    def enabled(self) -> bool:
        """Return whether it is on."""
        return self.document["enabled"] is not False


def is_text(name: str) -> bool:
    """Return whether a point is a text."""
    return name.startswith("x")


def kleene_all(truths: list[bool | None]) -> bool | None:
    """Return the conjunction: one false decides, else one unknown leaves it open."""
    if False in truths:
        return False
    return None if None in truths else True


def kleene_any(truths: list[bool | None]) -> bool | None:
    """Return the disjunction."""
    if True in truths:
        return True
    return None if None in truths else False


@dataclass
class Image:
    """The state of the site."""

    now: int
    points: dict[str, Point] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    firings: list[tuple[str, str, int]] = field(default_factory=list)
    sequence: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    leased: bool = False
    stored: int = 0
    queued: int = 0

    # ------------------------------------------------------------ time

    def begin(self, now: int) -> None:
        """Let time pass: what is due fires in the order (due, name), at its due instant; then what that set."""
        self.now = max(self.now, now)
        while found := sorted((due, name) for name, due in self.timers.items() if due <= self.now):
            # One instant after the other: what fires at one may set what is due before the next.
            self.fire([timer for timer in found if timer[0] == found[0][0]])

    def fire(self, found: list[tuple[int, str]]) -> None:
        """Fire timers in their order."""
        for due, name in found:
            if name not in self.timers:
                # What fired before it stopped it.
                continue
            del self.timers[name]
            kind, _, which = name.partition("|")
            if kind == "lease":
                self.lapse(due)
            elif kind == "hold":
                self.hold_over(which, due)
            elif kind == "cooldown":
                rule = self.rules[which.removeprefix("rule:")]
                if rule.truth is True and not rule.active:
                    self.turn(rule, True, due)

    def hold_over(self, which: str, due: int) -> None:
        """End a hold: the condition counts as true from its due instant."""
        for rule in self.rules.values():
            for leaf in rule.leaves:
                if leaf.name == which and leaf.since is not None:
                    leaf.held = True
                    self.evaluate(rule, due)

    def lapse(self, at: int) -> None:
        """End the lease: nothing stays good because its writer died."""
        self.leased = False
        self.timers.pop("lease|1001", None)
        marked = [name for name, point in self.points.items() if point.value is not None]
        for name in marked:
            self.points[name].quality, self.points[name].at = "bad:stale", at
        self.queued += len([name for name in marked if not is_text(name)])
        self.settle(set(marked), at)

    # ------------------------------------------------------------ calls

    def claim(self) -> int:
        """Take the channel."""
        self.epoch += 1
        self.leased = True
        self.sequence = {}
        self.extend()
        return self.epoch

    def extend(self) -> None:
        """Prolong the lease from now on."""
        self.timers["lease|1001"] = self.now + LEASE_MS

    def block(self, epoch: int, seq: int) -> str:
        """Say what becomes of a block: taken, repeat, CONFLICT or STATE."""
        if epoch < self.epoch:
            return "CONFLICT"
        if seq <= self.sequence.get("b", -1):
            return "repeat"
        if not self.leased:
            return "STATE"
        self.sequence["b"] = seq
        self.extend()
        return "taken"

    def poll(self, at: int, values: Mapping[str, float | str], quality: dict[str, str]) -> None:
        """Take a block's values and qualities at one instant."""
        touched = set(values)
        for name, value in values.items():
            self.points[name] = Point(value, at, quality.get(name))
        for name, text in quality.items():
            point = self.points.setdefault(name, Point())
            if point.quality != text:
                touched.add(name)
            if name not in values:
                point.quality, point.at = text, at
        names = values.keys() | quality.keys()
        self.count(len(names), texts=sum(map(is_text, names)))
        self.settle(touched, at)

    def events(self, events: list[tuple[str, int, float]]) -> None:
        """Take events in source order; an older one than the image shows itself to the rules only."""
        for name, at, value in sorted(events, key=lambda event: event[1]):
            image = self.points.get(name, Point())
            self.points[name] = Point(value, at)
            self.settle({name}, at)
            if image.at > at:
                self.points[name] = image
                self.settle({name}, image.at)
        self.count(len(events))

    def count(self, samples: int, texts: int = 0) -> None:
        """Count samples stored, and those queued for history, which takes no texts."""
        self.stored += samples
        self.queued += samples - texts

    # ------------------------------------------------------------ rules

    def put_rule(self, name: str, document: dict[str, Any]) -> None:
        """Store a rule; it starts anew and sees the present values."""
        self.drop_rule(name)
        leaves: list[Leaf] = []
        rule = Rule(name, document, build(document["conditions"], leaves, name), leaves)
        self.rules[name] = rule
        if rule.enabled:
            self.evaluate(rule, self.now)

    def drop_rule(self, name: str) -> None:
        """Take a rule away: its timers go, its alarm returns."""
        rule = self.rules.pop(name, None)
        if rule is None:
            return
        for timer in [f"cooldown|rule:{name}", *(f"hold|{leaf.name}" for leaf in rule.leaves)]:
            self.timers.pop(timer, None)
        if rule.active:
            self.clear(rule, self.now)

    def settle(self, touched: set[str], at: int) -> None:
        """Let every rule over the touched points follow, the highest priority first."""
        concerned = [
            rule for rule in self.rules.values() if rule.enabled and any(leaf.point in touched for leaf in rule.leaves)
        ]
        for rule in sorted(concerned, key=lambda rule: (-rule.document["priority"], rule.name)):
            self.evaluate(rule, at)

    def evaluate(self, rule: Rule, at: int) -> None:
        """Evaluate a rule and act on a change of its truth."""
        before, rule.truth = rule.truth, self.truth(rule, rule.tree, at)
        if rule.truth == before:
            return
        alarm = self.alarms.get(rule.name)
        if rule.active and alarm and None in {rule.truth, before}:
            alarm.uncertain = rule.truth is None
        if rule.truth is True and not rule.active and f"cooldown|rule:{rule.name}" not in self.timers:
            self.turn(rule, True, at)
        elif rule.truth is False and rule.active:
            self.turn(rule, False, at)

    def turn(self, rule: Rule, on: bool, at: int) -> None:
        """Fire or clear."""
        rule.active = on
        if not on:
            self.clear(rule, at)
            return
        rule.count += 1
        if rule.document["cooldown_ms"]:
            self.timers[f"cooldown|rule:{rule.name}"] = at + rule.document["cooldown_ms"]
        self.firings.append((rule.name, "fired", at))
        alarm = self.alarms.get(rule.name)
        if alarm is None:
            self.alarms[rule.name] = Alarm()
            return
        alarm.count += 1
        alarm.uncertain = False
        if alarm.status == "Returned":
            alarm.status = "New"

    def clear(self, rule: Rule, at: int) -> None:
        """End what the rule raised: New returns, Acknowledged closes."""
        self.firings.append((rule.name, "cleared", at))
        alarm = self.alarms.get(rule.name)
        if alarm is None or alarm.status == "Returned":
            return
        if alarm.status == "Acknowledged":
            del self.alarms[rule.name]
        else:
            alarm.status, alarm.uncertain = "Returned", False

    def acknowledge(self, name: str) -> None:
        """See an alarm: New is Acknowledged, Returned closes."""
        if self.alarms[name].status == "Returned":
            del self.alarms[name]
        else:
            self.alarms[name].status = "Acknowledged"

    # ------------------------------------------------------------ logic

    def truth(self, rule: Rule, tree: Any, at: int) -> bool | None:
        """Return a tree's truth; every leaf is asked, so that each hold runs."""
        if isinstance(tree, Leaf):
            raw = self.raw(rule, tree)
            return self.hold(tree, raw, at) if tree.for_ms else raw
        kind, below = tree
        truths = [self.truth(rule, item, at) for item in below]
        if kind == "not":
            return None if truths[0] is None else not truths[0]
        return kleene_all(truths) if kind == "all" else kleene_any(truths)

    def raw(self, rule: Rule, leaf: Leaf) -> bool | None:
        """Return what the point says now; unknown while it is missing or not good."""
        point = self.points.get(leaf.point, Point())
        if leaf.operator == "quality":
            return (point.quality or ("good" if point.value is not None else "missing")).split(":")[0] == "bad"
        last = rule.document["on_bad"] == "last"
        if point.value is None or (point.quality and not last):
            return None
        if leaf.operator in {"==", "!="}:
            return (point.value == leaf.limit) is (leaf.operator == "==")
        assert isinstance(point.value, float)
        assert not isinstance(leaf.limit, str)
        margin = leaf.hysteresis or 0 if leaf.on else 0
        truth = point.value > leaf.limit - margin if leaf.operator == ">" else point.value < leaf.limit + margin
        leaf.on = truth
        return truth

    def hold(self, leaf: Leaf, raw: bool | None, at: int) -> bool | None:
        """Return the truth of a condition that must stand for a time; unknown pauses it."""
        timer = f"hold|{leaf.name}"
        assert leaf.for_ms
        if raw is True:
            if not leaf.held and leaf.since is None:
                leaf.since = min(at, self.now)
                self.timers[timer] = leaf.since + leaf.for_ms - leaf.elapsed
            return leaf.held
        if raw is None:
            if not leaf.held and leaf.since is not None:
                left = max(0, self.timers.pop(timer, at) - at)
                leaf.elapsed = max(leaf.elapsed, leaf.for_ms - left)
                leaf.since = None
            return None
        leaf.held, leaf.since, leaf.elapsed = False, None, 0
        self.timers.pop(timer, None)
        return False


def build(tree: Any, leaves: list[Leaf], rule: str) -> Any:
    """Return a tree of (kind, items) and leaves."""
    if isinstance(tree, list):
        return ("all", [build(item, leaves, rule) for item in tree])
    for kind in ("all", "any"):
        if kind in tree:
            return (kind, [build(item, leaves, rule) for item in tree[kind]])
    if "not" in tree:
        return ("not", [build(tree["not"], leaves, rule)])
    _, _, kind, number = tree["source"].split(":")
    point = f"x{number}" if kind == "X" else number
    limit = tree["value"]
    leaf = Leaf(
        point,
        tree["operator"],
        limit,
        tree.get("for_ms"),
        tree.get("hysteresis"),
        f"rule:{rule}#{len(leaves) + 1}",
    )
    leaves.append(leaf)
    return leaf
