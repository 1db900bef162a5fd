"""`voltage alarms`: the open ones, what operators do to them, the journal, and who is told."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import click

from libs.numbers import readable
from services.commands import alarm_operate, alarm_quality
from services.commands.alarm_operate import InOrder
from services.commands.api import download, pages, request, show
from services.commands.definitions import add_history
from services.commands.read import as_json, limited, timed, when
from services.commands.shadows import add_shadow

DAYS: Final = 7  # of a week: a schedule that names all of them names none
COLUMNS = {
    "id": "id", "level": "level", "status": "status", "title": "title", "source": "source",
    "value when raised": "value", "count": "count", "since": "created_at_ms",
}  # fmt: skip


def _status(alarm: dict[str, Any]) -> str:
    """Say the status, and what an operator must know beside it."""
    marks = [name for name in ("latched", "uncertain", "shelved", "suppressed", "out_of_service") if alarm.get(name)]
    return ", ".join([alarm["status"], *(name.replace("_", " ") for name in marks)])


@click.group(cls=InOrder, invoke_without_command=True)
@click.option("--status", help="New, Acknowledged, Returned or Resolved; else all that are open.")
@click.option("--level", help="Critical, Major, Minor, Warning or Info.")
@limited
@as_json
@click.pass_context
def alarms(ctx: click.Context, status: str | None, level: str | None, limit: int, as_json: bool) -> None:
    """List the alarms, by default those that are open; the commands act on them."""
    if ctx.invoked_subcommand:
        return
    items = pages("/api/alarms", {"status": status, "level": level, "active": None if status else "true"}, limit)
    if not as_json:
        items = [one | {"status": _status(one)} for one in timed(items, when, "created_at_ms")]
    show(items, COLUMNS, as_json=as_json, empty="no alarms")


for _command in alarm_operate.COMMANDS:
    alarms.add_command(_command)


@alarms.command()
@click.option("--alarm", help="Only of this alarm.")
@click.option(
    "--event", help="raised, acknowledged, returned, resolved, shelved, ...; another word is refused with all."
)
@click.option("--level", help="Critical, Major, Minor, Warning or Info.")
@click.option("--source", help="Only of this point, or what was written as source.")
@click.option("--user", help="Only what this person did.")
@click.option("--start", help="RFC 3339, Unix milliseconds, now, or -5m.")
@click.option("--end")
@click.option("--csv", "as_csv", is_flag=True, help="All of it as CSV, oldest first, for a spreadsheet.")
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
    as_csv: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what happened to alarms, newest first; older than Redis goes back on disk."""
    filters = {
        "alarm": alarm, "event": event, "level": level, "source": source, "user": user, "start": start, "end": end,
    }  # fmt: skip
    if as_csv:
        for piece in download("/api/alarms/journal/export", filters):
            click.echo(piece, nl=False)
        return
    items = pages("/api/alarms/journal", filters, limit)
    if not as_json:
        items = [one | _told(one) for one in timed(items, when, "at_ms")]
    columns = {
        "no": "number", "time": "at_ms", "alarm": "alarm", "event": "event", "level": "level", "title": "title",
        "value": "value", "by": "user",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="nothing happened")


@alarms.command()
@as_json
def routes(as_json: bool) -> None:
    """List who is told of which alarms, and how each recipient is doing."""
    items = pages("/api/alarm-routes", {}, 200)
    if not as_json:
        items = [one | _in_words(one) for one in items]
    columns = {
        "id": "id", "enabled": "enabled", "levels": "levels", "tags": "tags", "to": "to", "schedule": "schedule",
        "escalation": "escalation",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="no routes; see notifications in config/alarmsrv.yaml")
    if as_json:
        return
    status = request("/api/alarms/outbox")
    click.echo(f"{status['waiting']} entries wait, {status['dead_letters']} messages were given up")
    targets = timed(status["targets"], when, "next_try_ms")
    columns = {
        "recipient": "target", "waiting": "waiting", "flood": "flood", "sent this hour": "sent_last_hour",
        "next try": "next_try_ms", "error": "last_error",
    }  # fmt: skip
    if targets:
        show(targets, columns, as_json=False, empty="")


