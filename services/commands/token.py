"""`voltage token`."""

from __future__ import annotations

import click

from libs.config import Settings
from libs.http.tokens import Role, issue, signing_key
from libs.site import load_site
from services.commands.caller import as_user, caller


def make_token(settings: Settings, user: str, role: str, ttl_s: int) -> str:
    """Return an API token of this site, for who may read its data directory."""
    return issue(signing_key(settings), user, Role(role), ttl_s)


@click.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True)
@click.option("--ttl", default=3600, show_default=True, type=click.IntRange(1, 366 * 86400), help="Seconds it lasts.")
@as_user
def token(role: str, ttl: int) -> None:
    """Make an API token; it is the last line printed."""
    click.echo(make_token(load_site().settings, caller(), role, ttl))
