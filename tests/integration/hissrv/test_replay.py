"""What was recorded is replayed: the same journals, byte for byte; with a rule changed, exactly the differences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from libs.redis.functions import Functions
from services.hissrv.replay.compare import Comparison, Difference
from services.hissrv.replay.keeper import Keeper, Options
from services.hissrv.replay.run import Change, Replay
from services.supervisor.redis_server import Binary
from tests.support.servers import RedisServer
from tests.support.site import START
from tests.support.story import Story, rule

FOREVER = 1 << 50


class Kept:
    """A site whose log is kept."""

    def __init__(self, functions: Functions, server: RedisServer, folder: Path) -> None:
        self.functions = functions
        self.server = server
        self.folder = folder
        self.keeper = Keeper(functions, server.url, folder, Options())
        self.binary = Binary(Path(server.command[0]), "7.0.0", "the test's")

    def replay(self, start_ms: int = START + 1, end_ms: int = FOREVER) -> Replay:
        return Replay(self.folder, self.binary, "", start_ms, end_ms)

    async def compared(self, change: Change | None = None) -> tuple[Replay, Comparison]:
        replay, comparison = self.replay(), Comparison(changed=change is not None)

        def run() -> None:
            for outcome in replay.run(change):
                comparison.take(outcome)

        await asyncio.to_thread(run)
        return replay, comparison


@pytest.fixture
async def kept(functions: Functions, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Kept]:
    """Give a site with a keeper, its first checkpoint at the beginning of time."""
    return Kept(functions, redis_server, tmp_path / "replay")


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
    await lived(kept, 3, 120)
    same = Change("rule_upsert", frozenset({"rule_upsert", "rule_delete"}), "r1", orjson.dumps(rule(1)))
    assert (await kept.compared(same))[1].total == 0
    never = Change(same.function, same.ignored, "r1", orjson.dumps(rule(1, 1000)))
    _, comparison = await kept.compared(never)
    found = comparison.differences()
    assert found
    assert {one.only for one in found} == {"live"}
    assert {one.fields.get("rule") or one.fields.get("origin") for one in found} == {"r1", "rule:r1#1"}
