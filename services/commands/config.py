"""`voltage config`: what is set, where it came from, and whether it is right."""

from __future__ import annotations

import importlib
import json

import click
from rich.table import Table

from libs.config import load
from libs.config.load import examine
from libs.errors import ConfigurationError, Problem
from libs.services import SERVICES
from libs.site import load_site
from libs.validation import examined
from services.commands import config_files
from services.commands.api import console
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
    """Check the configuration of every service, or of those named; all problems at once, exit 78."""
    names = services or tuple(service.name for service in SERVICES)
    problems: list[Problem] = []
    checked = 0
    for name in names:
        try:
            check_service(name)
            checked += 1
        except ConfigurationError as error:
            problems += error.problems
    if not services:
        try:
            load_site().require_config()
            check_simulated()
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        # The same wrong variable is met by each service.
        raise ConfigurationError(list(dict.fromkeys(problems)))
    click.echo(f"{checked} services are configured well")


def check_service(name: str) -> None:
    """Check a service's settings, then the files it applies: point tables, or definitions.

    Raises:
        ConfigurationError: every problem of the settings, or every problem of the files.
    """
    if name == "comsrv":
        _check_tables()
    settings = load(settings_model(name), name).settings
    if name == "comsrv":
        from services.commands.points import check_capacity

        for text in check_capacity():
            click.echo(f"warning: {text}", err=True)
    else:
        desired = getattr(importlib.import_module(f"services.{name}.app"), "desired", None)
        if desired is not None:
            desired(settings)


def _check_tables() -> None:
    """Check comsrv.yaml, and where it is wrong also the tables of the channels it describes well.

    Raises:
        ConfigurationError: the problems of the file, then those of the tables.
    """
    from services.comsrv.channel import ChannelSettings
    from services.comsrv.settings import ComsrvSettings
    from services.comsrv.tables.site import load_site as load_tables

    site, (_, problems, _, document) = load_site(), examine(ComsrvSettings, "comsrv")
    if not problems:
        return
    data = document.data if isinstance(document.data, dict) else {}
    declared = data.get("channels")
    found = [
        (index, examined(ChannelSettings, item)[0])
        for index, item in enumerate(declared if isinstance(declared, list) else ())
    ]
    well = {index: channel for index, channel in found if channel is not None}
    places = list(well)
    settings = ComsrvSettings(port_base=site.settings.port_base, channels=tuple(well.values()))
    try:
        load_tables(site.config_dir, settings, lambda path: document.where((path[0], places[int(path[1])])))
    except ConfigurationError as error:
        problems += error.problems
    raise ConfigurationError(problems)


def check_simulated() -> None:
    """Check the simulated site where there is one."""
    file = load_site().config_dir / "simulate.yaml"
    if file.exists():
        from services.simulator.settings import load_settings

        load_settings(file)
