"""Compare what rules commanded with what was published of their inputs: the promise of the chaos run of rules.

Redis publishes a block before the rules that follow from it, and a firing as its actions are carried out; so what came
before a firing is what its actions saw. That is put together here from the messages alone, not from what the firing
says of itself. Where many rules turn at once, a firing waits for its turn and then still says what its rule saw when it
turned: that must have been published of its points a moment before.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from bench.chaos.comsrv_site import INTERVAL_MS
from bench.chaos.rules_site import Rule, Seen, would_hold

LEASE_MS: Final = max(3000, 3 * INTERVAL_MS)
# What came within the lease, and was at most a lease old when it came.
OLDEST_MS: Final = 2 * LEASE_MS
EXAMPLES: Final = 5
# So much that was published of a point is remembered, for firings that waited.
REMEMBERED: Final = 32
# What a firing says where nothing was commanded, and what that is.
_WITHHELD: Final = {"not good": "not good", "is stale": "stale", "older than its lease": "late"}


class Command(NamedTuple):
    """A command of a rule as it stands in the site's journal."""

    id: str
    rule: str
    at_ms: int


class Found(NamedTuple):
    """What a run came to."""

    commands: int
    # What was wrong, in words.
    bad: list[str]
    stale: list[str]
    unexplained: list[str]
    needless: list[str]
    misquoted: list[str]
    counts: Counter[str]
    ages: list[int]


class Check:
    """Takes the messages in their order."""

    def __init__(self, rules: Iterable[Rule], commands: Iterable[Command]) -> None:
        """Start with nothing published."""
        self._rules = {rule.name: rule for rule in rules}
        self._by_point: dict[str, list[Rule]] = {}
        for rule in self._rules.values():
            for point in rule.inputs:
                self._by_point.setdefault(point, []).append(rule)
        self._journal = {command.id: command for command in commands}
        self._seen: dict[str, Seen] = {}
        self._past: defaultdict[str, deque[Seen]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._held: dict[str, bool] = {}
        self.found = Found(0, [], [], [], [], [], Counter(), [])
        self._explained: set[str] = set()

    def read(self, path: Path) -> Found:
        """Take a file of messages."""
        with path.open("rb") as lines:
            for line in lines:
                message = orjson.loads(line)
                if "channel" in message and "points" in message:
                    self._update(message)
                elif "rule" in message and "event" in message:
                    self._firing(message)
        left = [one for one in self._journal.values() if one.id not in self._explained]
        self.found.unexplained.extend(f"{one.id} of {one.rule} at {one.at_ms} has no firing" for one in left)
        return self.found._replace(commands=len(self._journal))

    def _update(self, message: dict[str, Any]) -> None:
        head = f"comsrv:{message['channel']}:{message['type']}:"
        touched: dict[str, Rule] = {}
        for identity in {**message["points"], **message["quality"]}:
            point = head + identity
            if point not in self._by_point:
                continue
            before = self._seen.get(point, Seen())
            value, quality = message["points"].get(identity, before.value), message["quality"].get(identity)
            good_ms = message["at_ms"] if quality is None else before.good_ms
            self._seen[point] = Seen(value, quality, good_ms, message["at_ms"])
            self._past[point].append(self._seen[point])
            touched |= {rule.name: rule for rule in self._by_point[point]}
        for rule in touched.values():
            self._tempt(rule)

    def _tempt(self, rule: Rule) -> None:
        """Count where a condition came to hold by last good values while an input was not good."""
        if rule.plain is None:
            return
        holds = would_hold(rule.plain, self._seen)
        if holds and not self._held.get(rule.name) and self._spoiled(rule):
            self.found.counts["tempted"] += 1
        self._held[rule.name] = holds

    def _spoiled(self, rule: Rule) -> list[str]:
        return [
            f"{point} was {self._seen.get(point, Seen()).quality or 'missing'}"
            for point in rule.inputs
            if not self._seen.get(point, Seen()).good
        ]

    def _firing(self, message: dict[str, Any]) -> None:
        rule = self._rules.get(message["rule"])
        if rule is None or message["event"] == "cleared":
            return
        spoiled = self._spoiled(rule)
        self.found.counts["firings on input that was not good" if spoiled else "firings on good input"] += 1
        excused = self._quoted(rule, message)
        for action in message["actions"]:
            if "result" in action:
                self._commanded(rule, message, action["result"], spoiled)
            else:
                kinds = [kind for text, kind in _WITHHELD.items() if text in action["problem"]] or ["another reason"]
                self.found.counts[f"withheld, {kinds[0]}"] += 1
                if kinds[0] == "not good" and not spoiled and not excused and not _window(message):
                    self.found.needless.append(f"{rule.name} at {message['at_ms']}: {action['problem']}")

    def _commanded(self, rule: Rule, message: dict[str, Any], command_id: str, spoiled: list[str]) -> None:
        said = f"{command_id} of {rule.document['name']}, fired at {message['at_ms']}"
        command = self._journal.get(command_id)
        if command is None or command_id in self._explained:
            self.found.unexplained.append(f"{said}, is not once in the journal")
            return
        self._explained.add(command_id)
        if spoiled:
            self.found.bad.append(f"{said}: {', '.join(spoiled)}")
        ages = {point: command.at_ms - self._seen.get(point, Seen()).good_ms for point in rule.inputs}
        self.found.ages.extend(ages.values())
        old = [f"{point} was {age} ms old" for point, age in ages.items() if age > OLDEST_MS]
        if old:
            self.found.stale.append(f"{said}, made at {command.at_ms}: {', '.join(old)}")

    def _quoted(self, rule: Rule, message: dict[str, Any]) -> bool:
        """Hold what a firing says of its points against what was published of them; return whether one was not good."""
        excused = False
        for one in message["inputs"]:
            # A model of the site is named after its rule and shows the rule's first point.
            point = rule.inputs[0] if one["ref"].startswith("modsrv:") else one["ref"]
            good = one["quality"] == "good"
            seen = self._seen.get(point)
            if seen is None or one.get("aggregate"):
                continue
            if good == seen.good or any(past.good == good and past.at_ms == one["at_ms"] for past in self._past[point]):
                excused = excused or not good
            else:
                self.found.misquoted.append(f"{rule.name} at {message['at_ms']}: {one} was published as {seen}")
        return excused


def _window(message: dict[str, Any]) -> bool:
    """Whether too little of a window was good: what no point says."""
    return any("aggregate" in one and one["quality"] != "good" for one in message["inputs"])


def journal(entries: Iterable[tuple[bytes, list[bytes]]]) -> Iterator[Command]:
    """Yield the commands of rules as the site's journal has them, once each."""
    for _, flat in entries:
        fields = {name.decode(): text.decode() for name, text in zip(flat[::2], flat[1::2], strict=True)}
        kind, _, name = fields.get("by", "").partition(":")
        if fields.get("what") == "command" and fields.get("state") == "queued" and kind == "rule":
            yield Command(fields["id"], name, int(fields["at_ms"]))
