"""The ledger: does every sample that was polled have a place?"""

from __future__ import annotations

from typing import Any, Final

# Dropped journal entries are no samples.
NOT_SAMPLES: Final = frozenset(("journal_full", "outbox_full"))


def balance(counters: dict[str, int], pending: int) -> dict[str, Any]:
    """Return the counters in their two equations, and whether both hold.

    polled = stored + unchanged + rejected(reason);
    queued = written + dead_lettered + dropped(reason) + pending.
    """
    reasons: dict[str, dict[str, int]] = {"rejected": {}, "dropped": {}, "lost": {}, "recorded": {}}
    for name, value in counters.items():
        group, _, reason = name.partition(":")
        if group in reasons and reason not in NOT_SAMPLES:
            reasons[group][reason or "other"] = value
    polled: dict[str, Any] = {
        "polled": counters.get("polled", 0),
        "stored": counters.get("stored", 0),
        "unchanged": counters.get("unchanged", 0),
        "rejected": reasons["rejected"],
    }
    queued: dict[str, Any] = {
        "queued": counters.get("queued", 0),
        "written": counters.get("written", 0),
        "dead_lettered": counters.get("dead_lettered", 0),
        "dropped": reasons["dropped"],
        "pending": pending,
    }
    missing = polled["polled"] - polled["stored"] - polled["unchanged"] - sum(reasons["rejected"].values())
    unaccounted = queued["queued"] - queued["written"] - queued["dead_lettered"] - pending
    unaccounted -= sum(reasons["dropped"].values())
    return {
        "balanced": missing == 0 and unaccounted == 0,
        "samples": polled | {"difference": missing},
        "history": queued | {"difference": unaccounted},
        "late": counters.get("late", 0),
        "lost": reasons["lost"],
        # Samples each mapping took to the store; "*" without any mapping.
        "mappings": reasons["recorded"],
    }
