"""`voltage replay` and `voltage backtest`: the recorded past once more."""

from __future__ import annotations

import sys
from typing import Any, Final

import click
import orjson

from libs.redis.keys import key
from services.commands.api import request, show
from services.commands.changes import in_file
from services.commands.jobs import follow
from services.commands.read import as_json, timed, when

DIFFERENT: Final = 1
PATHS: Final = {"rule": "rules", "alarm": "alarm-definitions"}
# The lists of definitions in files.
SECTIONS: Final = {"rule": "rules", "alarm": "definitions"}
# What the list of events shows already.
OWN: Final = {"rule": {key("firings")}, "alarm": set[str]()}
# So that -5m and -1h are instants, and no options.
INSTANTS: Final = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
SIDES: Final = {"both": "", "then": "not any more", "now": "new"}


@click.command(context_settings=INSTANTS)
@click.argument("start", required=False)
@click.argument("end", default="now")
@as_json
def replay(start: str | None, end: str, as_json: bool) -> None:
    """Make all calls from START to END again, beside the site, and compare the journals; 1 where they differ.

    An instant is RFC 3339, Unix milliseconds, now, or -5m. Without START it says what there is to replay.
    """
    if start is None:
        _tell_log(request("/api/replays"), as_json=as_json)
        return
    report = _reported("/api/replays", {"start": start, "end": end}, as_json=as_json)
    if not as_json and report["source"] == "history":
        click.echo("history does not say what was written then: there is nothing to compare with")
    elif not as_json:
        _tell_differences(report["differences"], report["different"])
    if report["different"]:
        sys.exit(DIFFERENT)


@click.command(context_settings=INSTANTS)
@click.argument("kind", type=click.Choice(list(PATHS)))
@click.argument("name")
@click.argument("start")
@click.argument("end", default="now")
@click.option(
    "--with",
    "changed",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="A YAML or JSON file with the definition, instead of the stored one.",
)
@as_json
def backtest(kind: str, name: str, start: str, end: str, changed: str | None, as_json: bool) -> None:  # fmt: skip
    """Run the rule or alarm definition NAME over the recorded past: what it did, and what it would have done."""
    body: dict[str, Any] = {"start": start, "end": end}
    if changed is not None:
        body["definition"] = in_file(name, changed, SECTIONS[kind])
    report = _reported(f"/api/{PATHS[kind]}/{name}/backtest", body, as_json=as_json)
    if as_json:
        return
    before = "as stored" if report["source"] == "history" else "as it was"
    for side, title in (("then", before), ("now", "as asked")):
        total = report["totals"][side]
        counted = ", ".join(f"{count} {event}" for event, count in total["events"].items()) or "nothing"
        click.echo(f"{title}: {counted}; lasted {total['lasted_ms'] / 1000:g} s in all")
    columns = {"time": "at_ms", "event": "event", "for s": "for_s", "actions": "did", "": "side"}
    events = [_row(one) for one in timed(report["events"], when, "at_ms")]
    show(events, columns, as_json=False, empty="it did nothing in that time")
    others = [one for one in report["differences"] if one["journal"] not in OWN[kind]]
    if others:
        click.echo("what else differs:")
        _tell_differences(others, len(others))


def _row(event: dict[str, Any]) -> dict[str, Any]:
    lasted = event.get("duration_ms")
    did = ", ".join(
        f"{action['type']}: {action.get('result') or action.get('problem') or 'done'}"
        for action in event.get("actions") or []
    )
    for_s = None if lasted is None else lasted / 1000
    return event | {"side": SIDES[event["in"]], "did": did or event.get("status"), "for_s": for_s}


def _reported(path: str, body: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Have a replay done, say what it was, or print it as JSON, and return its whole report."""
    result = follow(request(path, body=body, role="engineer"), quiet=as_json)
    report: dict[str, Any] = request(result["report"], role="engineer")
    if as_json:
        click.echo(orjson.dumps(report).decode())
        return report
    seconds, took_s = (report["end_ms"] - report["start_ms"]) / 1000, max(1, report["took_ms"]) / 1000
    journals = ", ".join(f"{count} in {name}" for name, count in sorted(report["journals"].items())) or "none"
    click.echo(
        f"{report['calls']} calls of {seconds:g} s in {took_s:.1f} s ({seconds / took_s:.0f} times faster); "
        f"entries of journals: {journals}"
    )
    for reason in report["reasons"]:
        click.echo(f"not exact: {reason}")
    return report


def _tell_differences(found: list[dict[str, Any]], total: int) -> None:
    if total == 0:
        click.echo("the journals are the same, byte for byte")
        return
    click.echo(f"{total} entries differ")
    items = timed(found, when, "at_ms")
    show(items, {"time": "at_ms", "only": "only", "what": "said"}, as_json=False, empty="")


def _tell_log(log: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(log).decode())
        return
    if log["from_ms"] is None or log["until_ms"] is None:
        click.echo("nothing was recorded yet")
        return
    row = timed([log], when, "from_ms", "until_ms")[0]
    click.echo(
        f"{log['calls']} calls from {row['from_ms']} until {row['until_ms']}, "
        f"checkpoints: {len(log['checkpoints'])}, {log['bytes'] / 1e6:.1f} MB"
    )
    if log["problem"]:
        click.echo(f"it waits: {log['problem']}")
    if log["dropped"]:
        click.echo(f"{log['dropped']} calls are not in it: it was full")
    for gap in timed(log["gaps"], when, "from_ms", "until_ms"):
        click.echo(f"gap from {gap['from_ms']} until {gap['until_ms']}: {gap['why']}")
