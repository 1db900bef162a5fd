"""`voltage link`."""

from __future__ import annotations

import click

from libs.http.tokens import Role
from libs.site import load_site
from services.gateway import links


@click.command()
@click.option("--user", default=links.FIRST_USER, show_default=True, help="Who logs in; a new user is created.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default="admin", show_default=True)
@click.option("--url", metavar="ADDRESS", help="Address of the page, as https://site.example; else the gateway's own.")
def link(user: str, role: str, url: str | None) -> None:
    """Print a link to the page that logs a user in, once; it lasts a working day."""
    site = load_site()
    address = (url or site.settings.service_url("gateway")).rstrip("/")
    click.echo(f"{address}/#link={links.create(site.data_dir, user=user, role=role)}")
