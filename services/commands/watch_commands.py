"""`voltage commands --watch`: the newest commands as they come, and who holds which point."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from libs.errors import UnavailableError
from libs.numbers import readable
from services.commands.api import console, pages, request

EVERY_S: Final = 0.5
SHOWN: Final = 20
_STYLES: Final = {
    "queued": "cyan", "sent": "cyan", "acknowledged": "cyan", "verified": "green", "superseded": "dim",
    "rejected": "red", "failed": "red", "mismatch": "red", "expired": "yellow",
}  # fmt: skip


def watch(channel: str | None, state: str | None) -> None:
    """Show the newest commands until Ctrl-C."""
    with Live(console=console(), auto_refresh=False, screen=False) as live:
        while True:
            try:
                shown: RenderableType = Group(_commands(channel, state), _holds(channel))
            except UnavailableError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(EVERY_S)


def _commands(channel: str | None, state: str | None) -> Table:
    table = Table(
        "time", "point", "value", "source", "authority", "state", "ms", "reason", title=time.strftime("%H:%M:%S")
    )
    for command in pages("/api/commands", {"channel": channel, "state": state}, SHOWN):
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(command["created_at_ms"] / 1000)),
            f"comsrv:{command['channel']}:{command['type']}:{command['point']}",
            command["value"] if isinstance(command["value"], str) else readable(command["value"]),
            f"{command['source']['kind']} {command['source']['name']}",
            command["authority"],
            Text(command["state"], style=_STYLES.get(command["state"], "")),
            str(command["transitions"][-1]["at_ms"] - command["created_at_ms"]),
            command["reason"] or "",
        )
    return table


def _holds(channel: str | None) -> RenderableType:
    chosen = [channel] if channel else [str(item["id"]) for item in pages("/api/channels", {}, 500)]
    found: list[tuple[str, dict[str, Any]]] = [
        (one, hold) for one in chosen for hold in request(f"/api/channels/{one}/holds")["items"]
    ]
    if not found:
        return Text("Nobody holds a point.", style="dim")
    table = Table("held point", "by", "value", "then", "for s")
    for one, hold in found:
        left = max(0, hold["until_ms"] - time.time() * 1000) / 1000
        fallback = "" if hold["fallback"] is None else readable(hold["fallback"])
        by = f"{hold['by']['kind']} {hold['by']['name']}"
        table.add_row(f"comsrv:{one}:{hold['point']}", by, readable(hold["value"]), fallback, f"{left:.0f}")
    return table
