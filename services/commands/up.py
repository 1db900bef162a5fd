"""`voltage up`."""

from __future__ import annotations

import asyncio

import click

from libs.config.versions import Versions
from libs.site import Site, load_site
from services.supervisor.console import View
from services.supervisor.supervisor import Options, Supervisor, check_names


@click.command()
@click.option("--single-process", is_flag=True, help="All services in one process, for machines with 1 GB.")
@click.option("--no-restart", is_flag=True, help="Leave a service down that dies, to look at what the rest does.")
@click.option("--without", multiple=True, metavar="NAME", help="Do not start this service (or: simulator). Repeatable.")
def up(single_process: bool, no_restart: bool, without: tuple[str, ...]) -> None:
    """Start Redis, the functions, the simulated devices and all services; Ctrl-C stops them.

    \b
    VOLTAGE_CONFIG_DIR  configuration (config/)
    VOLTAGE_DATA_DIR    what is kept (.data/)
    VOLTAGE_PORT_BASE   first port (6000); three of each are three sites
    VOLTAGE_REDIS_URL   a Redis of your own instead of ours
    """  # noqa: D301 - click takes the control character, not its name
    check_names(without)
    options = Options(single_process=single_process, restart=not no_restart, without=without)
    site = load_site()
    site.require_config()
    Versions(site.config_dir, site.data_dir).finish()
    asyncio.run(Supervisor(site, options, View(), page_link).run())


def page_link(site: Site) -> str:
    """Return an address of the page that logs its first administrator in, once.

    The token stands in the fragment, which reaches no server and no log.
    """
    from services.gateway import links

    return f"{site.settings.service_url('gateway')}/#link={links.create(site.data_dir)}"
