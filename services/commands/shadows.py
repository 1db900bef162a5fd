"""`voltage rules|alarms shadow`: run a change beside the active definition, and compare before it acts."""

from __future__ import annotations

from typing import Any

import click

from libs.errors import InvalidError, NotFoundError
from services.commands.api import cell, pages, request, show
from services.commands.caller import as_user
from services.commands.changes import changed, said, told
from services.commands.definitions import one, proposed
from services.commands.read import as_json, limited, timed, when

FIRINGS = 20


def add_shadow(group: click.Group, path: str, noun: str, section: str) -> None:
    """Add `shadow` to the commands of a kind of definition; `section` is its list in files."""
    shadow = click.Group(
        "shadow", help=f"Run {one(noun)} beside the active one: it acts on nothing, and both are noted."
    )
    group.add_command(shadow)
    for command in (
        _start(path, noun, section),
        _list(path, noun),
        _compare(path, noun),
        _promote(path, noun),
        _stop(path, noun),
    ):
        shadow.add_command(command)


def _start(path: str, noun: str, section: str) -> click.Command:
    @click.command(
        "start", help=f"Let {one(noun)} of a file, a version, or the active one with changes run as a shadow."
    )
    @click.argument("definition", metavar="ID")
    @click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True))
    @click.option("--version", type=int, help="A version that is kept, instead of a file.")
    @click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="As in conditions[0].value=85.")
    @click.option("--reason", help="It is kept with the shadow.")
    def start(
        definition: str, file: str | None, version: int | None, changes: tuple[str, ...], reason: str | None
    ) -> None:
        body: dict[str, Any] = {"reason": reason}
        if version is not None and not changes and file is None:
            body["version"] = version
        elif version is not None and file is not None:
            raise InvalidError("give FILE or --version, not both")
        else:
            body["definition"] = changed(said(path, definition, file, version, section), changes)
        request(f"{path}/{definition}/shadow", body=body, role="engineer", method="PUT")
        click.echo(f"a shadow of {noun} {definition} runs; what differs: shadow compare {definition}")

    return start


def _list(path: str, noun: str) -> click.Command:
    @click.command("list", help=f"List the {noun}s that run as shadows.")
    @limited
    @as_json
    def listed(limit: int, as_json: bool) -> None:
        items = pages(f"{path}/shadows", {}, limit)
        shown = items if as_json else timed(items, when, "started_at_ms")
        columns = {noun: "of", "since": "started_at_ms", "on": "active", "says": "result", "by": "by", "why": "reason"}
        show(shown, columns, as_json=as_json, empty="no shadow runs")

    return listed


def _compare(path: str, noun: str) -> click.Command:
    @click.command("compare", help=f"Show when a shadow and the active {noun} differed, and what it would do.")
    @click.argument("definition", metavar="ID")
    @click.option("--start", default="-1d", show_default=True)
    @click.option("--end", default="now", show_default=True)
    @as_json
    def compare(definition: str, start: str, end: str, as_json: bool) -> None:
        found = request(f"{path}/{definition}/shadow/comparison", {"start": start, "end": end})
        if as_json:
            show([found], {}, as_json=True, empty="")
            return
        if found["changes"]:
            click.echo(f"the shadow says {told(found['changes'])}")
        click.echo(
            f"from {when(found['start_ms'])} to {when(found['end_ms'])} they were the same"
            f" for {found['same_percent']} % of the time"
        )
        sides = [{"who": who, "s": round(found[who]["on_ms"] / 1000, 1)} | found[who] for who in ("active", "shadow")]
        show(sides, {"": "who", "fired": "fired", "seconds on": "s", "on now": "on"}, as_json=False, empty="")
        rows = [
            {"from": when(one["from_ms"]), "to": when(one["to_ms"]) or "still", "only": one["only"],
             "by": one["began_by"], "saw": _seen(one["inputs"])}
            for one in found["differences"]
        ]  # fmt: skip
        columns = {"from": "from", "to": "to", "only this is on": "only", "by a turn of": "by", "which saw": "saw"}
        show(rows, columns, as_json=False, empty="no difference")
        apart = [
            {"at": when(one["at_ms"]), **{who: _came_to(one[who]) for who in ("active", "shadow")}}
            for one in found["apart"][-FIRINGS:]
        ]
        if apart:
            click.echo(f"firings that differ, the last {len(apart)} of {len(found['apart'])}:")
            show(apart, {"at": "at", "active": "active", "shadow": "shadow"}, as_json=False, empty="")
        for kind, counts in found["actions"].items():
            click.echo(f"the shadow's {kind}: {', '.join(f'{count} {what}' for what, count in counts.items())}")

    return compare


def _promote(path: str, noun: str) -> click.Command:
    @click.command("promote", help=f"Put a shadow in the place of the active {noun}, as a new version.")
    @click.argument("definition", metavar="ID")
    @click.option("--reason", help="It is kept with the version; without it, that of the shadow.")
    @as_user
    def promote(definition: str, reason: str | None) -> None:
        if _marked(f"{path}/{definition}"):
            shadow = request(f"{path}/{definition}/shadow")
            body = {"definition": shadow["definition"], "reason": reason or shadow.get("reason")}
            click.echo(proposed(path, definition, body))
            return
        done = request(f"{path}/{definition}/shadow/promote", body={"reason": reason}, role="engineer")
        click.echo(f"{noun} {definition} says what its shadow said; that is version {done['version']}")

    return promote


def _marked(url: str) -> bool:
    """Say whether the active one requires approval; there need be none."""
    try:
        return request(url).get("requires_approval") is True
    except NotFoundError:
        return False


def _stop(path: str, noun: str) -> click.Command:
    @click.command("stop", help="End a shadow; what was noted goes with it.")
    @click.argument("definition", metavar="ID")
    def stop(definition: str) -> None:
        request(f"{path}/{definition}/shadow", role="engineer", method="DELETE")
        click.echo(f"the shadow of {noun} {definition} is gone")

    return stop


def _came_to(actions: list[dict[str, Any]] | None) -> str:
    if actions is None:
        return "did not fire"
    return "; ".join(str(one.get("problem") or one.get("would") or one["type"]) for one in actions) or "fired"


def _seen(inputs: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['ref']} {cell(one['value'])}" for one in inputs[:4])
