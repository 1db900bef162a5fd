"""What a channel does, put together for the API: polls, link, units, quarantine, what was learned."""

from __future__ import annotations

from typing import Any

from services.comsrv.poller import Poller
from services.comsrv.runner import Runner
from services.comsrv.schedule import monotonic_now
from services.comsrv.units import Task


def diagnostics(status: dict[str, Any], runner: Runner | None) -> dict[str, Any]:
    """Show what a channel does."""
    found: dict[str, Any] = {"channel": status["channel"], "lease": status, "state": "stopped"}
    if runner is None:
        return found
    found |= {"state": runner.state, "problem": runner.problem}
    if runner.poller is not None:
        found |= _polling(runner.poller, status["seen"])
    if runner.uplink is not None:
        found["uplink"] = {
            "epoch": runner.uplink.lease.epoch, "dropped": runner.uplink.dropped, "events": runner.uplink.events,
        }  # fmt: skip
    if runner.commander is not None:
        found["commands"] = {"executed": runner.commander.executed}
    return found


def _polling(poller: Poller, seen: dict[str, int]) -> dict[str, Any]:
    traffic = poller.plugin.traffic
    return {
        "polling": poller.statistics.document(),
        "groups": _groups(poller),
        "link": None if traffic is None else traffic.statistics(),
        "units": {name: unit.diagnostics() for name, unit in poller.units.items()},
        "blocks": [_block(task, seen.get(task.slices[0].block.name)) for task in poller.tasks],
        "quarantine": quarantined(poller),
        "learned": _learned(poller),
    }


def _groups(poller: Poller) -> list[dict[str, Any]]:
    """Show the poll groups that read anything."""
    now = monotonic_now()
    return [
        {
            "name": group.name,
            "interval_ms": group.interval_ms,
            "synchronized": group.synchronized,
            "phase_ms": round(group.phase_ms, 1),
            "blocks": len(group.tasks),
            "points": sum(task.block.size for task in group.tasks),
            "polls": group.polls,
            "late": group.late,
            "last_poll_ms": round(group.last_poll_ms, 2),
            "longest_poll_ms": round(group.longest_poll_ms, 2),
            "next_poll_in_ms": round(max(group.due_ms - now, 0.0), 1),
        }
        for group in poller.schedule.groups.values()
        if group.tasks
    ]


def _block(task: Task, seen_at_ms: int | None) -> dict[str, Any]:
    block = task.block
    found: dict[str, Any] = {"name": block.name, "unit": block.unit, "group": block.group, "points": block.size}
    if task.span is not None:
        found |= {"table": task.span.table, "address": task.span.address, "length": task.span.length}
    state = "quarantine" if task.entry else "searched" if task.search else "polled"
    return found | {"state": state, "problem": task.problem, "seen_at_ms": seen_at_ms}


def quarantined(poller: Poller) -> list[dict[str, Any]]:
    """Show the addresses that are asked alone, with their points."""
    now = monotonic_now()
    return [
        task.entry.document(now)
        | {"points": [f"{section.kind}:{point}" for section in task.block.sections for point in section.ids]}
        for task in poller.tasks
        if task.entry is not None
    ]


def _learned(poller: Poller) -> dict[str, Any]:
    """Show what the devices taught beside what they refuse: borders, longest requests, costs."""
    quarantine = poller.quarantine
    costs = {name: cost for name, unit in poller.units.items() if (cost := unit.cost.document()) is not None}
    return {
        "borders": [
            {"unit": unit, "table": table, "address": address} for unit, table, address in sorted(quarantine.borders)
        ],
        "limits": [
            {"unit": unit, "table": table, "length": length}
            for (unit, table), length in sorted(quarantine.limits.items())
        ],
        "costs": costs,
    }
