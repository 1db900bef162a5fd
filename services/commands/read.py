"""Commands that read: thin clients of the gateway, tables for people, `--json` for programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from libs.numbers import readable
from services.commands.api import pages, request, show

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document a line, for programs.")
limited = click.option("--limit", default=100, show_default=True, help="At most so many.")


def when(at_ms: object) -> str:
    """Render an instant in local time."""
    if not isinstance(at_ms, int | float) or not at_ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000)) + f".{int(at_ms) % 1000:03d}"


def age(at_ms: object) -> str:
    """Render how long ago an instant was."""
    if not isinstance(at_ms, int | float) or not at_ms:
        return ""
    return f"{max(0.0, time.time() - at_ms / 1000):.1f} s"


def timed(items: list[dict[str, Any]], render: Callable[[object], str], *names: str) -> list[dict[str, Any]]:
    """Return items with instants as people read them, under the same names."""
    return [item | {name: render(item.get(name)) for name in names} for item in items]


def points_of(document: Any) -> list[dict[str, Any]]:
    """Return the points of an answer, as a list; some answers name them by key."""
    found: Any = (
        document
        if isinstance(document, list)
        else next((document[key] for key in ("items", "points", "values") if key in document), None)
    )
    if isinstance(found, dict):
        return [{"name": name} | (one if isinstance(one, dict) else {"value": one}) for name, one in found.items()]
    return list(found or [])


@click.command()
@click.argument("channel", required=False)
@click.argument("of", required=False, metavar="")
@click.option("--type", "kind", type=click.Choice(["T", "S", "C", "A"]), help="Only points of this kind.")
@click.option("--watch", "live", is_flag=True, help="What the channels, or one, do: a live table; Ctrl-C ends it.")
@click.option("--seconds", default=60.0, show_default=True, help="frames: for how long; 0 shows what was kept.")
@limited
@as_json
def channels(
    channel: str | None, of: str | None, kind: str | None, live: bool, seconds: float, limit: int, as_json: bool
) -> None:
    """List the channels, or the points of one with value, quality and age; --watch shows what they do.

    `voltage channels frames CHANNEL` shows each frame of the channel's link as it goes over the wire.
    """
    if channel == "frames" and of is not None:
        from services.commands.frames import frames

        frames(of, seconds, limit, as_json=as_json)
        return
    if channel == "frames" or of is not None:
        raise click.UsageError("one channel, or: frames CHANNEL")
    if live:
        from services.commands.watch import watch

        watch(channel)
        return
    if channel is None:
        columns = {"id": "id", "name": "name", "protocol": "protocol", "enabled": "enabled", "state": "state"}
        show(pages("/api/channels", {}, limit), columns, as_json=as_json, empty="no channels; see config/comsrv.yaml")
        return
    items = pages(f"/api/channels/{channel}/points", {"type": kind}, limit)
    if not as_json:
        items = [_with_label(item) for item in timed(items, age, "changed_at_ms", "seen_at_ms")]
    columns = {
        "type": "type", "id": "id", "name": "name", "value": "value", "unit": "unit",
        "quality": "quality", "changed": "changed_at_ms", "seen": "seen_at_ms",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty=f"channel {channel} has no points")


def _with_label(point: dict[str, Any]) -> dict[str, Any]:
    """Put what a value means beside it, where the point says so."""
    return point | {"value": f"{readable(point['value'])} {point['label']}"} if point.get("label") else point


@click.command()
@click.argument("model", required=False)
@limited
@as_json
def models(model: str | None, limit: int, as_json: bool) -> None:
    """List the models, or the values of one."""
    if model is None:
        columns = {"id": "id", "name": "name", "template": "template", "channel": "mapping.channel"}
        show(pages("/api/models", {}, limit), columns, as_json=as_json, empty="no models; see config/models")
        return
    items = points_of(request(f"/api/models/{model}/values"))
    if not as_json:
        items = timed(items, age, "at_ms")
    columns = {"name": "name", "value": "value", "unit": "unit", "quality": "quality", "changed": "at_ms"}
    show(items, columns, as_json=as_json, empty=f"model {model} has no values")


@click.command()
@click.option("--channel", help="Only those of this channel.")
@click.option("--state", help="Only those in this state.")
@click.option("--watch", "live", is_flag=True, help="A live table of the newest, and who holds what; Ctrl-C ends it.")
@limited
@as_json
def commands(channel: str | None, state: str | None, live: bool, limit: int, as_json: bool) -> None:
    """List the commands sent to devices."""
    if live:
        from services.commands.watch_commands import watch

        watch(channel, state)
        return
    items = pages("/api/commands", {"channel": channel, "state": state}, limit)
    if not as_json:
        items = timed(items, when, "created_at_ms")
    columns = {
        "time": "created_at_ms", "id": "id", "channel": "channel", "type": "type", "point": "point", "value": "value",
        "source": "source.name", "state": "state", "reason": "reason",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="no commands")
