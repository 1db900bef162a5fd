"""Load the library `voltage` into a server, and check that a server has the one we were built with."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from libs.errors import StateError, UnavailableError
from libs.redis import bundle, keys, migrations
from libs.redis.client import NOT_LOADED, Client, execute


class Version(NamedTuple):
    """What a server answers to voltage_version."""

    api: int
    digest: str


async def version(client: Client) -> Version | None:
    """Return the loaded library's version, or None when it is not loaded."""
    try:
        reply: bytes = await execute(client, "FCALL_RO", "voltage_version", 0)
    except UnavailableError as error:
        if NOT_LOADED in str(error):
            return None
        raise
    document = orjson.loads(reply)
    return Version(document["api"], document["digest"])


async def load(client: Client, namespace: str = "") -> Version:
    """Load the bundle (replacing an older one) and migrate the keys forward to its schema.

    Raises:
        StateError: the keys were written by a newer version than this one.
    """
    built = bundle.bundle()
    # First of all: functions of this version would not know keys of a newer one.
    await migrations.stored(client, namespace)
    await execute(client, "FUNCTION", "LOAD", "REPLACE", built.text)
    await migrations.migrate(client, namespace)
    return Version(bundle.API, built.digest)


async def check(client: Client, namespace: str = "") -> Version:
    """Refuse a server whose library or schema does not fit this program.

    Raises:
        StateError: what differs, and the command to run.
    """
    found = await version(client)
    if found is None:
        raise StateError("Redis has no function library; run: voltage functions load")
    if found.api != bundle.API:
        raise StateError(f"Redis has function api {found.api}, this is api {bundle.API}; run: voltage functions load")
    schema = await migrations.stored(client, namespace)
    if schema is not None and schema < keys.SCHEMA:
        raise StateError(f"the keys have schema {schema}, this is schema {keys.SCHEMA}; run: voltage functions load")
    return found
