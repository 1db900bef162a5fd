"""`voltage alarms`: the open ones, the journal."""

from __future__ import annotations

import click

from services.commands.api import pages, show
from services.commands.read import as_json, limited, timed, when

COLUMNS = {
    "id": "id", "level": "level", "status": "status", "title": "title", "source": "source",
    "value": "value", "count": "count", "since": "created_at_ms",
}  # fmt: skip


@click.group(invoke_without_command=True)
@click.option("--status", help="New, Acknowledged, Returned or Resolved; else all that are open.")
@click.option("--level", help="Critical, Major, Minor, Warning or Info.")
@limited
@as_json
@click.pass_context
def alarms(ctx: click.Context, status: str | None, level: str | None, limit: int, as_json: bool) -> None:
    """List the alarms, by default those that are open."""
    if ctx.invoked_subcommand:
        return
    items = pages("/api/alarms", {"status": status, "level": level, "active": None if status else "true"}, limit)
    if not as_json:
        items = timed(items, when, "created_at_ms")
    show(items, COLUMNS, as_json=as_json, empty="no alarms")


@alarms.command()
@click.option("--alarm", help="Only of this alarm.")
@click.option("--event", help="raised, acknowledged, returned, resolved, shelved, ...")
@click.option("--level", help="Critical, Major, Minor, Warning or Info.")
@click.option("--source", help="Only of this point, or what was written as source.")
@click.option("--user", help="Only what this person did.")
@click.option("--start", help="RFC 3339, Unix milliseconds, now, or -5m.")
@click.option("--end")
@limited
@as_json
def journal(
    alarm: str | None,
    event: str | None,
    level: str | None,
    source: str | None,
    user: str | None,
    start: str | None,
    end: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what happened to alarms, newest first; older than Redis goes back on disk."""
    filters = {
        "alarm": alarm, "event": event, "level": level, "source": source, "user": user, "start": start, "end": end,
    }  # fmt: skip
    items = pages("/api/alarms/journal", filters, limit)
    if not as_json:
        items = timed(items, when, "at_ms")
    columns = {
        "no": "number", "time": "at_ms", "alarm": "alarm", "event": "event", "status": "status", "level": "level",
        "title": "title", "value": "value", "quality": "quality", "user": "user", "comment": "comment",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="nothing happened")
