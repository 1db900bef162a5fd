"""Whatever the sequence of values, times and deeds, every key of alarmsrv is as the plain-Python oracle says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from libs.definitions import said_of
from libs.errors import StateError, VoltageError
from libs.redis import bundle, library
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.oracles.alarms import GROUP, Alarms, RefusedError
from tests.support.site import START, Site

NAMES = ("hot", "warm")
JOURNALED = ("number", "at_ms", "alarm", "event", "status", "level", "origin", "user", "value", "quality")
VALUES = st.sampled_from([10.0, 60.0, 90.0])
DELAYS = st.sampled_from([0, 0, 700])
DOCUMENTS = st.fixed_dictionaries(
    {
        "limit": st.sampled_from([50, 80]),
        "deadband": st.sampled_from([None, 25]),
        "level": st.sampled_from(["Critical", "Major", "Warning", "Info"]),
        "on_delay_ms": DELAYS,
        "off_delay_ms": DELAYS,
        "latching": st.booleans(),
        "group": st.sampled_from([None, GROUP]),
        "realarm_ms": st.sampled_from([None, None, 1500]),
    }
)
WHICH = st.sampled_from(NAMES)
# Whom a deed is about: an alarm by its age, newest first; or a name.
TARGETS = st.one_of(st.integers(0, 3), st.sampled_from(["alarm:hot", "alarm:warm"]))
GROUPS = st.one_of(TARGETS, st.just(f"group:{GROUP}"))
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), WHICH, VALUES, st.sampled_from(["", "", "", "bad:sentinel"])),
    st.tuples(st.just("put"), WHICH, VALUES, st.just("")),
    st.tuples(st.just("put"), WHICH, st.none(), st.just("bad:timeout")),
    st.tuples(st.just("define"), WHICH, DOCUMENTS),
    st.tuples(st.just("delete"), WHICH),
    st.tuples(st.just("acknowledge"), st.integers(0, 3)),
    st.tuples(st.just("resolve"), st.integers(0, 3)),
    st.tuples(st.just("shelve"), TARGETS, st.sampled_from([600, 2500, None])),
    st.tuples(st.just("end_shelving"), TARGETS),
    st.tuples(st.just("suppress"), GROUPS, st.booleans()),
    st.tuples(st.just("service"), GROUPS, st.booleans()),
    st.tuples(st.just("tick"), st.sampled_from([1, 300, 1200, 4000])),
    st.tuples(st.just("restart")),
)


class Pair:
    """The functions and the oracle, side by side."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.site = Site(functions)
        self.oracle = Alarms(now=START)
        self.ids: list[str] = []

    async def both(self, operation: tuple[Any, ...]) -> None:
        """Do the same to both; both refuse, or neither does."""
        name, *arguments = operation
        self.site.now += 7
        if name == "tick":
            self.site.now += arguments[0]
        self.oracle.begin(self.site.now)
        # The timers that are due fire, whatever is then asked for.
        await self.functions.call("voltage_tick", None, {"now_ms": self.site.now})
        await self.learn()
        if name == "tick":
            return
        if name == "restart":
            # What is compiled is read anew.
            await execute(self.functions.client, "DEL", "voltage:generation")
            return
        refused = False
        try:
            known = await getattr(self, f"do_{name}")(*arguments)
        except StateError:
            known, refused = True, True
        if not known:
            return
        try:
            self.told(name, *arguments)
        except RefusedError:
            assert refused, f"the oracle refuses {operation}"
        else:
            assert not refused, f"{operation} was refused"
        self.oracle.finish()

    async def learn(self) -> None:
        """Learn the ids of alarms that were raised."""
        entries = await self.site.entries("alarmsrv:journal")
        self.ids = [entry["alarm"] for entry in entries if entry["event"] == "raised"]

    def meant(self, target: int | str, ids: list[str]) -> str | None:
        """Return the id or name of a target; None where there is no such alarm or definition."""
        if isinstance(target, int):
            return ids[-1 - target] if target < len(ids) else None
        kind, name = target.split(":")
        return target if kind == "group" or name in self.oracle.definitions else None

    # ------------------------------------------------------------ to Redis

    async def do_put(self, which: str, value: float | None, quality: str) -> bool:
        point = NAMES.index(which) + 1
        await self.site.put({} if value is None else {point: value}, {point: quality} if quality else None)
        return True

    async def do_define(self, which: str, document: dict[str, Any]) -> bool:
        await self.functions.call("alarm_define", which, self.document(which, document), self.site.now)
        return True

    def document(self, which: str, document: dict[str, Any]) -> dict[str, Any]:
        event = document["level"] == "Info"
        said = {name: value for name, value in document.items() if value is not None}
        for name in ("latching", "realarm_ms") if event else ():
            said.pop(name, None)
        point = NAMES.index(which) + 1
        return {**said, "source": f"comsrv:1001:T:{point}", "detector": "Hi", "message": f"{which} {said['limit']}"}

    async def do_delete(self, which: str) -> bool:
        if which in self.oracle.definitions:
            await self.functions.call("alarm_definition_delete", which, self.site.now)
        return which in self.oracle.definitions

    async def do_acknowledge(self, target: int) -> bool:
        return await self.act("acknowledge_alarm", target)

    async def do_resolve(self, target: int) -> bool:
        return await self.act("resolve_alarm", target)

    async def act(self, function: str, target: int) -> bool:
        alarm = self.meant(target, self.ids)
        if alarm:
            await self.functions.call(function, alarm, "anna", self.site.now)
        return alarm is not None

    async def operate(self, function: str, target: int | str, **more: Any) -> bool:
        name = self.meant(target, self.ids)
        if name:
            await self.functions.call(function, name, {"by": "anna", "now_ms": self.site.now, **more})
        return name is not None

    async def do_shelve(self, target: int | str, duration: int | None) -> bool:
        how = {"one_shot": True} if duration is None else {"duration_ms": duration}
        return await self.operate("alarm_shelve", target, **how)

    async def do_end_shelving(self, target: int | str) -> bool:
        return await self.operate("alarm_unshelve", target)

    async def do_suppress(self, target: int | str, on: bool) -> bool:
        return await self.operate("alarm_suppress" if on else "alarm_unsuppress", target)

    async def do_service(self, target: int | str, on: bool) -> bool:
        return await self.operate("alarm_out_of_service", target, in_service=not on)

    # ------------------------------------------------------------ to the oracle

    def told(self, name: str, *arguments: Any) -> None:
        """Do the same to the oracle, whose alarms are numbers."""
        oracle = self.oracle
        if name == "put":
            return oracle.put(NAMES.index(arguments[0]) + 1, *arguments[1:])
        if name == "define":
            point = NAMES.index(arguments[0]) + 1
            return oracle.define(arguments[0], point, self.document(*arguments))
        if name == "delete":
            return oracle.delete(arguments[0])
        target = self.meant(arguments[0], [alarm["id"] for alarm in oracle.alarms])
        assert target is not None
        if name in {"suppress", "service"}:
            kind = "suppressed" if name == "suppress" else "out_of_service"
            return oracle.mark(kind, target, on=arguments[1])
        return getattr(oracle, name)(target, *arguments[1:])  # type: ignore[no-any-return]

    # ------------------------------------------------------------ the whole keyspace

    async def compare(self) -> None:
        """Compare every key."""
        await self.learn()
        found, names = {}, {actual: str(number) for number, actual in enumerate(self.ids)}
        for key in await execute(self.functions.client, "KEYS", "alarmsrv:*"):
            if key.endswith(b":state"):
                # Holds, which the timers tell.
                assert key.decode().split(":")[2] in self.oracle.definitions
                continue
            found[key.decode()] = await self.content(key.decode(), names)
        assert renamed(found, names) == self.expected()
        timers = await execute(self.functions.client, "ZRANGE", "voltage:timers", 0, -1)
        assert {
            rename(timer.decode(), names): int(await execute(self.functions.client, "ZSCORE", "voltage:timers", timer))
            for timer in timers
            if not timer.startswith(b"lease")
        } == {expected_timer(kind, name): at for (kind, name), at in self.oracle.timers.items()}

    async def content(self, key: str, names: dict[str, str]) -> Any:
        """Return a key's content with the oracle's numbers in place of ids."""
        client = self.functions.client
        kind = (await execute(client, "TYPE", key)).decode()
        if kind == "hash":
            return self.of_hash(
                key, {name: names.get(value, value) for name, value in (await self.site.hash(key)).items()}
            )
        if kind == "set":
            return {names.get(name, name) for name in await self.site.members(key)}
        if kind == "zset":
            members = await execute(client, "ZRANGE", key, 0, -1)
            return {names[name.decode()]: int(await execute(client, "ZSCORE", key, name)) for name in members}
        if kind == "stream":
            return [
                {name: names.get(entry[name], entry[name]) if name == "alarm" else entry[name] for name in JOURNALED}
                for entry in await self.site.entries(key)
            ]
        return said_of(orjson.loads(await execute(client, "GET", key)))

    def of_hash(self, key: str, content: dict[str, str]) -> Any:
        """Return of a hash what the oracle knows."""
        if key == "alarmsrv:marks":
            return {name: orjson.loads(value) | {"at_ms": 0} for name, value in content.items()}
        if key == "alarmsrv:alarms:counts":
            return {level: count for level, count in content.items() if count != "0"}
        if key == "alarmsrv:journal:head":
            return content["number"], content.get("newest", "")
        if key.startswith("alarmsrv:alarm:"):
            content.pop("version", None)
        return content

    def expected_counts(self) -> dict[str, Any]:
        """Return which alarms are quiet, and how many of each level are open."""
        alarms, keys = self.oracle.alarms, {}
        for why in ("shelved", "suppressed", "out_of_service"):
            if quiet := {alarm["id"] for alarm in alarms if f"{why}_by" in alarm}:
                keys[f"alarmsrv:alarms:quiet:{why}"] = quiet
        still = Counter(alarm["level"] for alarm in alarms if alarm["status"] != "Resolved")
        return keys | ({"alarmsrv:alarms:counts": {name: str(n) for name, n in still.items()}} if alarms else {})

    def expected(self) -> dict[str, Any]:
        """Return what the oracle says stands in Redis, key by key."""
        oracle = self.oracle
        keys = self.expected_counts()
        for alarm in oracle.alarms:
            keys[f"alarmsrv:alarm:{alarm['id']}"] = alarm
            created = int(alarm["created_at_ms"])
            keys.setdefault(f"alarmsrv:alarms:in:{alarm['status']}", {})[alarm["id"]] = created
            keys.setdefault(f"alarmsrv:alarms:by_level:{alarm['level']}", set()).add(alarm["id"])
            keys.setdefault(f"alarmsrv:alarms:by_source:{alarm['source']}", set()).add(alarm["id"])
            if alarm["status"] == "Resolved":
                keys.setdefault("alarmsrv:alarms:resolved", {})[alarm["id"]] = int(alarm["resolved_at_ms"])
            else:
                keys.setdefault("alarmsrv:alarms:active", set()).add(alarm["id"])
                keys.setdefault("alarmsrv:alarms:open", {})[alarm["origin"]] = alarm["id"]
        if oracle.in_group():
            keys[f"alarmsrv:alarms:by_group:{GROUP}"] = oracle.in_group()
            keys["alarmsrv:alarms:first_outs"] = {GROUP: oracle.first_out}
        for (kind, name), mark in oracle.marks.items():
            keys.setdefault("alarmsrv:marks", {})[f"{kind}|{name}|hand"] = mark | {"at_ms": 0}
        for definition in oracle.definitions.values():
            keys[f"alarmsrv:definition:{definition.name}"] = {**definition.document, "id": definition.name}
            keys.setdefault("alarmsrv:definitions", set()).add(definition.name)
            unknown = "?"
            if definition.get("deadband") and not definition.get("on_delay_ms"):
                unknown = "+" if definition.on else "-"
            condition = {None: unknown, True: "1", False: "0"}[definition.truth] + ("1" if definition.active else "0")
            if condition not in {"?0", "-0"}:
                keys.setdefault("alarmsrv:conditions", {})[definition.name] = condition
        if oracle.journal:
            keys["alarmsrv:journal"] = oracle.journal
            keys["alarmsrv:journal:head"] = str(len(oracle.journal)), ",".join(map(str, oracle.asked[-11:]))
        return keys


