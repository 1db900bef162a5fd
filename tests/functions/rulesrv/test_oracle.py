"""Random condition trees and sequences of values: truth, holds, firings, branches and commands are the oracle's."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import orjson
from hypothesis import HealthCheck, Phase, given, settings

from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.oracles import conditions as oracle
from tests.support.site import START, Site

POINTS = ("1", "2", "3")
NAMES = ("a", "b", "c")
SOURCES = st.sampled_from([f"comsrv:1001:T:{point}" for point in POINTS])
LIMITS = st.integers(0, 4)
HOLDS = st.sampled_from([0, 0, 0, 700, 2000])
MARGINS = st.sampled_from([0, 0, 1])


def leaf(source: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    options = {name: option for name, option in more.items() if option not in (0, None)}
    return {"source": source, "operator": operator, **({} if value is None else {"value": value}), **options}


ORDERED = st.sampled_from([">", ">=", "<", "<="])
LEAVES = st.one_of(
    st.builds(lambda s, o, v, h, m: leaf(s, o, v, for_ms=h, hysteresis=m), SOURCES, ORDERED, LIMITS, HOLDS, MARGINS),
    st.builds(lambda s, o, v, h: leaf(s, o, v, for_ms=h), SOURCES, st.sampled_from(["==", "!="]), LIMITS, HOLDS),
    st.builds(lambda s, o, other: leaf(s, o, {"source": other}), SOURCES, ORDERED, SOURCES),
    st.builds(lambda s, v, h: leaf(s, "in", v, for_ms=h), SOURCES, st.lists(LIMITS, min_size=1, max_size=2), HOLDS),
    st.builds(lambda s, v, m: leaf(s, "between", [v, v + 1], hysteresis=m), SOURCES, LIMITS, MARGINS),
    st.builds(
        lambda s, o, w: leaf(s, o, within_ms=w),
        SOURCES, st.sampled_from(["changed", "rising", "falling"]), st.sampled_from([0, 900]),
    ),
    st.builds(
        lambda s, v, h: leaf(s, "quality", v, for_ms=h),
        SOURCES, st.sampled_from(["bad", "good", "missing", "bad:stale", "uncertain"]), HOLDS,
    ),
    st.builds(lambda s, v: leaf(s, "no_data", v), SOURCES, st.sampled_from([0, 700])),
    st.builds(
        lambda s, o, v, a, c, h: leaf(s, o, v + 0.37, aggregate=a, window_ms=6000, for_ms=h) | {"coverage": c},
        SOURCES, st.sampled_from([">", "<"]), LIMITS, st.sampled_from(["mean", "min", "max"]),
        st.sampled_from([0, 0.2, 0.5]), HOLDS,
    ),
    st.builds(
        lambda s, v, w: leaf(s, ">=", v, aggregate="count", window_ms=6000, when=w) | {"coverage": 0},
        SOURCES, st.integers(1, 3), st.sampled_from([None, {"operator": ">", "value": 2}]),
    ),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.builds(lambda items: {"all": items}, st.lists(below, min_size=1, max_size=3)),
        st.builds(lambda items: {"any": items}, st.lists(below, min_size=1, max_size=3)),
        st.builds(lambda item: {"not": item}, below),
    ),
    max_leaves=6,
)
DOCUMENTS = st.builds(
    lambda tree, priority, cooldown, on_bad: {
        "name": "x", "conditions": tree, "priority": priority, "cooldown_ms": cooldown, "on_bad": on_bad,
    },
    TREES | LEAVES.map(lambda one: [one]), st.integers(0, 2), st.sampled_from([0, 0, 1500]),
    st.sampled_from(["hold", "hold", "last"]),
)  # fmt: skip
QUALITIES = st.sampled_from(["bad:timeout", "bad:stale", "uncertain:substituted"])
PUT = st.tuples(
    st.just("put"),
    st.dictionaries(st.sampled_from(POINTS), LIMITS.map(float), max_size=3),
    st.dictionaries(st.sampled_from(POINTS), QUALITIES, max_size=1),
)
PASS = st.tuples(st.just("pass"), st.sampled_from([1, 100, 650, 700, 1300, 3000]))
OPERATIONS = st.one_of(
    PUT,
    PUT,
    PASS,
    st.just(("forget",)),
    st.just(("stale",)),
    st.tuples(st.just("define"), st.sampled_from(NAMES), DOCUMENTS),
)


class Pair:
    """The functions and the oracle, side by side."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.site = Site(functions)
        self.oracle = oracle.Site(START)
        self.compared = 0
        self.defined = 0

    async def do(self, kind: str, *given: Any) -> None:
        """Do the same to both."""
        if kind == "put":
            values, quality = given
            await self.site.put({int(point): value for point, value in values.items()},
                                {int(point): text for point, text in quality.items()})  # fmt: skip
            self.oracle.put(values, quality)
        elif kind == "stale":
            # The writer goes: nothing stays good.
            known = {name: "bad:stale" for name, point in self.oracle.points.items() if point.value is not None}
            released = {"epoch": self.site.epoch, "now_ms": self.site.now}
            await self.functions.call("channel_release", 1001, released)
            await self.site.claim()
            self.oracle.put({}, known)
        elif kind == "pass":
            await self.site.pass_ms(given[0])
            self.oracle.run(given[0])
        elif kind == "define":
            name, document = given
            target = f"comsrv:1001:A:{NAMES.index(name) + 1}"
            actions = [{"type": "command", "params": {"target": target, "value": 1, "ttl_ms": 1}}]
            # A rule stored as it is already changes nothing.
            self.defined += 1
            changed = {**document, "name": str(self.defined), "actions": actions}
            await self.functions.call("rule_upsert", name, changed)
            self.oracle.define(name, document)
        else:
            await execute(self.functions.client, "SET", self.functions.key("voltage:generation"), "other")

    async def compare(self) -> None:
        """Compare what rules did, what they say now, and that explaining says the same."""
        entries = await self.site.entries("rulesrv:firings")
        assert len(entries) == len(self.oracle.firings)
        for entry, firing in zip(entries[self.compared :], self.oracle.firings[self.compared :], strict=True):
            assert (entry["rule"], entry["event"], int(entry["at_ms"])) == (firing.rule, firing.event, firing.at)
            assert any("result" in one for one in orjson.loads(entry["actions"])) is firing.commands
            self.compare_branch(orjson.loads(entry["branch"]), firing)
        self.compared = len(entries)
        for name, rule in self.oracle.rules.items():
            found = await self.functions.read_json("rule_explain", name)
            assert (found["result"], found["active"]) == (rule.truth, rule.active)
            assert {one["path"]: one["result"] for one in leaves_of(found["conditions"])} == rule.said
            assert all("missing" in one for one in leaves_of(found["conditions"]) if one["result"] is None)

    def compare_branch(self, branch: list[str], firing: oracle.Firing) -> None:
        """What is named as deciding decides: whatever all else would have said."""
        if firing.said:
            known = {path: firing.said[path] for path in branch}
            assert oracle.decide(self.oracle.rules[firing.rule].tree, known) is (firing.event == "fired")


def leaves_of(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the leaves of an explained tree."""
    if "kind" not in node:
        return [node]
    return [leaf for below in node["conditions"] for leaf in leaves_of(below)]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(documents=st.lists(DOCUMENTS, min_size=2, max_size=3), operations=st.lists(OPERATIONS, min_size=15, max_size=30))
async def test_rules_do_what_the_oracle_does(
    functions: Functions, documents: list[dict[str, Any]], operations: list[tuple[Any, ...]]
) -> None:
    await execute(functions.client, "FLUSHALL")
    pair = Pair(functions)
    await pair.site.start()
    for name, document in zip(NAMES, documents, strict=False):
        await pair.do("define", name, document)
    for operation in operations:
        await pair.do(*operation)
        await pair.compare()
