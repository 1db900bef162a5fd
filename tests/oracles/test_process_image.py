"""The Lua against the oracle: the same calls, then replies, image, firings, alarms and counters compared."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from libs.numbers import format_value
from libs.redis import bundle
from libs.redis.resp import Connection, ReplyError
from tests.oracles.process_image import Image, is_text
from tests.support.servers import RedisServer

START = 1_000_000
POINTS = ["1", "2", "3"]
TEXTS = ["x1", "x8"]
RULES = ["a", "b", "c"]
points = st.sampled_from(POINTS)
texts = st.sampled_from(TEXTS)
words = st.sampled_from(["", "on", 'Stör"ung'])
values = st.integers(0, 4).map(float)
qualities = st.sampled_from(["bad:timeout", "bad:sentinel", "uncertain:substituted"])
passing = st.sampled_from([0, 1, 400, 400, 700, 1000, 2600, 3000])


def source(point: str) -> str:
    return f"comsrv:1001:X:{point[1:]}" if is_text(point) else f"comsrv:1001:T:{point}"


def section(kind: str, found: dict[str, float | str], marked: dict[str, str]) -> dict[str, Any]:
    """Return the section of the numbers, or of the texts."""
    mine = {name: value for name, value in found.items() if is_text(name) is (kind == "X")}
    return {
        "type": kind,
        "ids": [name.removeprefix("x") for name in mine],
        "values": [value if isinstance(value, str) else format_value(value) for value in mine.values()],
        "quality": {name.removeprefix("x"): text for name, text in marked.items() if is_text(name) is (kind == "X")},
    }


comparisons = st.builds(
    lambda point, operator, value, for_ms, hysteresis: {
        "source": source(point), "operator": operator, "value": value,
        **({"for_ms": for_ms} if for_ms else {}),
        **({"hysteresis": hysteresis} if hysteresis and operator != "==" else {}),
    },
    points, st.sampled_from([">", "<", "=="]), st.integers(0, 4), st.sampled_from([0, 0, 1000, 3500]),
    st.sampled_from([0, 0, 1]),
)  # fmt: skip
of_texts = st.builds(
    lambda point, operator, value, for_ms: {
        "source": source(point), "operator": operator, "value": value, **({"for_ms": for_ms} if for_ms else {}),
    },
    texts, st.sampled_from(["==", "!="]), words, st.sampled_from([0, 0, 1000]),
)  # fmt: skip
leaves = (
    comparisons
    | of_texts
    | st.builds(lambda point: {"source": source(point), "operator": "quality", "value": "bad"}, points | texts)
)
trees = st.recursive(
    leaves,
    lambda below: (
        st.builds(lambda items: {"all": items}, st.lists(below, min_size=1, max_size=3))
        | st.builds(lambda items: {"any": items}, st.lists(below, min_size=1, max_size=3))
        | st.builds(lambda item: {"not": item}, below)
    ),
    max_leaves=4,
)
# Most rules are one condition, as those of people are.
trees = st.one_of((comparisons | of_texts).map(lambda leaf: [leaf]), comparisons.map(lambda leaf: [leaf]), trees)
documents = st.builds(
    lambda tree, priority, cooldown, on_bad, enabled: {
        "name": "x", "conditions": tree, "priority": priority, "cooldown_ms": cooldown, "on_bad": on_bad,
        "enabled": enabled,
        "actions": [{"type": "create_alarm", "params": {"title": "x", "level": "Minor"}}],
    },
    trees, st.integers(0, 2), st.sampled_from([0, 0, 1500]), st.sampled_from(["hold", "last"]),
    st.sampled_from([True, True, True, False]),
)  # fmt: skip


class ProcessImage(RuleBasedStateMachine):
    """Calls in any order, against Redis and against the oracle."""

    connection: Connection

    @initialize(found=st.fixed_dictionaries(dict.fromkeys(RULES, documents)))
    def start(self, found: dict[str, dict[str, Any]]) -> None:
        self.connection.call("FLUSHALL")
        self.connection.call("HSET", "voltage:clock", "simulation", "1", "last", START)
        # System alarms have tests of their own.
        self.connection.call(
            "FCALL", "alarm_system_configure", 0, '{"channel":{"enabled":false},"flood":{"enabled":false}}'
        )
        self.image = Image(START)
        self.seq = 0
        self.number = 0
        self.named = 0
        self.last: dict[str, Any] | None = None
        self.claim(0)
        for name, document in found.items():
            self.put_rule(name, document)

    def call(self, name: str, key: str | None, document: dict[str, Any]) -> Any:
        """Call a function; an error is its code."""
        try:
            reply = self.connection.call(
                "FCALL", name, int(key is not None), *([key] if key else []), orjson.dumps(document)
            )
        except ReplyError as error:
            return str(error).split(" ", 1)[0]
        return orjson.loads(reply)

    def send(self, document: dict[str, Any]) -> str:
        """Send a block and return what became of it."""
        reply = self.call("comsrv_ingest", "1001", document)
        if isinstance(reply, str):
            return reply
        if reply["repeat"]:
            assert reply["seq"] >= self.number
            return "repeat"
        assert reply["seq"] > self.number
        self.number = reply["seq"]
        return "taken"

    def block(self, passed: int, late: int) -> dict[str, Any]:
        """Return the next block."""
        self.seq += 1
        now = self.image.now + passed
        return {
            "epoch": self.image.epoch, "seq": self.seq, "block": "b", "now_ms": now, "at_ms": max(0, now - late),
        }  # fmt: skip

    def claim(self, passed: int) -> None:
        now = self.image.now + passed
        reply = self.call("channel_claim", "1001", {"owner": "me", "interval_ms": 1000, "now_ms": now})
        self.image.begin(now)
        assert reply == {"epoch": self.image.claim(), "lease_ms": 3000}
        self.seq = 0
        self.last = None

    @rule(
        found=st.lists(
            st.tuples(
                passing,
                st.sampled_from([0, 0, 0, 0, 500, 1500]),
                st.dictionaries(points, values, max_size=3),
                st.dictionaries(points | texts, qualities, max_size=1),
                st.dictionaries(texts, words, max_size=2),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def poll_on(self, found: list[tuple[int, int, dict[str, float], dict[str, str], dict[str, str]]]) -> None:
        for passed, late, read, marked, said in found:
            if not self.image.leased:
                self.claim(0)
            self.poll(passed, late, {**read, **said}, marked)

    def poll(self, passed: int, late: int, found: dict[str, float | str], marked: dict[str, str]) -> None:
        document = self.block(passed, late)
        document["sections"] = [section("T", found, marked)]
        if any(map(is_text, [*found, *marked])):
            document["sections"].append(section("X", found, marked))
        became = self.send(document)
        self.image.begin(document["now_ms"])
        assert became == self.image.block(document["epoch"], document["seq"])
        if became == "taken":
            self.image.poll(document["at_ms"], found, marked)
            self.last = document

    @rule(
        passed=passing,
        found=st.lists(st.tuples(points, st.sampled_from([0, 300, 900, 2500]), values), min_size=1, max_size=3),
    )
    def report_events(self, passed: int, found: list[tuple[str, int, float]]) -> None:
        document = self.block(passed, 0)
        events = [(point, document["now_ms"] - ago, value) for point, ago, value in found]
        document["origin"] = "event"
        document["events"] = [["T", point, at, format_value(value), ""] for point, at, value in events]
        became = self.send(document)
        self.image.begin(document["now_ms"])
        assert became == self.image.block(document["epoch"], document["seq"])
        if became == "taken":
            self.image.events(events)

    @precondition(lambda self: self.last is not None)
    @rule()
    def send_again(self) -> None:
        assert self.last is not None
        assert self.send(self.last) == "repeat"
        self.image.begin(self.last["now_ms"])

    def send_from_an_old_epoch(self, passed: int) -> None:
        document = self.block(passed, 0) | {"epoch": self.image.epoch - 1}
        assert self.send(document) == "CONFLICT"
        self.image.begin(document["now_ms"])

    @rule(passed=passing)
    def tick(self, passed: int) -> None:
        now = self.image.now + passed
        assert self.call("voltage_tick", None, {"now_ms": now})["now_ms"] == now
        self.image.begin(now)

    def release(self, passed: int) -> None:
        now = self.image.now + passed
        reply = self.call("channel_release", "1001", {"epoch": self.image.epoch, "now_ms": now})
        self.image.begin(now)
        assert isinstance(reply, dict)
        if self.image.leased:
            self.image.lapse(now)

    @rule(name=st.sampled_from(RULES), document=documents)
    def put_rule(self, name: str, document: dict[str, Any]) -> None:
        # A rule stored as it is already changes nothing.
        self.named += 1
        document = {**document, "name": str(self.named)}
        stored = self.call("rule_upsert", name, document)
        assert document.items() <= stored.items()
        self.image.begin(self.image.now)
        self.image.put_rule(name, document)

    @rule(name=st.sampled_from(RULES))
    def delete_rule(self, name: str) -> None:
        found = self.call("rule_delete", name, {})
        if name in self.image.rules:
            assert found == {"deleted": name}
            self.image.begin(self.image.now)
            self.image.drop_rule(name)
        else:
            assert found == "NOTFOUND"

    @precondition(lambda self: bool(self.image.alarms))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.image.alarms)))
        alarm = next(item for item in self.open_alarms() if item["rule"] == name)
        self.connection.call("FCALL", "acknowledge_alarm", 1, alarm["id"], "ann")
        self.image.begin(self.image.now)
        self.image.acknowledge(name)

    def forget_what_is_compiled(self) -> None:
        self.connection.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)

    @rule(
        passed=passing, what=st.sampled_from(["claim", "release", "send_from_an_old_epoch", "forget_what_is_compiled"])
    )
    def shake(self, passed: int, what: str) -> None:
        if what == "forget_what_is_compiled":
            self.forget_what_is_compiled()
        else:
            getattr(self, what)(passed)

    def hash(self, key: str) -> dict[str, str]:
        flat = self.connection.call("HGETALL", key)
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def open_alarms(self) -> list[dict[str, Any]]:
        reply = orjson.loads(self.connection.call("FCALL_RO", "get_active_alarms", 0))
        return list(reply["items"])

    @invariant()
    def image_is_the_same(self) -> None:
        for kind in ("T", "text"):
            expected = {
                name.removeprefix("x"): point
                for name, point in self.image.points.items()
                if is_text(name) is (kind == "text")
            }
            assert self.hash(f"comsrv:1001:{kind}") == {
                name: point.value if isinstance(point.value, str) else format_value(point.value)
                for name, point in expected.items()
                if point.value is not None
            }
            assert self.hash(f"comsrv:1001:{kind}:ts") == {name: str(point.at) for name, point in expected.items()}
            assert self.hash(f"comsrv:1001:{kind}:q") == {
                name: point.quality for name, point in expected.items() if point.quality
            }

    @invariant()
    def rules_are_the_same(self) -> None:
        entries = self.connection.call("XRANGE", "rulesrv:firings", "-", "+")
        fields = [{f[i].decode(): f[i + 1].decode() for i in range(0, len(f), 2)} for _, f in entries]
        assert [(f["rule"], f["event"], int(f["at_ms"])) for f in fields] == self.image.firings
        for name, each in self.image.rules.items():
            stats = orjson.loads(self.connection.call("FCALL_RO", "rule_stats", 1, name))
            assert (stats["result"], stats["active"], stats["count"]) == (each.truth, each.active, each.count)

    @invariant()
    def alarms_are_the_same(self) -> None:
        found = {a["rule"]: (a["status"], a["count"], a.get("uncertain", False)) for a in self.open_alarms()}
        assert found == {name: (a.status, a.count, a.uncertain) for name, a in self.image.alarms.items()}

    @invariant()
    def timers_and_counters_are_the_same(self) -> None:
        flat = self.connection.call("ZRANGE", "voltage:timers", 0, -1, "WITHSCORES")
        assert {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)} == self.image.timers
        ledger = self.hash("voltage:ledger")
        assert int(ledger.get("stored", 0)) == self.image.stored
        assert int(ledger.get("queued", 0)) == self.image.queued


@pytest.mark.parametrize("examples", [100])
def test_the_functions_do_what_the_design_says(redis_server: RedisServer, examples: int) -> None:
    with Connection(redis_server.url) as connection:
        connection.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)

        class Machine(ProcessImage):
            pass

        Machine.connection = connection
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                # Shrinking calls over sockets takes minutes; the steps that failed are printed as they are.
                phases=[Phase.explicit, Phase.generate],
            ),
        )
