"""`voltage redis-server`: our Redis alone, configured as `voltage up` does; for systemd."""

from __future__ import annotations

import os
import time
from typing import Final

import click

from libs.errors import UnavailableError
from libs.redis import server
from libs.site import SECRET_FILE, Site, load_site, private_directory

WAIT_S: Final = 60.0
PAUSE_S: Final = 0.1


@click.command("redis-server")
@click.option("--wait", is_flag=True, help="Start nothing: wait until it answers, at most a minute.")
def redis_server(wait: bool) -> None:
    """Become the Redis of this site; `voltage up` starts the same by itself."""
    site = load_site()
    if wait:
        click.echo(wait_for(site))
        return
    binary = server.find_binary(site.settings.redis.server)
    private_directory(site.data_dir)
    file = server.configure(site)
    click.echo(f"Redis: {binary} on 127.0.0.1:{site.redis_port}, data in {site.redis_dir}")
    os.execv(binary.path, [str(binary.path), str(file)])  # noqa: S606 - the command is our own list


def wait_for(site: Site, timeout_s: float = WAIT_S) -> str:
    """Wait until the site's Redis serves us; return its name, version and address.

    Raises:
        UnavailableError: it did not in time; the message says why.
        ConfigurationError: it answers, and can't serve us.
    """
    end = time.monotonic() + timeout_s
    while True:
        try:
            _check_password(site)
            return server.probe(site.redis_url())
        except UnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)


def _check_password(site: Site) -> None:
    """Refuse while our own Redis has no password yet: it is about to be started for the first time."""
    if not site.settings.redis.url and not (site.redis_dir / SECRET_FILE).exists():
        raise UnavailableError(f"no Redis was started yet with {site.redis_dir}")