def _told(entry: dict[str, Any]) -> dict[str, str]:
    """Return an entry as people read it: what belongs together in one column, and only what says something."""
    event, quality = entry["event"].replace("_", " "), entry.get("quality", "good")
    closed = entry["status"] == "Resolved" and event != "resolved"
    return {
        "event": f"{event}, resolved" if closed else event,
        "value": f"{_plain(entry.get('value'))} {'' if quality == 'good' else quality}".strip(),
        "user": ": ".join(entry[name] for name in ("user", "comment") if entry.get(name)),
    }


def _plain(text: object) -> str:
    """Render a value of the journal: six decimals are for programs, and a text point's is JSON."""
    try:
        found = json.loads(str(text or '""'))
    except ValueError:
        return str(text)
    return readable(found) if isinstance(found, float) else str(found)


def _in_words(route: dict[str, Any]) -> dict[str, str]:
    """Return the lists of a route as people say them; what is not named is meant by all."""
    return {
        "levels": ", ".join(route.get("levels") or []) or "all but Info",
        "tags": ", ".join(route.get("tags") or []) or "any",
        "to": ", ".join(route["to"]),
        "schedule": _schedule(route.get("schedule")),
        "escalation": "; ".join(
            f"after {_span(step['after_s'])}: {', '.join(step['to'])}" for step in route.get("escalation") or []
        )
        or "none",
    }


def _schedule(schedule: dict[str, Any] | None) -> str:
    if not schedule:
        return "always"
    days, start, end = schedule.get("days") or [], schedule.get("start", "00:00"), schedule.get("end", "00:00")
    said = "all day" if start == end else f"{start} to {end}"
    return f"{'' if len(days) in {0, DAYS} else ', '.join(days) + ' '}{said} {schedule['time_zone']}"


def _span(seconds: int) -> str:
    """Render a time of escalation: 300 is 5 min."""
    return f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"


@alarms.command("notify-test")
@click.argument("route")
@click.option("--wait", "wait_s", default=15.0, show_default=True, help="Seconds to wait for the outcome.")
def notify_test(route: str, wait_s: float) -> None:
    """Send a test to everyone ROUTE names, and say whether it arrived."""
    document = request(f"/api/alarm-routes/{route}")
    wanted = {*document["to"], *(one for step in document.get("escalation") or () for one in step["to"])}
    before = request("/api/alarms/outbox")["dead_letters"]
    request(f"/api/alarm-routes/{route}/test", body={}, role="engineer")
    end = time.monotonic() + wait_s
    while True:
        time.sleep(0.2)
        status = request("/api/alarms/outbox")
        doing = {one["target"]: one for one in status["targets"]}
        waiting = [one for one in sorted(wanted) if one not in doing or doing[one]["waiting"]]
        if not waiting or time.monotonic() > end:
            break
    failed = {one: doing[one]["last_error"] for one in sorted(wanted) if one in doing and doing[one]["last_error"]}
    for target in sorted(wanted):
        said = failed.get(target) or ("it still waits" if target in waiting else "sent")
        click.echo(f"{target}: {said}")
    if status["dead_letters"] > before:
        click.echo("given up messages: GET /api/alarms/outbox/dead-letters")
    if failed or waiting:
        sys.exit(1)


@alarms.command()
@limited
@as_json
def definitions(limit: int, as_json: bool) -> None:
    """List the alarm definitions, and what each names that does not exist yet."""
    items = pages("/api/alarm-definitions", {}, limit)
    if not as_json:
        items = [one | {"warnings": "; ".join(one.get("warnings") or [])} for one in items]
    columns = {
        "id": "id", "source": "source", "detector": "detector", "limit": "limit", "level": "level",
        "enabled": "enabled", "version": "version", "warnings": "warnings",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="no alarm definitions; see config/alarms")


for _command in (alarm_quality.quality, alarm_quality.recommend):
    alarms.add_command(_command)
add_history(alarms, "/api/alarm-definitions", "alarm definition", "definitions")
add_shadow(alarms, "/api/alarm-definitions", "alarm definition", "definitions")
for _command in (alarm_quality.approve_all, alarm_quality.compare):
    alarms.add_command(_command)
