"""`voltage doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import json
import sys
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from libs.errors import ConfigurationError
from libs.site import Site, load_site
from services.commands import doctor_redis, doctor_site
from services.commands.api import console
from services.commands.findings import Check, Finding, run_check

COLORS: Final = {"ok": "green", "warning": "yellow", "error": "bold red"}
# In the order in which things depend on one another: the first error is the one to look at.
MACHINE: Final[tuple[Check, ...]] = (
    doctor_site.check_configuration,
    doctor_site.check_disk,
    doctor_site.check_secrets,
    doctor_site.check_redis_port,
)
REDIS: Final[tuple[Check, ...]] = (
    doctor_redis.check_redis_settings,
    doctor_redis.check_memory,
    doctor_redis.check_persistence,
    doctor_redis.check_functions,
    doctor_redis.check_schema,
    doctor_redis.check_clock,
)
SERVED: Final[tuple[Check, ...]] = (
    doctor_site.check_devices,
    doctor_site.check_rules,
    doctor_site.check_alarms,
    doctor_site.check_history,
    doctor_site.check_networks,
    doctor_site.check_ledger,
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One finding a line, for programs.")
@click.option("--all", "everything", is_flag=True, help="Show also what is well.")
def doctor(as_json: bool, everything: bool) -> None:
    """Look for what is wrong with this site; each finding says what to do. Exit 1 when there is an error."""
    try:
        found = examine(load_site())
    except ConfigurationError as error:
        # With settings that can't be read nothing else can be asked.
        remedy = "correct it; config/SETTINGS.md names all variables"
        found = [Finding("configuration", "error", str(problem), remedy) for problem in error.problems]
    if as_json:
        for finding in found:
            click.echo(json.dumps(finding._asdict(), ensure_ascii=False))
    else:
        show(found, everything=everything)
    sys.exit(1 if any(finding.state == "error" for finding in found) else 0)


def examine(site: Site) -> list[Finding]:
    """Run every check that can be run: what asks the gateway waits for Redis, functions and the gateway."""
    found = [finding for check in MACHINE for finding in run_check(check, site)]
    redis = run_check(doctor_redis.check_redis, site)
    found += [_with_remedy(finding, site) for finding in redis]
    if redis[0].state == "ok":
        found += [finding for check in REDIS for finding in run_check(check, site)]
    ports = run_check(doctor_site.check_ports, site)
    found += ports
    if not any(finding.state == "error" and "gateway" in finding.detail for finding in ports):
        found += [finding for check in SERVED for finding in run_check(check, site)]
    return found


def _with_remedy(finding: Finding, site: Site) -> Finding:
    if finding.state == "ok":
        return finding
    ours = "voltage up starts one; voltage logs redis says why it does not run"
    return finding._replace(remedy="check VOLTAGE_REDIS_URL" if site.settings.redis.url else ours)


def show(found: list[Finding], *, everything: bool) -> None:
    """Print the findings as a table; nothing in it is cut, it may be a path to paste."""
    table = Table("check", "state", show_lines=True)
    for title in ("what", "what to do"):
        table.add_column(title, overflow="fold")
    shown = [finding for finding in found if everything or finding.state != "ok"]
    for finding in shown:
        state = Text(finding.state, COLORS[finding.state])
        table.add_row(finding.check, state, Text(finding.detail), Text(finding.remedy))
    if shown:
        console().print(table)
    counts = {state: sum(finding.state == state for finding in found) for state in COLORS}
    click.echo(f"{counts['ok']} well, {_many(counts['warning'], 'warning')}, {_many(counts['error'], 'error')}")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
