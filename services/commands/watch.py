"""`voltage channels --watch`: a live table of what the channels do."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from libs.errors import NotFoundError, UnavailableError
from services.commands.api import PIPED_WIDTH, console, pages, request

EVERY_S: Final = 1.0
SHOWN_UNITS: Final = 32
SHOWN_ERRORS: Final = 5
WIDE: Final = 120
_WIDE_ONLY: Final = frozenset(("p50 ms", "exceptions", "last error"))
_STYLES: Final = {"running": "green", "degraded": "yellow", "down": "red", "starting": "cyan", "quarantine": "yellow"}


def watch(channel: str | None) -> None:
    """Show all channels, or one with its groups, units, quarantine and errors, until Ctrl-C; into a pipe, once."""
    before: dict[str, tuple[float, int]] = {}
    view = console()
    if not view.is_terminal:
        view.print(_all(before) if channel is None else _one(channel, before))
        return
    with Live(console=view, auto_refresh=False, screen=True) as live:
        while True:
            try:
                width = view.width
                shown = _all(before, width) if channel is None else _one(channel, before, width)
            except UnavailableError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(EVERY_S)


def _all(before: dict[str, tuple[float, int]], width: int = PIPED_WIDTH) -> RenderableType:
    rows = []
    for item in pages("/api/channels", {}, 500):
        try:
            found = request(f"/api/channels/{item['id']}/diagnostics")
        except NotFoundError:
            continue
        rows.append({"id": str(item["id"]), "name": item["name"]} | _row(found, before))
    return _table(rows, width, title=time.strftime("%H:%M:%S"))


def _table(rows: list[dict[str, RenderableType]], width: int, title: str) -> Table:
    """Return rows as a table; a narrow terminal shows the columns that matter most."""
    names = [name for name in (rows[0] if rows else {"no channels": ""}) if width >= WIDE or name not in _WIDE_ONLY]
    table = Table(title=title)
    for name in names:
        table.add_column(name, no_wrap=name in {"id", "state"})
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def _row(found: dict[str, Any], before: dict[str, tuple[float, int]]) -> dict[str, RenderableType]:
    polling, link, units = found.get("polling") or {}, found.get("link") or {}, found.get("units") or {}
    down = [name for name, unit in units.items() if unit["problem"]]
    return {
        "state": _state(found["state"]),
        "requests/s": _rate(str(found["channel"]), polling.get("requests", 0), before),
        "p50 ms": _percentile(link, 0.5),
        "p99 ms": _percentile(link, 0.99),
        "link": f"{link['utilization']:.0%}" if link else "",
        "late": str(polling.get("late", "")),
        "time-outs": str(polling.get("timeouts", "")),
        "exceptions": _counts(polling.get("exceptions") or {}),
        "units down": " ".join(down),
        "quarantine": str(len(found.get("quarantine") or []) or ""),
        "last error": _short(polling.get("last_error", "")) if found["state"] != "running" else "",
    }


def _one(channel: str, before: dict[str, tuple[float, int]], width: int = PIPED_WIDTH) -> RenderableType:
    found = request(f"/api/channels/{channel}/diagnostics")
    row = _row(found, before)
    # The errors stand below.
    del row["last error"]
    head = _table([row], width, title=f"channel {channel}  {time.strftime('%H:%M:%S')}")
    parts: list[RenderableType] = [head]
    if link := found.get("link"):
        parts.append(_link(link))
    if groups := found.get("groups"):
        table = Table("group", "every ms", "blocks", "points", "polls", "late", "last ms", "longest ms")
        for group in groups:
            names = ("interval_ms", "blocks", "points", "polls", "late", "last_poll_ms", "longest_poll_ms")
            table.add_row(group["name"] or "-", *(str(group[name]) for name in names))
        parts.append(table)
    if units := found.get("units"):
        parts.append(_units(units))
    if quarantine := found.get("quarantine"):
        table = Table("unit", "table", "address", "quality", "points", "tries", "next try in s")
        for entry in quarantine[:SHOWN_UNITS]:
            place = (entry["unit"], entry["table"], str(entry["address"]), entry["quality"], " ".join(entry["points"]))
            table.add_row(*place, str(entry["tries"]), f"{entry['next_try_in_ms'] / 1000:.0f}")
        parts.append(table)
    for error in (found.get("polling") or {}).get("errors", [])[-SHOWN_ERRORS:]:
        at = time.strftime("%H:%M:%S", time.localtime(error["at_ms"] / 1000))
        parts.append(Text(f"{at}  {error['text']}", style="dim"))
    return Group(*parts)


def _link(link: dict[str, Any]) -> RenderableType:
    table = Table("link", "connected", "bytes in", "bytes out", "round trip ms", "rejected frames", "connections")
    table.add_row(
        link["endpoint"],
        "yes" if link["connected"] else "no",
        str(link["bytes_in"]),
        str(link["bytes_out"]),
        str(link["round_trip_ms"]["mean"]),
        _counts(link["rejected"]),
        str(link["connections"]),
    )
    return table


def _units(units: dict[str, Any]) -> RenderableType:
    table = Table("unit", "state", "requests", "time-outs", "exceptions", "request ms", "register ms", "last error")
    for name, unit in list(units.items())[:SHOWN_UNITS]:
        cost = unit["cost"] or {}
        table.add_row(
            name,
            _state(unit["problem"] or unit["state"]),
            str(unit["requests"]),
            str(unit["timeouts"]),
            _counts(unit["exceptions"]),
            str(cost.get("request_ms", "")),
            str(cost.get("register_ms", "")),
            _short(unit["last_error"]) if unit["problem"] else "",
        )
    return table


def _rate(channel: str, requests: int, before: dict[str, tuple[float, int]]) -> str:
    """Return requests a second since the last look."""
    now = time.monotonic()
    then, count = before.get(channel, (now, requests))
    before[channel] = (now, requests)
    return f"{(requests - count) / (now - then):.0f}" if now > then and requests >= count else ""


def _percentile(link: dict[str, Any], share: float) -> str:
    """Return the upper bound of the bucket that a percentile of the round trips falls into."""
    buckets = (link.get("round_trip_ms") or {}).get("buckets") or {}
    wanted, passed = share * sum(buckets.values()), 0
    for bound, count in buckets.items():
        passed += count
        if passed >= wanted and passed:
            return f"<= {bound}" if bound != "inf" else "longer"
    return ""


def _counts(counts: dict[str, int]) -> str:
    return " ".join(f"{name}:{count}" for name, count in counts.items())


def _state(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, "red" if state.startswith("bad") else ""))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
