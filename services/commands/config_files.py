"""`voltage config plan|apply|rollback|versions`: what the files would change, changing it, and going back."""

from __future__ import annotations

from typing import Any, Final

import click

from services.commands.api import cell, request, show
from services.commands.read import when

SHOWN: Final = 60
# Of a large site every definition is tried before the first is changed.
TIMEOUT_S: Final = 600.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One change a line, for programs.")
def plan(as_json: bool) -> None:
    """Show what the files would change of the running site, down to the point."""
    found = ask("plan", {})
    show_changes(found, as_json=as_json, made=False)


@click.command()
@click.option("--reason", help="Why; it is kept with the version.")
@click.option("--json", "as_json", is_flag=True, help="One change a line, for programs.")
def apply(reason: str | None, as_json: bool) -> None:
    """Bring the running site in line with the files; what did not change is not touched."""
    found = ask("apply", {"reason": reason})
    show_changes(found, as_json=as_json, made=True)
    if not as_json:
        click.echo(f"The files are kept as version {found['version']}.")


@click.command()
@click.argument("version", type=int, required=False)
@click.option("--reason", help="Why; it is kept with the version.")
@click.option("--json", "as_json", is_flag=True, help="One change a line, for programs.")
def rollback(version: int | None, reason: str | None, as_json: bool) -> None:
    """Bring a version of the files back (the one before the last) and apply it."""
    found = ask("rollback", {"version": version, "reason": reason})
    show_changes(found, as_json=as_json, made=True)
    if not as_json:
        click.echo(f"The files are kept as version {found['version']}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One version a line, for programs.")
def versions(as_json: bool) -> None:
    """List the kept versions of the files."""
    items = request("/api/config/versions", role="engineer")["items"]
    shown = items if as_json else [item | {"at_ms": when(item["at_ms"])} for item in items]
    columns = {"version": "number", "when": "at_ms", "who": "author", "why": "reason"}
    show(shown, columns, as_json=as_json, empty="no version is kept yet")


def ask(what: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the gateway for a plan, or to carry one out."""
    found: dict[str, Any] = request(f"/api/config/{what}", body=body, role="engineer", timeout_s=TIMEOUT_S)
    return found


def show_changes(found: dict[str, Any], *, as_json: bool, made: bool) -> None:
    """Print changes, one row a difference; `made` says that they are done."""
    changes = found["changes"]
    if untried := found.get("untried"):
        click.echo(f"warning: the functions were not asked beforehand whether they take this: {untried}", err=True)
    rows = changes if as_json else [row for change in changes for row in _rows(change)]
    columns = {
        "service": "service", "what": "what", "action": "action", "where": "path", "is": "old", "becomes": "new",
    }  # fmt: skip
    show(rows, columns, as_json=as_json, empty="Nothing changed." if made else "The files say what runs.")


def _rows(change: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row a difference; long values are cut, as --json has them whole."""
    head = {"service": change["service"], "what": f"{change['kind']} {change['id']}", "action": change["action"]}
    return [
        head | {"path": one["path"], "old": _cut(one["old"]), "new": _cut(one["new"])} for one in change["changes"]
    ] or [head]


def _cut(value: Any) -> str:
    text = cell(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
