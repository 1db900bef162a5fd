"""`voltage config`: what is set, where it came from, and whether it is right."""

from __future__ import annotations

import json

import click
from rich.table import Table

from libs.config import load
from libs.errors import ConfigurationError, UnavailableError
from libs.services import SERVICES
from services.commands import config_files
from services.commands.api import console
from services.commands.examination import examine_site
from services.commands.settings_models import settings_model


@click.group()
def config() -> None:
    """Show settings with their source, check all files, or plan and apply what they change."""


for command in (config_files.plan, config_files.apply, config_files.rollback, config_files.versions):
    config.add_command(command)


@config.command()
@click.argument("service")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(service: str, as_json: bool) -> None:
    """Print each setting of a service with its value and where that came from; secrets are masked."""
    rows = list(load(settings_model(service), service).shown())
    if as_json:
        click.echo(json.dumps([dict(zip(("setting", "value", "source"), row, strict=True)) for row in rows], indent=1))
        return
    table = Table("setting", "value", "source")
    for row in rows:
        table.add_row(*row)
    console().print(table)


@config.command()
@click.argument("services", nargs=-1)
def check(services: tuple[str, ...]) -> None:
    """Check the configuration of every service, or of those named; all problems at once, exit 78.

    What only the functions in Redis know of definitions is tried in a Redis of its own, which nothing of the
    site reaches; exit 69 where there is no server to start.
    """
    found = examine_site(services)
    for text in found.warnings:
        click.echo(f"warning: {text}", err=True)
    if found.problems:
        raise ConfigurationError(found.problems)
    if found.untried:
        raise UnavailableError(
            f"the files are well formed, but what only the functions know was not checked: {found.untried}"
        )
    click.echo(f"{len(services or SERVICES)} services are configured well")
