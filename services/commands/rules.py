"""`voltage rules`: what rules there are, why one fired or why not, and what they did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from libs.errors import InvalidError
from libs.numbers import readable
from services.commands.api import pages, request, show
from services.commands.definitions import listing
from services.commands.read import age, as_json, limited, timed, when
from services.commands.rules_library import library
from services.commands.shadows import add_shadow

WORDS: Final = {True: "true", False: "false", None: "unknown"}


@click.command()
@limited
@as_json
def _rules(limit: int, as_json: bool) -> None:
    """List the rules."""
    columns = {
        "id": "id", "name": "name", "enabled": "enabled", "priority": "priority", "group": "group",
        "cooldown ms": "cooldown_ms", "version": "version",
    }  # fmt: skip
    show(pages("/api/rules", {}, limit), columns, as_json=as_json, empty="no rules; see config/rules")


rules = listing("/api/rules", "rule", "Rules: why one fired or not, what it did, what it was before.", _rules)
add_shadow(rules, "/api/rules", "rule", "rules")
rules.add_command(library)


@rules.command()
@click.argument("rule")
@as_json
def explain(rule: str, as_json: bool) -> None:
    """Say what each condition of a rule is now, what is missing, when a hold ends, what its actions would do."""
    found = request(f"/api/rules/{rule}/explain")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    version = f", version {found['version']}" if "version" in found else ""
    click.echo(f"{found['rule']}: {found['name']} (priority {found['priority']}{version})")
    click.echo(f"{WORDS[found['result']]}: {found['why']}")
    if found["fired_at_ms"]:
        click.echo(f"fired {found['count']} times, the last at {when(found['fired_at_ms'])}")
    if found["cooldown_until_ms"]:
        click.echo(f"its cooldown ends at {when(found['cooldown_until_ms'])}")
    click.echo()
    for line in tree(found["conditions"], set(found["decided_by"]), 0):
        click.echo(line)
    if found["actions"]:
        click.echo("\nif it fired now:")
    for action in found["actions"]:
        click.echo("  " + (outcome(action) if "would" in action else f"{action['type']}: {outcome(action)}"))


@rules.command()
@click.argument("rule")
@click.option("--value", "given", multiple=True, metavar="SOURCE=VALUE", help="In the place of the present value.")
@click.option("--at", help="The instant windows of time are looked at: RFC 3339, Unix milliseconds, now, or -5m.")
@as_json
def evaluate(rule: str, given: tuple[str, ...], at: str | None, as_json: bool) -> None:
    """Say what a rule would decide with other values; it acts on nothing.

    voltage rules evaluate peak --value modsrv:grid:active_power=90 --at 2026-12-24T18:00:00+01:00
    """
    body = {"values": dict(_value(text) for text in given)} | ({"at_ms": at} if at else {})
    found = request(f"/api/rules/{rule}/evaluate", body=body)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{rule} would be {WORDS[found['result']]}")
    decided = set(found["decided_by"])
    for condition in found["conditions"]:
        click.echo(leaf(condition, decided, 1))


@rules.command()
@click.argument("rule", required=False)
@limited
@as_json
def firings(rule: str | None, limit: int, as_json: bool) -> None:
    """List what rules did, newest first: with which values, why, and what came of each action."""
    items = pages("/api/rules/firings", {"rule": rule}, limit)
    if not items and rule:
        # That of a rule that is none is no empty list; those of a deleted one stay.
        request(f"/api/rules/{rule}")
    if not as_json:
        items = [one | _in_words(one) for one in timed(items, when, "at_ms")]
    columns = {
        "at": "at_ms", "rule": "rule", "event": "event", "version": "version", "decided by": "branch",
        "inputs": "inputs", "actions": "actions",
    }  # fmt: skip
    show(items, columns, as_json=as_json, empty="no rule fired")


def _value(text: str) -> tuple[str, float | str]:
    source, separator, value = text.partition("=")
    if not separator:
        raise InvalidError(f"--value {text}: write SOURCE=VALUE, as in modsrv:grid:active_power=90")
    try:
        return source, float(value)
    except ValueError:
        return source, value


def _in_words(firing: dict[str, Any]) -> dict[str, str]:
    """Return the lists of a firing as people read them."""
    return {
        "branch": ", ".join(firing.get("branch") or []),
        "inputs": ", ".join(f"{one['ref']} {shown(one['value'])} {one['quality']}" for one in firing["inputs"]),
        "actions": ", ".join(f"{one['type']}: {outcome(one)}" for one in firing["actions"]),
    }


def shown(value: object) -> str:
    """Render a value of a condition."""
    return readable(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def outcome(action: dict[str, Any]) -> str:
    """Say what an action came to, or would."""
    over = f" (over {action['over']})" if action.get("over") else ""
    return str(action.get("problem") or action.get("result") or action.get("would") or "") + over


def tree(node: dict[str, Any], decided: set[str], depth: int) -> Iterator[str]:
    """Render a node and what is below it; a star marks what decides."""
    if "kind" not in node:
        yield leaf(node, decided, depth)
        return
    yield f"  {'  ' * depth}{WORDS[node['result']]:<8}{node['kind']}"
    for below in node["conditions"]:
        yield from tree(below, decided, depth + 1)


def leaf(node: dict[str, Any], decided: set[str], depth: int) -> str:
    """Render one condition: what it says, what it asks, what is there, what is missing, how long it holds."""
    star = "* " if node["path"] in decided else "  "
    text = f"{star}{'  ' * depth}{WORDS[node['result']]:<8}{asked(node)}"
    if "missing" in node:
        text += f": {node['missing']}"
    elif "time" not in node:
        since = f", {age(node['at_ms'])} old" if node.get("at_ms") else ""
        other = f" against {shown(node['other'])}" if "other" in node else ""
        text += f": is {shown(node['actual'])}{other} ({node['quality']}{since})"
    hold = node.get("hold", {})
    if hold.get("paused"):
        text += f"; its hold is paused with {hold['left_ms'] / 1000:g} s to go"
    elif hold.get("until_ms"):
        text += f"; until {when(hold['until_ms'])}"
    return text


def asked(node: dict[str, Any]) -> str:
    """Render what a condition asks."""
    if "time" in node:
        spec = node["time"]
        words = [spec["zone"], f"{spec.get('from', '00:00')} to {spec.get('to', '24:00')}"]
        words += [f"{name} {shown(spec[name])}" for name in ("days", "months", "dates", "except") if name in spec]
        return " ".join(words)
    source = node["source"]
    if "aggregate" in node:
        source = f"{node['aggregate']} of {source} over {node['window_ms'] / 1000:g} s"
    value = node.get("value")
    right = value["source"] if isinstance(value, dict) else shown(value) if value is not None else ""
    held = f" for {node['for_ms'] / 1000:g} s" if node.get("for_ms") else ""
    return f"{source} {node['operator']} {right}".rstrip() + held
