"""`voltage config`: what is set, where it came from, and whether it is right."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from libs.config import load
from libs.errors import ConfigurationError, Problem
from libs.services import SERVICES
from services.commands.settings_models import settings_model
from services.supervisor.site import load_site


@click.group()
def config() -> None:
    """Show the settings of a service with their source, or check them all."""


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
    Console().print(table)


@config.command()
@click.argument("services", nargs=-1)
def check(services: tuple[str, ...]) -> None:
    """Check the configuration of every service, or of those named; all problems at once, exit 78."""
    names = services or tuple(service.name for service in SERVICES)
    problems: list[Problem] = []
    checked = 0
    for name in names:
        try:
            load(settings_model(name), name)
            if name == "comsrv":
                from services.commands.points import read_site

                read_site()
            checked += 1
        except ConfigurationError as error:
            problems += error.problems
    if not services:
        try:
            check_simulated()
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        # The same wrong variable is met by each service.
        raise ConfigurationError(list(dict.fromkeys(problems)))
    click.echo(f"{checked} services are configured well")


def check_simulated() -> None:
    """Check the simulated site where there is one."""
    file = load_site().config_dir / "simulate.yaml"
    if file.exists():
        from services.simulator.settings import load_settings

        load_settings(file)
