"""`voltage ledger`: where every sample is."""

from __future__ import annotations

import json
from typing import Any

import click

from services.commands.api import request, show
from services.commands.read import when

SAMPLES = {
    "channel": "channel", "name": "name", "polled": "polled", "= stored": "stored", "+ unchanged": "unchanged",
    "+ rejected": "rejected", "queued": "queued", "late": "late", "lost": "lost", "difference": "difference",
}  # fmt: skip
HISTORY = {
    "store": "store", "queued": "queued", "= written": "written", "+ dead-lettered": "dead_lettered",
    "+ dropped": "dropped", "+ pending": "pending", "difference": "difference",
}  # fmt: skip


@click.command()
@click.option("--since-start", is_flag=True, help="Only what came since comsrv was started; else in total.")
@click.option("--json", "as_json", is_flag=True, help="The answer of GET /api/ledger, for programs.")
@click.pass_context
def ledger(ctx: click.Context, *, since_start: bool, as_json: bool) -> None:
    """Show where every sample is: by channel, mapping and store. Exits 1 when the ledger does not balance."""
    found = request("/api/ledger")
    shown = found["since_start"] if since_start else found
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        since = f"since {when(shown['started_at_ms'])[:19]}" if since_start else "in total"
        click.echo(f"Samples polled, {since}")
        show(_channels(shown), SAMPLES, as_json=False, empty="nothing was polled yet")
        click.echo("Samples queued for history")
        show(_stores(shown), HISTORY, as_json=False, empty="nothing was queued yet")
        mappings = [{"mapping": name, "recorded": count} for name, count in sorted(shown["mappings"].items())]
        if mappings:
            show(mappings, {"mapping": "mapping", "recorded": "recorded"}, as_json=False, empty="")
        click.echo("balanced" if found["balanced"] else "does not balance: voltage doctor")
    if not found["balanced"]:
        ctx.exit(1)


def _channels(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a channel, and their total, in which are also those that were deleted."""
    total = {"channel": "all", "late": shown["late"], "lost": shown["lost"], **shown["samples"]}
    total["queued"] = shown["history"]["queued"]
    return [row | {"rejected": _reasons(row), "lost": sum(row["lost"].values())} for row in [*shown["channels"], total]]


def _stores(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a store, and the queue's: what one store of two refused is a dead letter there."""
    rows = [*shown["stores"], {"store": "queue", **shown["history"]}]
    before = "{queued} and {pending_before} before"
    return [
        row
        | {"dropped": _reasons(row, "dropped")}
        | ({"queued": before.format(**row)} if "pending_before" in row else {})
        for row in rows
    ]


def _reasons(row: dict[str, Any], group: str = "rejected") -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(row[group].items()) if count) or "0"
