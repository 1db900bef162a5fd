"""Who may write a channel: leases, epochs, and what is left of a writer that died."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import ConflictError, InvalidError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.refusal import refused
from tests.support.site import START, Site


async def claim(site: Site, owner: str = "a", interval_ms: int = 1000, channel: int = 1002) -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.json(
        "channel_claim", channel, {"owner": owner, "interval_ms": interval_ms, "now_ms": site.now}
    )
    return found


@pytest.fixture
async def polled(functions: Functions) -> Site:
    """Give channel 1002 with a lease of three seconds and a value in each kind."""
    site = await Site(functions).start()
    site.channel = 1002
    site.epoch = (await claim(site))["epoch"]
    for kind in ("T", "S", "C", "A"):
        await site.put({1: 5}, kind=kind)
    return site


async def test_a_claim_gives_an_epoch_one_higher_and_a_lease_of_three_polls(site: Site) -> None:
    assert await claim(site) == {"epoch": 1, "lease_ms": 3000}
    assert await claim(site, interval_ms=5000) == {"epoch": 2, "lease_ms": 15_000}
    assert await claim(site, interval_ms=10) == {"epoch": 3, "lease_ms": 3000}


async def test_another_owner_waits_for_the_end_of_the_lease(site: Site) -> None:
    await claim(site, "first")
    site.now += 2999
    async with refused(site.functions, ConflictError, "channel 1002 is held by first"):
        await claim(site, "second")
    site.now += 1
    assert (await claim(site, "second"))["epoch"] == 2


@pytest.mark.parametrize("changes", [{"owner": None}, {"owner": 5}, {"interval_ms": 0}, {"interval_ms": "soon"}])
async def test_a_claim_with_a_wrong_field_is_refused(site: Site, changes: dict[str, Any]) -> None:
    async with refused(site.functions, InvalidError, next(iter(changes))):
        await site.functions.call("channel_claim", 1002, {"owner": "a", "interval_ms": 1000} | changes)


async def test_nothing_stays_good_when_its_writer_died(polled: Site) -> None:
    await polled.pass_ms(2999)
    assert await polled.hash("comsrv:1002:T:q") == {}
    await polled.pass_ms(1)
    for kind in ("T", "S", "C", "A"):
        assert await polled.hash(f"comsrv:1002:{kind}:q") == {"1": "bad:stale"}
        assert await polled.hash(f"comsrv:1002:{kind}") == {"1": "5.000000"}
    assert await polled.hash("comsrv:1002:T:ts") == {"1": str(START + 3000)}
    status = await polled.functions.read_json("comsrv_status", 1002)
    assert (status["state"], status["leased"]) == ("stale", False)
    assert [(e["what"], e["detail"]) for e in await polled.entries("voltage:events")] == [
        ("lease_lapsed", "channel 1002")
    ]


async def test_each_accepted_call_prolongs_the_lease(polled: Site) -> None:
    for _ in range(4):
        await polled.pass_ms(2000)
        await polled.put({1: 6})
    await polled.functions.call("channel_renew", 1002, {"epoch": polled.epoch, "now_ms": polled.now})
    await polled.pass_ms(2999)
    assert await polled.hash("comsrv:1002:T:q") == {}


async def test_a_lapse_marks_more_points_than_one_call_may_touch(site: Site) -> None:
    site.channel = 1002
    site.epoch = (await claim(site))["epoch"]
    for first in range(1, 2001, 500):
        await site.put(dict.fromkeys(range(first, first + 500), 1.0))
    await site.pass_ms(3000)
    for _ in range(10):
        await site.pass_ms(0)
    assert len(await site.hash("comsrv:1002:T:q")) == 2000


async def test_the_lapse_is_a_sample_in_history(polled: Site) -> None:
    before = int((await polled.hash("voltage:ledger"))["queued"])
    await polled.pass_ms(3000)
    # T and S are recorded, C and A are not.
    assert int((await polled.hash("voltage:ledger"))["queued"]) == before + 2


async def test_a_rule_on_stale_points_is_unknown_and_commands_nothing(polled: Site) -> None:
    rule = {
        "name": "cold", "conditions": [{"source": "comsrv:1002:T:1", "operator": "<", "value": 10}],
        "actions": [{"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 50}}],
    }  # fmt: skip
    await polled.pass_ms(3000)
    await polled.functions.call("rule_upsert", "cold", rule)
    evaluated = await polled.functions.read_json("rule_evaluate", "cold")
    assert evaluated["result"] is None
    assert evaluated["conditions"][0]["quality"] == "bad:stale"
    reply = await polled.functions.json("rule_trigger_action", "cold", {"now_ms": polled.now})
    assert reply["actions"][0]["problem"] == "withheld: an input is not good"
    assert await execute(polled.functions.client, "ZCARD", "comsrv:1001:queued") == 0


async def test_a_calculated_point_stays_stale_while_nobody_holds_its_channel(site: Site) -> None:
    """Whatever its inputs do meanwhile, also as they go stale themselves; a claim calculates it anew."""
    program = [["ref", "comsrv:1001:T:1"], ["num", 2], ["*"]]
    definition = {"name": "sums", "protocol": "virtual", "points": {"T": [{"id": 1, "program": program}]}}
    await site.functions.call("channel_upsert", 1002, definition)
    await claim(site)
    await site.put({1: 5})
    assert await site.hash("comsrv:1002:T") == {"1": "10.000000"}
    await site.pass_ms(3000)
    for value, quality in ((6, {}), (7, {1: "bad:timeout"}), (8, {})):
        await site.put({1: value}, quality)
        assert await site.hash("comsrv:1002:T:q") == {"1": "bad:stale"}
    await claim(site)
    assert await site.hash("comsrv:1002:T:q") == {}
    assert await site.hash("comsrv:1002:T") == {"1": "16.000000"}


async def test_release_makes_the_points_stale_at_once_and_takes_the_last_counters(polled: Site) -> None:
    document = {"epoch": polled.epoch, "now_ms": polled.now, "counters": {"polled": 7, "rejected": {"not_sent": 7}}}
    before = await polled.hash("voltage:ledger")
    await polled.functions.call("channel_release", 1002, document)
    ledger = await polled.hash("voltage:ledger")
    assert ledger["rejected:not_sent"] == "7"
    assert int(ledger["polled"]) - int(before.get("polled", 0)) == 7
    assert await polled.hash("comsrv:1002:S:q") == {"1": "bad:stale"}
    assert (await polled.functions.read_json("comsrv_status", 1002))["state"] == "stopped"
    assert (await claim(polled, "other"))["epoch"] == 2


async def test_a_process_that_paused_can_not_write_over_its_successor(polled: Site) -> None:
    old = polled.epoch
    await polled.pass_ms(60_000)
    polled.epoch = (await claim(polled, "successor"))["epoch"]
    await polled.put({1: 7})
    for name in ("channel_renew", "channel_release", "command_claim"):
        async with refused(polled.functions, ConflictError, "another comsrv took it"):
            await polled.functions.call(name, 1002, {"epoch": old, "now_ms": polled.now})
    polled.epoch = old
    async with refused(polled.functions, ConflictError):
        await polled.put({1: 8})
    assert await polled.hash("comsrv:1002:T") == {"1": "7.000000"}


async def test_renew_carries_what_went_on_unchanged(polled: Site) -> None:
    document = {
        "epoch": polled.epoch, "now_ms": polled.now, "state": "degraded", "seen": {"b": START + 7},
        "units": {"1": {"state": "down"}}, "counters": {"polled": 3, "unchanged": 3},
    }  # fmt: skip
    reply = await polled.functions.json("channel_renew", 1002, document)
    assert reply["resend"] is False
    assert await polled.hash("comsrv:1002:seen") == {"b": str(START + 7)}
    status = await polled.functions.read_json("comsrv_status", 1002)
    assert (status["state"], status["units"]) == ("degraded", {"1": {"state": "down"}})
    assert status["lease_until_ms"] == START + 3000
    assert (await polled.hash("voltage:ledger"))["unchanged"] == "3"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state": "happy"}, "state must be one of"),
        ({"seen": {"b": "x"}}, "seen.b must be a finite number"),
        ({"seen": 5}, "seen must be an object"),
        ({"units": "x"}, "units must be an object"),
        ({"counters": {"polled": 0.5}}, "counters.polled"),
        ({"epoch": "1"}, "epoch must be a number"),
    ],
)
async def test_a_renewal_with_a_wrong_field_is_refused(polled: Site, changes: dict[str, Any], text: str) -> None:
    document = {"epoch": polled.epoch, "now_ms": polled.now} | changes
    async with refused(polled.functions, InvalidError, text):
        await polled.functions.call("channel_renew", 1002, document)


async def test_a_renewal_after_the_lapse_is_refused(polled: Site) -> None:
    await polled.pass_ms(3000)
    async with refused(polled.functions, StateError, "claim it again"):
        await polled.functions.call("channel_renew", 1002, {"epoch": polled.epoch, "now_ms": polled.now})


HOLD = {"source": "comsrv:1002:T:1", "operator": ">", "value": 0, "for_ms": 1000}
MEAN = {
    "source": "comsrv:1002:T:1",
    "operator": ">",
    "value": 0,
    "aggregate": "mean",
    "window_ms": 6000,
    "coverage": 0.2,
}
WRITE = {"type": "command", "params": {"channel": 1001, "type": "A", "point": 1, "value": 50}}


@pytest.mark.parametrize("leaf", [HOLD, MEAN], ids=["value", "mean"])
@pytest.mark.parametrize(("late_ms", "queued"), [(2000, 1), (5000, 0)])
async def test_a_hold_that_nobody_ended_in_time_commands_nothing_on_a_channel_that_is_stale_by_then(
    polled: Site, late_ms: int, queued: int, leaf: dict[str, Any]
) -> None:
    """As when the machine was asleep: the hold was over before the lease, and both are late."""
    await polled.functions.call("rule_upsert", "hot", {"name": "hot", "conditions": [leaf], "actions": [WRITE]})
    await polled.pass_ms(late_ms)
    assert [one[:2] for one in await polled.firings()] == [("hot", "fired")]
    said = (await polled.entries("rulesrv:firings"))[-1]["actions"]
    assert ("withheld: channel 1002 is stale" in said) is (queued == 0)
    assert await execute(polled.functions.client, "ZCARD", "comsrv:1001:queued") == queued


async def test_a_block_that_is_older_than_a_lease_commands_nothing(polled: Site) -> None:
    """As when Redis did not answer for a while, and what was polled meanwhile comes all at once."""
    hot = {
        "name": "hot",
        "conditions": [{"source": "comsrv:1002:T:1", "operator": ">", "value": 10}],
        "actions": [WRITE],
    }
    await polled.functions.call("rule_upsert", "hot", hot)
    for age_ms, value in ((3001, 50), (3001, 5), (3000, 50)):
        polled.now += 1000
        await polled.put({1: value}, age_ms=age_ms)
    said = [one["actions"] for one in await polled.entries("rulesrv:firings") if one["event"] == "fired"]
    assert "withheld: what comes of channel 1002 is older than its lease" in said[0]
    assert "result" in said[1]
    assert "behind" not in await polled.hash("comsrv:1002:status")


async def test_a_block_that_is_seen_unchanged_in_time_ends_what_an_old_one_began(polled: Site) -> None:
    await polled.put({1: 7}, age_ms=3001)
    for age_ms, behind in ((3001, True), (3000, False)):
        assert ("behind" in await polled.hash("comsrv:1002:status")) is True
        renewal = {"epoch": polled.epoch, "now_ms": polled.now, "seen": {"b": polled.now - age_ms}}
        await polled.functions.call("channel_renew", 1002, renewal)
        assert ("behind" in await polled.hash("comsrv:1002:status")) is behind
