"""`voltage functions`: the library of Redis Functions."""

from __future__ import annotations

import asyncio
import difflib
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from rich.table import Table

from libs.errors import InternalError, NotFoundError, StateError, UnavailableError, VoltageError
from libs.redis import bundle as bundler
from libs.redis import library
from libs.redis.client import NOT_LOADED, Client, connect
from libs.redis.functions import Functions
from libs.redis.resp import Connection
from libs.site import load_site
from services.commands import reference
from services.commands.api import console

T = TypeVar("T")


def with_client(work: Callable[[Client, str], Awaitable[T]]) -> T:
    """Run work with a client of the site's Redis and the site's namespace."""

    async def run() -> T:
        site = load_site()
        client = connect(site.redis_url())
        try:
            return await work(client, site.settings.namespace)
        finally:
            await client.aclose()

    return asyncio.run(run())


@click.group()
def functions() -> None:
    """Load, check, list, bundle or call the functions of the library `voltage`."""


@functions.command()
def load() -> None:
    """Load the library into the site's Redis, replacing an older one, and migrate its keys forward."""
    version = with_client(library.load)
    click.echo(f"loaded: api {version.api}, digest {version.digest}")


@functions.command()
def check() -> None:
    """Compare the library in Redis with this program's; exit 1 when they differ."""
    version = with_client(library.check)
    built = bundler.bundle()
    if version.digest != built.digest:
        raise StateError(f"Redis has digest {version.digest}, this is {built.digest}; run: voltage functions load")
    click.echo(f"the same: api {version.api}, digest {version.digest}")


@functions.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_functions(as_json: bool) -> None:
    """List the functions in the site's Redis."""
    found = _loaded()
    if not found:
        raise StateError("Redis has no function library; run: voltage functions load")
    described = {one.name: one.summary for one in reference.functions()}
    rows = [
        {
            "name": item["name"].decode(),
            "flags": sorted(flag.decode() for flag in item["flags"]),
            "description": described.get(item["name"].decode(), ""),
        }
        for item in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table("function", "flags", "what it does")
    for row in rows:
        table.add_row(row["name"], " ".join(row["flags"]), row["description"])
    console().print(table)


def _loaded() -> list[dict[str, Any]]:
    """Return the functions that the site's Redis has, by name; none without the library."""
    with Connection(load_site().redis_url()) as connection:
        libraries = connection.call("FUNCTION", "LIST", "LIBRARYNAME", bundler.LIBRARY)
    found = _fields(libraries[0])["functions"] if libraries else []
    return sorted((_fields(item) for item in found), key=lambda item: item["name"])


def _fields(reply: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


@functions.command()
def bundle() -> None:
    """Print the one Lua text that is loaded, for FUNCTION LOAD by other means."""
    click.echo(bundler.bundle().text, nl=False)


@functions.command()
@click.argument("name")
@click.option("-k", "--key", help="What the function is about: an id or a full key.")
@click.argument("arguments", nargs=-1)
def call(name: str, key: str | None, arguments: tuple[str, ...]) -> None:
    """Call one function: voltage functions call model_get -k pv1."""

    async def work(client: Client, namespace: str) -> bytes:
        return await Functions(client, namespace).call(name, key, *arguments)

    try:
        reply = with_client(work)
    except InternalError as error:
        # A defect names a line of the bundle; people want the file.
        raise InternalError(bundler.bundle().explain(str(error))) from None
    except UnavailableError as error:
        names = [item["name"].decode() for item in _loaded()] if NOT_LOADED in str(error) else []
        if not names:
            raise
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"near are {', '.join(near)}" if near else "see: voltage functions list"
        raise NotFoundError(f"there is no function {name}; {hint}") from None
    except VoltageError as error:
        click.echo(f"(error) {error.code} {error}", err=True)
        sys.exit(1)
    try:
        click.echo(json.dumps(json.loads(reply), indent=1, ensure_ascii=False))
    except (TypeError, ValueError):
        click.echo(reply.decode(errors="backslashreplace") if isinstance(reply, bytes) else str(reply))
