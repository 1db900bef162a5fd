"""Who calls: the name that versions, proposals and journals keep of a person at the command line."""

from __future__ import annotations

import os
import pwd
import re
from contextvars import ContextVar
from typing import Final

import click

# A name is one word, and no colon: "file:ann" is what ann applied from a file.
_NAME: Final = re.compile(r"[^\s:\x00-\x1f\x7f]{1,64}")

# What --user said: threads that a command asks the API in see it, and not click's context.
_named: Final[ContextVar[str | None]] = ContextVar("user", default=None)


def _take(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    if name is None:
        if ctx.parent is None:
            _named.set(None)
        return
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} must be one word of at most 64 characters, without a colon")
    _named.set(name)


as_user = click.option(
    "--user",
    metavar="NAME",
    expose_value=False,
    callback=_take,
    help="Who you are, in versions and journals; without it your login name.",
)


def caller() -> str:
    """Return what --user said, else the login name.

    It is the name of who logged in at this machine, also behind sudo; no variable of the
    environment counts.
    """
    named = _named.get()
    if named is not None:
        return named
    try:
        return os.getlogin()
    except OSError:  # Nobody logged in: a container, a job of systemd.
        number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"