def expected_timer(kind: str, name: str) -> str:
    """Return the timer's name in Redis."""
    return f"{kind}|" + {"hold": f"alarm:{name}#1", "off": f"alarm:{name}"}.get(kind, name)


def rename(timer: str, names: dict[str, str]) -> str:
    kind, _, name = timer.partition("|")
    return f"{kind}|{names.get(name, name)}"


def renamed(found: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return the keys with numbers in place of ids; a state that says nothing is none."""
    prefix = "alarmsrv:alarm:"
    return {
        prefix + names[key.removeprefix(prefix)] if key.startswith(prefix) else key: content
        for key, content in found.items()
        if not (key.endswith(":state") and content == ("?", "0"))
    }


PLAIN: dict[str, Any] = {
    "limit": 50, "deadband": None, "level": "Major", "on_delay_ms": 0, "off_delay_ms": 0, "latching": False,
    "group": GROUP, "realarm_ms": None,
}  # fmt: skip
BEGIN = [("put", name, 90.0, "") for name in NAMES]
TURN = [("put", "hot", 10.0, ""), ("put", "hot", 90.0, "")]
# More than ten alarms in ten minutes, a few after that, and twenty minutes without one.
FLOOD = [
    *TURN * 11,
    ("tick", 300_000),
    *TURN * 5,
    ("tick", 300_000),
    ("acknowledge", 0),
    ("resolve", 0),
    *TURN,
    ("tick", 1_200_000),
]
# One of each deed, on what stands and on what has returned.
DEEDS = [
    ("shelve", 0, 2500), ("acknowledge", 0), ("end_shelving", 0), ("suppress", "group:g", True), *TURN,
    ("suppress", "group:g", False), ("service", "alarm:hot", True), ("put", "hot", 10.0, ""), ("acknowledge", 1),
    ("service", "alarm:hot", False), *TURN, ("shelve", "alarm:hot", 600), ("tick", 1200),
    ("put", "hot", None, "bad:timeout"), ("put", "hot", 90.0, ""), ("acknowledge", 0), ("put", "hot", 10.0, ""),
    ("define", "warm", {**PLAIN, "level": "Warning"}), ("delete", "warm"),
]  # fmt: skip

# Within one tick a condition ends, begins anew and moves the re-alarm that was due in it.
MOVED = {**PLAIN, "on_delay_ms": 700, "off_delay_ms": 700, "latching": True, "realarm_ms": 1500}
# Between limit and deadband: what it says depends on where it was before, also over a restart while it was unknown.
STICKY = {**PLAIN, "limit": 80, "deadband": 25}
STICKING = [
    ("put", "hot", 60.0, ""), ("restart",), ("put", "hot", None, "bad:timeout"), ("restart",), ("put", "hot", 60.0, ""),
    ("put", "hot", 10.0, ""), ("put", "hot", 60.0, ""), ("put", "hot", None, "bad:timeout"), ("restart",),
    ("put", "hot", 60.0, ""), ("put", "hot", 90.0, ""), ("define", "hot", {**STICKY, "deadband": None}),
    ("put", "hot", 60.0, ""), ("define", "hot", STICKY), ("put", "hot", 90.0, ""),
    ("define", "hot", {**STICKY, "limit": 90}), ("restart",), ("put", "hot", 60.0, ""), ("put", "hot", 10.0, ""),
    ("put", "hot", None, "bad:timeout"), ("restart",), ("put", "hot", 60.0, ""),
]  # fmt: skip
MOVING = [("tick", 1000), ("put", "warm", 10.0, ""), ("put", "warm", 90.0, ""), ("tick", 2000)]


async def run(functions: Functions, documents: tuple[dict[str, Any], ...], operations: list[tuple[Any, ...]]) -> None:
    """Do the same to both, and compare every key after each step."""
    await execute(functions.client, "FLUSHALL")
    pair = Pair(functions)
    await pair.site.start()
    begin = [("define", name, document) for name, document in zip(NAMES, documents, strict=True)]
    for operation in (*begin, *BEGIN, *operations):
        await pair.both(operation)
        await pair.compare()


async def fixed(functions: Functions) -> None:
    """Take the two known sequences."""
    await run(functions, (PLAIN, PLAIN), FLOOD)
    await run(functions, (PLAIN, PLAIN), DEEDS)
    await run(functions, (PLAIN, MOVED), MOVING)
    await run(functions, (STICKY, PLAIN), STICKING)


async def test_a_flood_and_every_deed(functions: Functions) -> None:
    await fixed(functions)


# What a mistake in the functions might be: each must be noticed by the comparison.
MISTAKES = {
    "an index keeps a member": ("writes.member(keys.alarms_active(ns), alarm.id, false)", ""),
    "an index lacks a member": ("writes.score(keys.alarms_resolved(ns), alarm.id, alarm.resolved_at_ms)", ""),
    "a count is not taken back": ("writes.count(keys.alarms_counts(ns), alarm.level, -1)", ""),
    "what is quiet is in no index": ("alarm[field] ~= nil)", "nil)"),
    "the instant is another": ("returned_at_ms = numbers.whole(at)", "returned_at_ms = numbers.whole(at + 1)"),
    "the chain's number": ("(tonumber(head.number) or 0) + 1", "(tonumber(head.number) or 0) + 2"),
    "the group has no first-out": ('alarm.first_out = "1"', ""),
    "a shelving never ends": ("shelve = alarms.shelve_over", "shelve = nil"),
    "a flood begins too late": ("FLOOD_BEGINS = 10", "FLOOD_BEGINS = 11"),
    "a flood ends too early": ("ENDS_BELOW = 5", "ENDS_BELOW = 6"),
    "a deadband is forgotten": ('(watcher.only.on and "+" or "-")', '"-"'),
    "unknown ends an alarm": (
        "elseif truth == false and watcher.active then",
        "elseif not truth and watcher.active then",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_the_comparison_notices_a_mistake(functions: Functions, mistake: str) -> None:
    right, wrong = MISTAKES[mistake]
    text = bundle.bundle().text
    assert text.count(right) == 1
    try:
        await execute(functions.client, "FUNCTION", "LOAD", "REPLACE", text.replace(right, wrong))
        with pytest.raises((AssertionError, VoltageError)):
            await fixed(functions)
    finally:
        await library.load(functions.client)


# Shrinking calls over sockets takes minutes; the steps that failed are printed as they are.
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    documents=st.tuples(DOCUMENTS, DOCUMENTS),
    first=st.lists(OPERATIONS, min_size=12, max_size=20),
    then=st.lists(OPERATIONS, min_size=12, max_size=20),
)
async def test_any_sequence(
    functions: Functions,
    documents: tuple[dict[str, Any], ...],
    first: list[tuple[Any, ...]],
    then: list[tuple[Any, ...]],
) -> None:
    await run(functions, documents, [*first, *then])
