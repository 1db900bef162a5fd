"""What was recorded is replayed: the same journals, byte for byte; with a rule changed, exactly the differences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.errors import InvalidError, NotFoundError
from libs.redis import keys
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.server import Binary
from services.hissrv.jobs import Cancelled
from services.hissrv.references import References
from services.hissrv.replay.compare import Comparison, Difference
from services.hissrv.replay.history import History
from services.hissrv.replay.keeper import Keeper, Options
from services.hissrv.replay.replays import Replays
from services.hissrv.replay.run import Replay
from services.hissrv.replay.span import Change
from services.hissrv.store.embedded import EmbeddedStore
from tests.support.disks import SmallDisk
from tests.support.servers import RedisServer
from tests.support.site import START, Site
from tests.support.story import Story, definition, rule

FOREVER = 1 << 50


class Kept:
    """A site whose log is kept."""

    def __init__(self, functions: Functions, server: RedisServer, folder: Path) -> None:
        self.functions = functions
        self.server = server
        self.folder = folder
        self.disk: SmallDisk | None = None
        self.store = EmbeddedStore(folder.with_name("history"))
        self.keeper = Keeper(functions, server.url, folder, Options())
        self.binary = Binary(Path(server.command[0]), "7.0.0", "the test's")

    def replay(self, start_ms: int = START + 1, end_ms: int = FOREVER) -> Replay:
        return Replay(self.folder, self.binary, "", start_ms, end_ms)

    def replays(self) -> Replays:
        """Return what performs them."""
        found = History(self.store, References(self.functions))
        return Replays(self.functions, self.server.url, found, self.folder, "", memory_bytes=1 << 30, server=None)

    async def firings(self, name: str, event: str) -> list[dict[str, int]]:
        """Return what a rule did, as the journal has it."""
        entries = await execute(self.functions.client, "XRANGE", keys.key("firings"), "-", "+")
        found = [fields for _, fields in entries]
        return [
            {"at_ms": int(one[b"at_ms"])}
            for one in found
            if (one[b"rule"], one[b"event"]) == (name.encode(), event.encode())
        ]

    async def compared(self, change: Change | None = None) -> tuple[Replay, Comparison]:
        replay, comparison = self.replay(), Comparison(changed=change is not None)

        def run() -> None:
            for outcome in replay.run(change):
                comparison.take(outcome)

        await asyncio.to_thread(run)
        return replay, comparison


@pytest.fixture
async def kept(functions: Functions, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Kept]:
    """Give a site with a keeper, its first checkpoint at the beginning of time; its history is empty."""
    made = Kept(functions, redis_server, tmp_path / "replay")
    await made.store.open()
    yield made
    await made.store.close()


async def lived(kept: Kept, seed: int, steps: int) -> Story:
    story = Story(kept.functions, seed)
    await story.begin()
    await kept.keeper.turn(now=True)
    for _ in range(4):
        await story.live(steps // 4)
        await kept.keeper.turn(now=True)
    return story


def said(found: list[Difference]) -> list[str]:
    return [f"{one.only} {one.at_ms}: {one.said()}" for one in found]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_day_is_replayed_byte_for_byte(kept: Kept, seed: int) -> None:
    story = await lived(kept, seed, 200)
    live = len(await story.site.entries("alarmsrv:journal"))
    replay, comparison = await kept.compared()
    assert said(comparison.differences()) == []
    assert replay.exact, replay.reasons
    assert 200 < comparison.by_journal["alarmsrv:journal"] <= live
    assert comparison.by_journal["rulesrv:firings"] > 100
    assert comparison.by_journal["comsrv:journal"] > 10


async def test_with_a_rule_changed_the_report_names_exactly_the_differences(kept: Kept) -> None:
    """The rule did not fire, its alarm was not raised, and so there was none to acknowledge."""
    await lived(kept, 8, 36)
    same = Change("rule_upsert", "rule", "r8", orjson.dumps(rule(8)))
    assert (await kept.compared(same))[1].total == 0
    never = Change("rule_upsert", "rule", "r8", orjson.dumps(rule(8, 1000)))
    found = (await kept.compared(never))[1].differences()
    assert {one.fields.get("rule") or one.fields.get("origin") for one in found} == {"r8", "rule:r8#1", None}
    assert [(one.only, one.fields.get("event") or one.fields["problem"][:8]) for one in found] == [
        ("live", "raised"), ("live", "fired"), ("replay", "NOTFOUND"), ("live", "acknowledged"),
    ]  # fmt: skip


def raising(name: str, priority: int, *, commands: bool = False) -> dict[str, Any]:
    actions: list[dict[str, Any]] = [{"type": "create_alarm", "params": {"title": name, "level": "Major"}}]
    if commands:
        point = 1 if priority > 5 else 2
        actions.append({"type": "command", "params": {"channel": 1001, "type": "A", "point": point, "value": 5}})
    leaf = {"source": "comsrv:1001:T:1", "operator": ">", "value": 10}
    return {"name": name, "conditions": [leaf], "actions": actions, "priority": priority}


async def test_what_operators_did_to_another_alarm_of_the_same_call_is_done_to_that_one_again(kept: Kept) -> None:
    """Its id is another where the first one's alarm is not raised, and so is that of its command."""
    site = await Site(kept.functions).start()
    for name, priority in (("first", 9), ("other", 1)):
        await kept.functions.call("rule_upsert", name, raising(name, priority, commands=True))
    await kept.keeper.turn(now=True)
    for value in (50, 5):
        site.now += 1000
        await site.put({1: value})
    (ids,) = [{one["title"]: one["id"] for one in await site.alarms()}]
    assert ids["other"].endswith("-2"), ids
    await kept.functions.call(
        "acknowledge_alarms_batch", None, {"ids": [ids["other"]], "by": "anna", "now_ms": site.now}
    )
    asked = {"epoch": site.epoch, "now_ms": site.now}
    (sent,) = await kept.functions.json("command_claim", 1001, {**asked, "points": ["A:2"]})
    assert sent["id"].endswith("-2")
    await kept.functions.call("command_complete", 1001, {**asked, "id": sent["id"], "state": "rejected"})
    site.now += 1000
    await site.put({1: 50})
    again = {one["title"]: one["id"] for one in await site.alarms() if one["status"] == "New"}
    await kept.functions.call("acknowledge_alarm", again["other"], "anna", str(site.now))
    await kept.keeper.turn(now=True)
    never = raising("first", 9) | {"conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1000}]}
    found = (await kept.compared(Change("rule_upsert", "rule", "first", orjson.dumps(never))))[1].differences()
    assert found
    assert [one.said() for one in found if "first" not in orjson.dumps(one.fields).decode()] == []


async def performed(kept: Kept, **body: Any) -> dict[str, Any]:
    replays = kept.replays()

    async def progress(done: float, message: str) -> None:
        assert 0 <= done <= 1
        assert message

    asked = {"job": "j1", "start": START + 1, "end": FOREVER, **body}
    result = await replays.perform(asked, progress)
    report: dict[str, Any] = orjson.loads((await replays.report("j1")).read_bytes())
    assert report["different"] == result["different"]
    return report


async def test_a_backtest_says_what_a_rule_did_and_would_have_done(kept: Kept) -> None:
    """A rule with a lower limit fires where it did, and more; what its alarm does is in the differences."""
    await lived(kept, 4, 120)
    live = [one["at_ms"] for one in await kept.firings("r1", "fired")]
    same = await performed(kept, of="rule", definition={"id": "r1", **rule(1)})
    assert [one["at_ms"] for one in same["events"] if one["event"] == "fired"] == live
    assert {one["in"] for one in same["events"]} == {"both"}
    assert same["totals"]["then"] == same["totals"]["now"]
    assert all(one["until_ms"] - one["at_ms"] == one["duration_ms"] for one in same["events"] if one.get("until_ms"))
    assert (same["different"], same["exact"]) == (0, True)
    lower = await performed(kept, of="rule", definition={"id": "r1", **rule(1, 30)})
    assert lower["totals"]["now"]["lasted_ms"] > lower["totals"]["then"]["lasted_ms"]
    assert {"now", "then"} & {one["in"] for one in lower["events"]}
    assert lower["different"] > 0


async def test_a_backtest_of_an_alarm_definition(kept: Kept) -> None:
    await lived(kept, 5, 120)
    same = await performed(kept, of="alarm", definition={"id": "d0", **definition(0)})
    assert same["different"] == 0
    assert same["totals"]["now"]["events"]["raised"] >= 1
    never = await performed(kept, of="alarm", definition={"id": "d0", **definition(0), "limit": 1000})
    assert never["totals"]["now"]["events"] == {}
    assert {one["in"] for one in never["events"]} == {"then"}
    with pytest.raises(InvalidError, match="limit"):
        await performed(kept, of="alarm", definition={"id": "d0", **definition(0), "limit": "high"})


async def test_what_stands_when_the_span_begins_is_said(kept: Kept) -> None:
    """A rule and an alarm that hold all the time neither begin nor end in the span, and last all of it."""
    story = await lived(kept, 4, 36)
    always = {**rule(1), "conditions": [{"source": "comsrv:1001:T:2", "operator": ">=", "value": 0}], "on_bad": "last"}
    start = (START + story.site.now) // 2
    report = await performed(kept, of="rule", definition={"id": "r1", **always}, start=start)
    first = report["events"][0]
    assert (first["in"], first["event"], first["at_ms"]) == ("now", "standing", start)
    report = await performed(kept, of="alarm", definition={"id": "d0", **definition(0), "limit": -1}, start=start)
    first = report["events"][0]
    assert (first["event"], first["at_ms"]) == ("standing", start)


async def test_there_is_no_log_of_that_time(kept: Kept) -> None:
    with pytest.raises(NotFoundError, match="neither a replay log nor history"):
        await performed(kept)
    await lived(kept, 6, 8)
    with pytest.raises(NotFoundError, match="neither a replay log nor history"):
        await performed(kept, start=1)


async def test_a_cancelled_replay_leaves_nothing(kept: Kept) -> None:
    await lived(kept, 7, 40)

    async def cancelled(_done: float, _message: str) -> None:
        raise Cancelled

    replays = kept.replays()
    with pytest.raises(Cancelled):
        await replays.perform({"job": "j1", "start": START + 1, "end": FOREVER}, cancelled)
    assert (await performed(kept))["different"] == 0
    assert list(kept.folder.glob(".run-*")) == []
