"""The rules of the chaos run: 96 that command, one of each shape by turns, over devices that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from bench.chaos.comsrv_site import GATEWAY_UNITS, GATEWAYS, SINGLE, STRIDE

RULES: Final = 96
# Points go up and down between 0 and 100, each with a phase of its own.
PERIOD_S: Final = 24.0
MODELS: Final = 8
Tree = dict[str, Any]


class Seen(NamedTuple):
    """A point as it was published: its last value, its quality (None is good), the instants of both."""

    value: float | None = None
    quality: str | None = None
    # Of its last good value, and of what was published last.
    good_ms: int = 0
    at_ms: int = 0

    @property
    def good(self) -> bool:
        """Whether it may be commanded by."""
        return self.value is not None and self.quality is None


class Rule(NamedTuple):
    """A rule: what it commands, by which points, and the tree where the present values alone decide."""

    name: str
    target: str
    inputs: tuple[str, ...]
    document: dict[str, Any]
    plain: Tree | None


def _point(number: int, place: int) -> str:
    """Return a point of device `number`; every third device is behind a gateway."""
    if number % 3 == 0:
        channel = GATEWAYS[number % len(GATEWAYS)]
        return f"comsrv:{channel}:T:{(1 + number % GATEWAY_UNITS) * STRIDE + place}"
    return f"comsrv:{SINGLE[number % len(SINGLE)]}:T:{STRIDE + place}"


def _leaf(source: str, operator: str = ">", value: Any = 60, **more: Any) -> Tree:
    return {"source": source, "operator": operator, "value": value, **more}


# Each shape: from two points to a tree, and whether memory decides, too.
Shape = Callable[[str, str], Tree]
SHAPES: Final[Mapping[str, tuple[Shape, bool]]] = {
    "one": (lambda a, _: {"all": [_leaf(a)]}, False),
    "both": (lambda a, b: {"all": [_leaf(a), _leaf(b, "<", 40)]}, False),
    "either": (lambda a, b: {"any": [_leaf(a), _leaf(b)]}, False),
    "not": (lambda a, b: {"not": {"any": [_leaf(a), _leaf(b, "between", [20, 80])]}}, False),
    "above another": (lambda a, b: {"all": [_leaf(a, ">", {"source": b})]}, False),
    "bad or high": (lambda a, b: {"any": [_leaf(a, "quality", "bad"), _leaf(b)]}, False),
    "hold": (lambda a, b: {"all": [_leaf(a, for_ms=1300), _leaf(b, ">", -1)]}, True),
    "hysteresis": (lambda a, b: {"any": [_leaf(a, hysteresis=10), _leaf(b, for_ms=800)]}, True),
    "mean": (lambda a, b: {"all": [_leaf(a, aggregate="mean", window_ms=3000), _leaf(b, ">", 30)]}, True),
    "rising": (lambda a, b: {"all": [{"source": a, "operator": "rising", "within_ms": 2500}, _leaf(b)]}, True),
    "no data": (lambda a, b: {"any": [_leaf(a, "no_data", 500), _leaf(b, for_ms=600)]}, True),
    "calculated": (lambda a, _: {"all": [_leaf(a)]}, False),
}  # fmt: skip


def rules(on_bad: str) -> Iterator[Rule]:
    """Yield the rules; with `on_bad: last` they command by what is not good, and the run must find it."""
    names = list(SHAPES)
    for number in range(RULES):
        shape = names[number % len(names)]
        a, b = _point(number, 1 + number % 4), _point(number + 7, 1 + (number + 1) % 4)
        make, remembers = SHAPES[shape]
        source = f"modsrv:chaos{number}:active_power" if number < MODELS else a
        target = f"comsrv:{SINGLE[number % len(SINGLE)]}:A:1"
        value = {"expression": f"{b} + 1000"} if shape == "calculated" else {"value": 1000 + number}
        document = {
            "id": f"chaos{number}", "name": f"{shape} {number}", "conditions": make(source, b), "on_bad": on_bad,
            "actions": [{"type": "command", "params": {"target": target, "verify": False, **value}}],
            "priority": number % 5,
        }  # fmt: skip
        inputs = (a,) if shape == "one" else (a, b)
        yield Rule(document["id"], target, inputs, document, None if remembers else make(a, b))


def write_rules(config: Path, made: list[Rule]) -> None:
    """Write the files of rules and models."""
    models = [
        {"id": f"chaos{number}", "name": f"chaos {number}", "template": "chaos", "mapping": _mapping(rule.inputs[0])}
        for number, rule in enumerate(made[:MODELS])
    ]
    template = {
        "id": "chaos", "name": "chaos", "class": "load",
        "data_points": {"active_power": {"base_id": 1, "kind": "T", "unit": "kW", "description": ""}},
    }  # fmt: skip
    files = {
        "rules/chaos.yaml": {"rules": [rule.document for rule in made]},
        "models/chaos.yaml": {"templates": [template], "models": models},
    }
    for name, document in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(document))


def _mapping(point: str) -> dict[str, Any]:
    _, channel, kind, identity = point.split(":")
    return {"channel": int(channel), "data": {"active_power": f"{kind}:{identity}"}}


def would_hold(tree: Tree, seen: Mapping[str, Seen]) -> bool:
    """Return what a tree says of the last good values, whatever their quality is now."""
    if "all" in tree:
        return all(would_hold(one, seen) for one in tree["all"])
    if "any" in tree:
        return any(would_hold(one, seen) for one in tree["any"])
    return not would_hold(tree["not"], seen) if "not" in tree else _compared(tree, seen)


def _compared(leaf: Tree, seen: Mapping[str, Seen]) -> bool:
    point, limit = seen.get(leaf["source"], Seen()), leaf["value"]
    if leaf["operator"] == "quality":
        return (point.quality or "good").startswith(limit)
    if isinstance(limit, dict):
        limit = seen.get(limit["source"], Seen()).value
    if point.value is None or limit is None:
        return False
    if leaf["operator"] == "between":
        return bool(limit[0] <= point.value <= limit[1])
    return bool(point.value > limit if leaf["operator"] == ">" else point.value < limit)
