"""`voltage rules|models|alarms|mappings versions|diff|rollback`: the history of definitions, one way for every kind."""

from __future__ import annotations

from typing import Any

import click

from services.commands.api import pages, request, show
from services.commands.caller import as_user
from services.commands.changes import changed, said, show_changes, told
from services.commands.read import as_json, limited, timed, when
from services.commands.read import models as _models


class Listing(click.Group):
    """A group that lists what it is about when no command of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command `list` in front of options and names."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def one(noun: str) -> str:
    """Return a noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listing(path: str, noun: str, text: str, default: click.Command) -> Listing:
    """Return a group that lists definitions, and shows and changes their history."""
    group = Listing(help=f"{text}\n\nWithout a command: {default.help}")
    group.add_command(default, "list")
    add_history(group, path, noun, f"{noun}s")
    return group


def add_history(group: click.Group, path: str, noun: str, section: str) -> None:
    """Add the commands that concern the history of a kind of definition; `section` is its list in files."""

    @group.command(help=f"List the versions of {one(noun)}, newest first, also of one that is deleted.")
    @click.argument("definition", metavar="ID")
    @as_json
    def versions(definition: str, as_json: bool) -> None:
        items = request(f"{path}/{definition}/versions")["items"]
        shown = items if as_json else timed(items, when, "at_ms")
        columns = {
            "version": "version", "when": "at_ms", "what": "action", "of": "of_version", "who": "author",
            "approved by": "approved_by", "why": "reason", "hash": "hash",
        }  # fmt: skip
        show(shown, columns, as_json=as_json, empty="no version is kept")

    @group.command(help=f"Show what differs between two versions of {one(noun)}; without numbers the last change.")
    @click.argument("definition", metavar="ID")
    @click.argument("old", type=int, required=False, metavar="[FROM")
    @click.argument("new", type=int, required=False, metavar="TO]")
    @as_json
    def diff(definition: str, old: int | None, new: int | None, as_json: bool) -> None:
        found = request(f"{path}/{definition}/diff", {"from": old, "to": new})
        show_changes(
            found["changes"], as_json=as_json, empty=f"versions {found['from']} and {found['to']} say the same"
        )

    @group.command(help=f"Bring a version of {one(noun)} back as its newest one.")
    @click.argument("definition", metavar="ID")
    @click.argument("version", type=int)
    @click.option("--reason", help="Why; it is kept with the version.")
    @as_user
    def rollback(definition: str, version: int, reason: str | None) -> None:
        body = {"version": version, "reason": reason}
        done = request(f"{path}/{definition}/rollback", body=body, role="engineer")
        click.echo(f"{noun} {definition} says what it said in version {version}; that is version {done['version']} now")

    add_proposals(group, path, noun, section)


def add_proposals(group: click.Group, path: str, noun: str, section: str) -> None:
    """Add the commands that concern proposals, for definitions that require approval."""

    @group.command(help=f"List proposed changes of {noun}s that require approval, newest first.")
    @click.option("--status", help="pending, approved, rejected or expired.")
    @limited
    @as_json
    def proposals(status: str | None, limit: int, as_json: bool) -> None:
        items = pages(f"{path}/proposals", {"status": status}, limit)
        for item in [] if as_json else items:
            item["changes"] = told(item.get("changes", []))
        shown = items if as_json else timed(items, when, "created_at_ms", "expires_at_ms")
        columns = {
            "id": "id", noun: "of", "action": "action", "what": "changes", "status": "status", "by": "by",
            "why": "reason", "made": "created_at_ms", "until": "expires_at_ms", "decided by": "decided_by",
            "comment": "comment",
        }  # fmt: skip
        show(shown, columns, as_json=as_json, empty="no proposals")

    @group.command(help=f"Propose a change of {one(noun)} that requires approval; another person approves it.")
    @click.argument("definition", metavar="ID")
    @click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True))
    @click.option("--version", type=int, help="Bring this version back.")
    @click.option("--delete", is_flag=True, help="Delete it.")
    @click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="As in conditions[0].value=85.")
    @click.option("--reason", help="It is kept with the version.")
    @as_user
    def propose(
        definition: str,
        file: str | None,
        version: int | None,
        delete: bool,
        changes: tuple[str, ...],
        reason: str | None,
    ) -> None:
        body: dict[str, Any] = {"version": version, "delete": delete, "reason": reason}
        if version is None and not delete:
            body["definition"] = changed(said(path, definition, file, None, section), changes)
        click.echo(proposed(path, definition, body))

    for name, text in (("approve", "Approve a proposal; it is carried out."), ("reject", "Reject a proposal.")):
        group.add_command(_decision(path, name, text))


def proposed(path: str, definition: str, body: dict[str, Any]) -> str:
    """Propose a change, and return the line that says so."""
    made = request(f"{path}/{definition}/proposals", body=body, role="engineer")
    return f"proposal {made['id']} waits for another person until {when(made['expires_at_ms'])}"


def _decision(path: str, name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("definition", metavar="ID")
    @click.argument("proposal")
    @click.option("--comment", help="It is kept with the proposal.")
    @as_user
    def decide(definition: str, proposal: str, comment: str | None) -> None:
        body = {"comment": comment}
        done = request(f"{path}/{definition}/proposals/{proposal}/{name}", body=body, role="engineer")
        click.echo(f"proposal {proposal} is {done['status']}")

    return decide


@click.command()
@limited
@as_json
def _mappings(limit: int, as_json: bool) -> None:
    """List the mappings."""
    columns = {"id": "id", "source": "source", "measurement": "measurement", "enabled": "enabled", "version": "version"}
    empty = "no mappings; every telemetry and signal point is recorded on change"
    show(pages("/api/history/mappings", {}, limit), columns, as_json=as_json, empty=empty)


mappings = listing("/api/history/mappings", "mapping", "What is recorded, and what was before.", _mappings)
models = listing("/api/models", "model", "Models, their values, and what they were before.", _models)
