"""The ledger: does every sample that was polled have a place? In total, by channel, by mapping and by store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

# Dropped journal entries are no samples.
NOT_SAMPLES: Final = frozenset(("journal_full", "outbox_full"))
# A counter below what it was at the start: Redis, or the channel, began anew.
_RISING: Final = ("polled", "queued")

Counters = dict[str, int]


class Counted(NamedTuple):
    """All counters as they are at one instant, and how many samples wait in the history queue."""

    total: Counters
    pending: int
    channels: dict[int, Counters]
    stores: dict[str, Counters]


def document(now: Counted, start: Counted, started_at_ms: int, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the whole ledger: in total, and since an earlier instant."""
    if any(now.total.get(name, 0) < start.total.get(name, 0) for name in _RISING):
        start = Counted({}, 0, {}, {})
    since = Counted(
        _less(now.total, start.total),
        now.pending,
        {ch: _less(own, start.channels.get(ch, {})) for ch, own in now.channels.items()},
        {store: _less(own, start.stores.get(store, {})) for store, own in now.stores.items()},
    )
    found = balance(now.total, now.pending) | _parts(now, Counted({}, 0, {}, {}), names)
    later = balance(since.total, now.pending, start.pending) | _parts(since, start, names)
    later.pop("balanced")
    rows = [*found["channels"], *found["stores"]]
    found["balanced"] = found["balanced"] and not any(row["difference"] for row in rows)
    return found | {"since_start": {"started_at_ms": started_at_ms} | later}


def balance(counters: Counters, pending: int, pending_before: int = 0) -> dict[str, Any]:
    """Return the counters in their two equations, and whether both hold.

    polled = stored + unchanged + rejected(reason);
    pending_before + queued = written + dead_lettered + dropped(reason) + pending.
    """
    samples, history = _samples(counters), _history(counters, pending, pending_before)
    return {
        "balanced": not samples["difference"] and not history["difference"],
        "samples": samples,
        "history": history,
        "late": counters.get("late", 0),
        "lost": _reasons(counters, "lost"),
        # Samples each mapping took to the store; "*" without any mapping.
        "mappings": _reasons(counters, "recorded"),
    }


def _parts(counted: Counted, start: Counted, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the rows by channel and by store."""
    channels = [
        {
            "channel": ch,
            "name": names.get(ch, ""),
            **_samples(own),
            "queued": own.get("queued", 0),
            "late": own.get("late", 0),
            "lost": _reasons(own, "lost"),
        }
        for ch, own in sorted(counted.channels.items())
    ]
    stores = []
    for store, own in sorted(counted.stores.items()):
        before = start.pending if store in start.stores else 0
        stores.append({"store": store, **_history(own, counted.pending, before)})
    return {"channels": channels, "stores": stores}


def _samples(counters: Counters) -> dict[str, Any]:
    """Return what became of polled samples. Who calls the functions by hand gives no counters of what was polled."""
    rejected = _reasons(counters, "rejected")
    polled, stored, unchanged = (counters.get(name, 0) for name in ("polled", "stored", "unchanged"))
    difference = polled - stored - unchanged - sum(rejected.values()) if polled else 0
    return {
        "polled": polled, "stored": stored, "unchanged": unchanged, "rejected": rejected, "difference": difference,
    }  # fmt: skip


def _history(counters: Counters, pending: int, pending_before: int) -> dict[str, Any]:
    """Return what became of queued samples."""
    dropped = _reasons(counters, "dropped")
    queued, written, letters = (counters.get(name, 0) for name in ("queued", "written", "dead_lettered"))
    found = {"queued": queued, "written": written, "dead_lettered": letters, "dropped": dropped, "pending": pending}
    if pending_before:
        found["pending_before"] = pending_before
    accounted = written + letters + sum(dropped.values()) + pending
    return found | {"difference": pending_before + queued - accounted}


def _reasons(counters: Counters, group: str) -> Counters:
    """Return the counters of a group by their reason."""
    named = (name.partition(":") for name in counters)
    return {
        reason or "other": counters[f"{head}{colon}{reason}"]
        for head, colon, reason in named
        if head == group and reason not in NOT_SAMPLES
    }


def _less(now: Counters, start: Counters) -> Counters:
    """Return how much each counter grew; all of it where it began anew."""
    if any(now.get(name, 0) < start.get(name, 0) for name in _RISING):
        return now
    return {name: value - start.get(name, 0) for name, value in now.items() if value != start.get(name, 0)}
