"""The ledger as the API shows it: in total and since the start, with what does not balance."""

from __future__ import annotations

from typing import Any

from services.comsrv.ledger import Counted, Counters, document

CHANNEL = {"polled": 10, "stored": 6, "unchanged": 3, "rejected:timeout": 1, "queued": 6}
HISTORY = {"queued": 6, "written": 3, "dropped:mapping": 1}
TOTAL = CHANNEL | HISTORY | {"dropped:journal_full": 4, "recorded:a": 3}
NOTHING = Counted({}, 0, {}, {})


def counted(times: int, pending: int = 2, **more: int) -> Counted:
    def of(counters: Counters) -> Counters:
        return {name: times * value for name, value in counters.items()}

    return Counted(of(TOTAL) | more, pending, {7: of(CHANNEL)}, {"embedded": of(HISTORY) | more})


def shown(now: Counted, start: Counted = NOTHING) -> dict[str, Any]:
    return document(now, start, 1000, {7: "Meter"})


def test_in_total_and_since_the_start():
    """What waited at the start is accounted for after it."""
    found = shown(counted(3, written=13), counted(1))
    assert found["balanced"]
    assert found["samples"] == {
        "polled": 30, "stored": 18, "unchanged": 9, "rejected": {"timeout": 3}, "difference": 0,
    }  # fmt: skip
    assert found["history"]["dropped"] == {"mapping": 3}
    since = found["since_start"]
    assert (since["started_at_ms"], since["samples"]["polled"], since["mappings"]) == (1000, 20, {"a": 6})
    (channel,) = since["channels"]
    assert (channel["name"], channel["polled"], channel["queued"], channel["difference"]) == ("Meter", 20, 12, 0)
    (store,) = since["stores"]
    assert store == {
        "store": "embedded", "queued": 12, "written": 10, "dead_lettered": 0, "dropped": {"mapping": 2}, "pending": 2,
        "pending_before": 2, "difference": 0,
    }  # fmt: skip


def test_a_channel_or_a_store_that_does_not_balance_alone_is_a_difference():
    now = counted(1)
    assert shown(now)["balanced"]
    assert not shown(now._replace(channels={7: CHANNEL | {"stored": 5}}))["balanced"]
    assert not shown(now._replace(stores={"embedded": HISTORY | {"written": 9}}))["balanced"]


def test_a_redis_that_began_anew_counts_from_there():
    found = shown(counted(1), counted(2, pending=90))
    assert found["since_start"]["samples"]["polled"] == 10
    assert found["since_start"]["history"]["difference"] == 0
