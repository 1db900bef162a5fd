"""`voltage alarms acknowledge|resolve|shelve|suppress|...`: what an operator does to alarms, and what is quiet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import click

from libs.errors import InvalidError, NotFoundError, StateError, VoltageError
from libs.instants import UNITS_MS, parse_duration
from services.commands.api import pages, request, show
from services.commands.caller import as_user
from services.commands.read import as_json, when

LONGEST_MS: Final = UNITS_MS["d"]
NAMED: Final = 5  # so many of the open alarms are named to somebody who meant another
HAND: Final = "hand:"
_MOST: Final = re.compile(r"duration_ms must be an integer from 1 to (\d+)")

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

commented = click.option("--comment", help="Why; it is kept in the journal.")
alarm_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...")
names = click.argument("ids", nargs=-1, required=True, metavar="NAME...")


class InOrder(click.Group):
    """A group whose commands are listed as they were added, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        del ctx
        return list(self.commands)


def _span(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Take a time with its unit: 30 would be milliseconds, which nobody means."""
    if text is None:
        return None
    if text.isdecimal():
        raise click.BadParameter(f"{text} of what? write {text}m or {text}h")
    try:
        span = parse_duration(text)
    except InvalidError as error:
        raise click.BadParameter(str(error)) from None
    if span > LONGEST_MS:
        raise click.BadParameter(f"{text} is longer than 24h, the most that an alarm is shelved for")
    return span


@click.command()
@alarm_ids
@click.option("--for", "duration_ms", callback=_span, metavar="TIME", help="For so long: 30m, 8h, at most 24h.")
@click.option("--once", is_flag=True, help="Until its condition ends.")
@commented
@as_json
@as_user
def shelve(ids: tuple[str, ...], duration_ms: int | None, once: bool, comment: str | None, as_json: bool) -> None:
    """Keep alarms quiet for a time; they stand, and nobody is told of them.

    ID is an alarm, or alarm:DEFINITION, also while none of it is open.
    """
    if once is (duration_ms is not None):
        raise click.UsageError("say for how long: --for 30m, or --once, until its condition ends")
    span = {"one_shot": True} if once else {"duration_ms": duration_ms}
    _carry_out(ids, "shelve", span | {"comment": comment}, as_json=as_json)


def _doing(name: str, text: str, argument: Decorator, verb: str, body: dict[str, Any], role: str) -> click.Command:
    """Return a command that does one thing to each of those named."""

    @click.command(name, help=text)
    @argument
    @commented
    @as_json
    @as_user
    def command(ids: tuple[str, ...], comment: str | None, as_json: bool) -> None:
        _carry_out(ids, verb, body | {"comment": comment}, as_json=as_json, role=role)

    return command


def _by_hand(verb: str, text: str) -> click.Command:
    """Return a command of an operator."""
    return _doing(verb, text, alarm_ids, verb, {}, "operator")


def _by_design(name: str, verb: str, body: dict[str, Any], text: str) -> click.Command:
    """Return a command of an engineer, which takes names of many alarms, too."""
    return _doing(name, f"{text}\n\n{NAMES}", names, verb, body, "engineer")


acknowledge = _by_hand("acknowledge", "Say that you have seen alarms; one whose condition has ended is resolved by it.")
resolve = _by_hand("resolve", "Close alarms by hand; not while their condition stands.")
unshelve = _by_hand("unshelve", "End the shelving of alarms.")

NAMES: Final = (
    "NAME is an alarm, alarm:DEFINITION, group:GROUP, equipment:EQUIPMENT, comsrv:CHANNEL or comsrv:CHANNEL:unit:UNIT."
)
suppress = _by_design("suppress", "suppress", {}, "Suppress alarms by design, as while their plant is started up.")
unsuppress = _by_design("unsuppress", "unsuppress", {}, "End a suppression by a person.")
out_of_service = _by_design("out-of-service", "out-of-service", {}, "Take alarms out of service for maintenance.")
in_service = _by_design("in-service", "out-of-service", {"in_service": True}, "Return alarms to service.")


@click.command()
@as_json
def marks(as_json: bool) -> None:
    """List what is shelved, suppressed or out of service, whether an alarm of it is open or not."""
    items = request("/api/alarms/marks")["items"]
    if not as_json:
        items = [one | _in_words(one) for one in items]
    columns = {"what": "kind", "of": "name", "by": "by", "since": "at_ms", "until": "until_ms", "why": "comment"}
    show(items, columns, as_json=as_json, empty="nothing is shelved, suppressed or out of service")


COMMANDS: Final = (
    acknowledge, resolve, shelve, unshelve, suppress, unsuppress, out_of_service, in_service, marks,
)  # fmt: skip


def _in_words(mark: dict[str, Any]) -> dict[str, str]:
    """Return a mark as people read it; the name of an alarm by hand is its id, as the commands take it."""
    until = when(mark.get("until_ms"))
    return {
        "kind": mark["kind"].replace("_", " "),
        "name": mark["name"].removeprefix(HAND),
        "at_ms": when(mark["at_ms"]),
        "until_ms": f"its condition ends, at most {until}" if mark.get("one_shot") else until,
    }


def _carry_out(ids: tuple[str, ...], verb: str, body: dict[str, Any], *, as_json: bool, role: str = "operator") -> None:
    """Do one thing to each, and say what each is now; what is refused does not keep the rest from it."""
    refused: list[VoltageError] = []
    for name in dict.fromkeys(ids):
        try:
            found = request(f"/api/alarms/{quote(name, safe=':')}/{verb}", body=body, role=role)
        except (NotFoundError, StateError, InvalidError) as error:
            refused.append(_explained(error, name))
        else:
            click.echo(json.dumps(found, ensure_ascii=False) if as_json else stands(found))
    for said in refused:
        click.echo(f"voltage: {said}", err=True)
    if refused:
        sys.exit(1)


def stands(found: dict[str, Any]) -> str:
    """Say how an alarm, or a name without an open one, stands: `al-1 Door open: New, shelved by anna until ...`."""
    said = [found["status"]] if "status" in found else []
    if shelved := found.get("shelved"):
        once = "its condition ends, at most " if shelved.get("one_shot") else ""
        said.append(f"shelved by {shelved['by']} until {once}{when(shelved['until_ms'])}")
    for word in ("suppressed", "out_of_service"):
        if held := found.get(word):
            at = held.get("name", "")
            where = "" if at in {"", found.get("origin"), found.get("name"), HAND + found.get("id", "")} else f" ({at})"
            said.append(f"{word.replace('_', ' ')} by {held['by']}{where}")
    name = f"{found['id']} {found['title']}" if "id" in found else found["name"]
    return f"{name}: {', '.join(said) or 'not shelved, not suppressed, in service'}"


def _explained(error: VoltageError, name: str) -> VoltageError:
    """Return a refusal in the words of the command: the time an alarm may be shelved for, or which alarms are open."""
    if most := _MOST.fullmatch(str(error)):
        return InvalidError(f"{name} may be shelved for at most {int(most[1]) / UNITS_MS['m']:g} min (max_shelve_ms)")
    gone = isinstance(error, NotFoundError) or str(error).endswith(" is Resolved")
    if ":" in name or not gone:
        return error
    found = pages("/api/alarms", {"active": "true"}, NAMED + 1)
    own = next((one["id"] for one in found if one.get("definition") == name), None)
    if own:
        said = f"the open alarm of definition {name} is {own}"
    elif found:
        shown = ", ".join(f"{one['id']} ({one['title']})" for one in found[:NAMED])
        said = f"open are {shown}" + (", and more: voltage alarms" if len(found) > NAMED else "")
    else:
        said = "no alarm is open"
    return type(error)(f"{error}; {said}")
