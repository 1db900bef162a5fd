"""Whatever the sequence of calls, alarms are as the plain-Python oracle says, and no index is stale.

The oracle is written from DESIGN.md section 4, not from the Lua.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from libs.errors import StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT, check_indexes
from tests.support.site import Site


class Oracle:
    """One definition on one point: the alarms it raised, newest last."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self.ack_required = True
        self.value: float | None = None
        self.good = False
        self.standing = False
        self.alarms: list[dict[str, Any]] = []

    @property
    def open(self) -> dict[str, Any] | None:
        return self.alarms[-1] if self.alarms and self.alarms[-1]["status"] != "Resolved" else None

    def truth(self) -> bool | None:
        return None if self.limit is None or self.value is None or not self.good else self.value > self.limit

    def follow(self) -> None:
        truth = self.truth()
        if truth and not self.standing:
            self.standing = True
            if self.open:
                self.open["count"] += 1
                self.open["status"] = "New" if self.open["status"] == "Returned" else self.open["status"]
            else:
                self.alarms.append({"status": "New", "count": 1, "ack": self.ack_required})
        elif truth is False and self.standing:
            self.end()

    def end(self) -> None:
        self.standing = False
        alarm = self.open
        assert alarm, "a condition that stands has an open alarm"
        alarm["status"] = "Returned" if alarm["ack"] and alarm["status"] == "New" else "Resolved"

    def put(self, value: float) -> None:
        self.value, self.good = value, True
        self.follow()

    def bad(self) -> None:
        self.good = False

    def define(self, limit: float, ack_required: bool) -> None:
        self.limit, self.ack_required = limit, ack_required
        if self.standing and self.open:
            self.open["ack"] = ack_required
        self.follow()

    def delete(self) -> None:
        self.limit = None
        if self.standing:
            self.end()

    def acknowledge(self) -> None:
        if self.open:
            self.open["status"] = "Resolved" if self.open["status"] == "Returned" else "Acknowledged"

    def resolve(self) -> None:
        if self.open and not self.standing:
            self.open["status"] = "Resolved"


LIMITS = st.sampled_from([50.0, 80.0])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from([10.0, 60.0, 90.0])),
    st.tuples(st.just("bad")),
    st.tuples(st.just("define"), LIMITS, st.booleans()),
    st.tuples(st.just("delete")),
    st.tuples(st.just("acknowledge")),
    st.tuples(st.just("resolve")),
    st.tuples(st.just("shelve")),
    st.tuples(st.just("tick")),
    st.tuples(st.just("cleanup")),
)


async def carry_out(site: Site, alarm: str | None, operation: tuple[Any, ...]) -> None:
    """Do to Redis what the oracle does in Python."""
    call, (name, *arguments) = site.functions.call, operation
    site.now += 10
    if name == "put":
        await site.put({1: arguments[0]})
    elif name == "bad":
        await site.put({}, {1: "bad:timeout"})
    elif name == "define":
        await call("alarm_define", "hot", {**HOT, "limit": arguments[0], "ack_required": arguments[1]}, site.now)
    elif name == "delete" and await execute(site.functions.client, "EXISTS", "alarmsrv:definition:hot"):
        await call("alarm_definition_delete", "hot", site.now)
    elif name == "tick":
        await site.pass_ms(10)
    elif name == "cleanup":
        await call("cleanup_old_alarms", None, {"days": 1, "now_ms": site.now})
    elif alarm and name == "shelve":
        await call("alarm_shelve", alarm, {"duration_ms": 15, "now_ms": site.now})
    elif alarm and name in ("acknowledge", "resolve"):
        await call(f"{name}_alarm", alarm, "anna", site.now)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, max_size=25))
async def test_any_sequence(functions: Functions, operations: list[tuple[Any, ...]]) -> None:
    await execute(functions.client, "FLUSHALL")
    site, oracle = await Site(functions).start(), Oracle()
    for operation in operations:
        found = await site.alarms(open=True)
        try:
            await carry_out(site, found[0]["id"] if found else None, operation)
        except StateError:
            assert operation == ("resolve",)
            assert oracle.standing
        if action := getattr(oracle, operation[0], None):
            action(*operation[1:])
        alarms = [(alarm["status"], alarm["count"]) for alarm in reversed(await site.alarms())]
        assert alarms == [(alarm["status"], alarm["count"]) for alarm in oracle.alarms]
        await check_indexes(site)
