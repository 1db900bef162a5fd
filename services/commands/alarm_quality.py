"""`voltage alarms quality|recommend|approve-all|compare`: how good the alarms are, and what to change."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from services.commands.api import request, show
from services.commands.read import as_json, timed, when

spanned = [
    click.option("--start", default="-1d", show_default=True, help="RFC 3339, Unix milliseconds, or -7d."),
    click.option("--end", default="now", show_default=True),
]


@click.command()
@spanned[0]
@spanned[1]
@click.option("--operators", default=1, show_default=True, help="How many share the alarms.")
@as_json
def quality(start: str, end: str, operators: int, as_json: bool) -> None:
    """Measure the alarms of a span as ISA-18.2 and IEC 62682 do, and say what is too much."""
    found = request("/api/alarms/quality", {"start": start, "end": end, "operators": operators})
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    show(_summary(found), {"measure": "name", "is": "value", "should be": "target"}, as_json=False, empty="")
    for title, items, columns in (
        ("Floods", timed(found["floods"], when, "begin_ms", "end_ms"),
         {"begin": "begin_ms", "end": "end_ms", "alarms": "alarms", "peak in 10 min": "peak"}),
        ("Chattering", found["chattering"],
         {"origin": "origin", "title": "title", "transitions": "transitions", "peak a minute": "peak_per_minute"}),
        ("Stale", timed(found["stale"], when, "active_since_ms"),
         {"alarm": "alarm", "active since": "active_since_ms", "hours": "hours"}),
        ("By priority", found["priorities"], {"priority": "priority", "alarms": "count", "%": "percent"}),
        ("Most frequent", found["top"]["items"],
         {"origin": "origin", "title": "title", "level": "level", "alarms": "count", "%": "percent"}),
    ):  # fmt: skip
        if items:
            click.echo(f"\n{title}")
            show(items, columns, as_json=False, empty="")
    if any(one["origin"].startswith("alarm:") for one in found["chattering"]):
        click.echo("\nWhat to change at a chattering definition: voltage alarms recommend ID")


def _summary(found: dict[str, Any]) -> list[dict[str, object]]:
    rate, targets, took = found["rate"], found["targets"], found["acknowledge"]
    levels = {name: one["percent"] for name, one in found["levels"].items()}
    rows = [
        ("alarms", found["announced"], ""),
        ("alarms a day and operator", rate["per_day"], f"up to {targets['per_day']['acceptable']}"),
        ("alarms in ten minutes, mean", rate["per_ten_minutes"], f"up to {targets['per_ten_minutes']['acceptable']}"),
        ("alarms in ten minutes, peak", rate["peak_ten_minutes"], f"up to {targets['peak_ten_minutes']}"),
        ("ten minutes with more than 10, %", rate["ten_minutes_over_10_percent"], "under 1"),
        ("time in flood, %", found["flood_percent"], "under 1"),
        ("chattering", len(found["chattering"]), "0"),
        ("stale (active over 24 h)", len(found["stale"]), f"under {targets['stale']}"),
        ("ten most frequent, %", found["top"]["percent"], "1 to 5"),
        ("Critical / Major / rest, %",
         f"{levels['Critical']:g} / {levels['Major']:g} / {levels['Minor'] + levels['Warning']:g}", "5 / 15 / 80"),
        ("time to acknowledge, median s", _seconds(took["median_ms"]), ""),
        ("time to acknowledge, 90 % within s", _seconds(took["p90_ms"]), ""),
        ("not acknowledged yet", took["waiting"], ""),
    ]  # fmt: skip
    return [{"name": name, "value": value, "target": target} for name, value, target in rows]


def _seconds(took_ms: int | None) -> float | None:
    return None if took_ms is None else took_ms / 1000


@click.command()
@click.argument("definition")
@spanned[0]
@spanned[1]
@as_json
def recommend(definition: str, start: str, end: str, as_json: bool) -> None:
    """Try other deadbands and delays on the history of DEFINITION, with the reduction each would have given."""
    found = request(f"/api/alarm-definitions/{definition}/recommend", {"start": start, "end": end})
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    said = "the history of its point" if found["from"] == "history" else "the journal alone, so no deadband"
    click.echo(
        f"{found['now']['alarms']} alarms with the present settings; tried on {said} ({found['samples']} samples)"
    )
    if "problem" in found:
        click.echo(found["problem"])
    rows = [
        {"setting": name, **one, "advice": "recommended" if one == found["recommended"][name] else ""}
        for name in ("deadband", "on_delay_ms", "off_delay_ms")
        for one in found[name]
    ]
    columns = {
        "setting": "setting",
        "value": "value",
        "alarms": "alarms",
        "fewer by %": "reduction_percent",
        "": "advice",
    }
    show(rows, columns, as_json=False, empty="nothing to try: too few samples")


@click.command("approve-all")
@click.option("--comment", help="Why these are the right ones.")
def approve_all(comment: str | None) -> None:
    """Approve the alarm definitions as they run now; `compare` is against them."""
    found = request("/api/alarm-definitions/approve", body={"comment": comment} if comment else {}, role="engineer")
    click.echo(f"approved {found['approved']} definitions")


@click.command()
@as_json
def compare(as_json: bool) -> None:
    """Compare the running alarm definitions with the approved ones; exits with 1 when they differ."""
    found = request("/api/alarm-definitions/compare")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(
            f"approved {when(found['approved_at_ms'])} by {found['by']}: {found['approved']}, now {found['running']}"
        )
        who = {**found["who"], **{one["id"]: one for one in found["changed"]}}
        rows: list[dict[str, Any]] = [{"id": one, "what": what} for what in ("missing", "added") for one in found[what]]
        for one in found["changed"]:
            rows += [{"id": one["id"], "what": name, **values} for name, values in one["fields"].items()]
        for row in rows:
            said = who.get(row["id"], {})
            row |= {"by": said.get("author"), "at": when(said.get("updated_at_ms")), "reason": said.get("reason")}
        columns = {
            "definition": "id", "what": "what", "approved": "approved", "running": "running", "by": "by", "at": "at",
            "reason": "reason",
        }  # fmt: skip
        show(rows, columns, as_json=False, empty="the same")
    if not found["same"]:
        sys.exit(1)
