"""Steps that bring keys of an older version up to this one, each from one schema number to the next.

A step is safe to run again from its beginning: a loader may be killed in the
middle, or two may run at once. It takes keys of the number before and leaves
keys of its own; the number is written after it, so that a step counts only
when it is done. It runs after the new functions are loaded: what they write
meanwhile has the new form already.

To add one: write the step, append it to `MIGRATIONS`, raise `keys.SCHEMA`, run
`python -m libs.redis.keys`, and test it on keys written out as the version
before wrote them.
"""

from __future__ import annotations

import importlib.metadata
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import orjson

from libs.clock import now_ms
from libs.errors import StateError
from libs.redis import keys
from libs.redis.client import Client, execute, translated

FIRST: Final = 1


class Migration(NamedTuple):
    """One step: the schema it leads to, what it does in words, and the work on a prefix."""

    schema: int
    name: str
    run: Callable[[Client, str], Awaitable[None]]


async def _begin_record(client: Client, prefix: str) -> None:
    """Begin the record of migrations with the schema that these keys had without one.

    With the number alone nobody could tell a site that was always of schema 5
    from one that came there over four steps, which is what one asks first when
    old keys look odd.
    """
    entry = orjson.dumps({"name": "as first written", "at_ms": None, "voltage": None})
    await client.hsetnx(prefix + keys.key("migrations"), str(FIRST), entry)


async def _order_alarms(client: Client, prefix: str) -> None:
    """Order the alarms of a status by creation, in place of one list of all and a set a status.

    Lists of 10,000 open alarms among 100,000 closed ones need not look at the closed ones then.
    """
    everything = prefix + "alarmsrv:alarms:all"
    # Clients do not decode, so a name comes as bytes whatever the library's types say.
    members: Any = client.zscan_iter(everything, count=1000)
    async for member, created in members:
        alarm = member.decode()
        status: Any = await client.hget(prefix + keys.key("alarm", id=alarm), "status")
        if status is not None:
            await client.zadd(prefix + keys.key("alarms_in", status=status.decode()), {alarm: created})
    sets = [f"{prefix}alarmsrv:alarms:by_status:{status}" for status in ("New", "Acknowledged", "Returned", "Resolved")]
    await client.delete(everything, *sets)


# Counting and writing in one step: an alarm that turns meanwhile is in the count or comes on top of it.
_COUNT: Final = """
for i = 3, #KEYS do
  redis.call('HSET', KEYS[2], ARGV[i - 2], redis.call('SINTERCARD', 2, KEYS[1], KEYS[i]))
end
"""


async def _index_alarms(client: Client, prefix: str) -> None:
    """Index alarms by area, equipment and what keeps them quiet, and count the open ones of each level."""
    fields = ("area", "equipment", "shelved_by", "suppressed_by", "out_of_service_by")
    for status in ("New", "Acknowledged", "Returned", "Resolved"):
        members: Any = client.zscan_iter(prefix + keys.key("alarms_in", status=status), count=1000)
        async for member, _ in members:
            said: Any = await client.hmget(prefix + keys.key("alarm", id=member.decode()), *fields)
            for name, value in zip(fields, said, strict=True):
                if not value:
                    continue
                if name in {"area", "equipment"}:
                    index = keys.key(f"alarms_by_{name}", **{name: value.decode()})
                else:
                    index = keys.key("alarms_quiet", why=name.removesuffix("_by"))
                await client.sadd(prefix + index, member)
    levels = ("Critical", "Major", "Minor", "Warning", "Info")
    names = ["alarms_active", "alarms_counts"]
    touched = [prefix + keys.key(name) for name in names]
    touched += [prefix + keys.key("alarms_by_level", level=level) for level in levels]
    await execute(client, "EVAL", _COUNT, len(touched), *touched, *levels)


async def _gather_conditions(client: Client, prefix: str) -> None:
    """Keep what the definitions' conditions say in one hash: a storm of alarms writes one command then."""
    members: Any = client.sscan_iter(prefix + keys.key("definitions"), count=1000)
    async for member in members:
        state = prefix + keys.key("definition_state", id=member.decode())
        truth, active = await execute(client, "HMGET", state, "truth", "active")
        if truth or active:
            await client.hsetnx(prefix + keys.key("conditions"), member.decode(), (truth or b"?") + (active or b"0"))
            await client.hdel(state, "truth", "active")
    # Whoever has looked at definitions meanwhile looks at them again.
    await client.set(prefix + keys.key("generation"), secrets.token_hex(16))


MIGRATIONS: Final = (
    Migration(2, "migrations are recorded", _begin_record),
    Migration(3, "the alarms of a status are ordered", _order_alarms),
    Migration(4, "alarms are indexed by area, equipment and quiet ones, open ones are counted", _index_alarms),
    Migration(5, "what alarm definitions say is one hash", _gather_conditions),
)


async def stored(client: Client, namespace: str = "") -> int | None:
    """Return the schema number of a namespace's keys; None where nothing was written yet.

    Raises:
        StateError: a newer version wrote them.
    """
    with translated():
        found = await client.get(keys.prefix(namespace) + keys.key("schema"))
    if found is not None and int(found) > keys.SCHEMA:
        raise StateError(f"the keys have schema {int(found)}, newer than {keys.SCHEMA}; run a newer voltage")
    return None if found is None else int(found)


async def migrate(client: Client, namespace: str = "") -> list[str]:
    """Bring a namespace's keys to the present schema, step by step; return what was done.

    Raises:
        StateError: a newer version wrote them.
    """
    prefix = keys.prefix(namespace)
    schema = await stored(client, namespace)
    done: list[str] = []
    with translated():
        if schema is None:
            # Nothing is there to be migrated; of two first loaders both write the same.
            await client.set(prefix + keys.key("schema"), keys.SCHEMA)
            return done
        for step in MIGRATIONS:
            if step.schema <= schema:
                continue
            await step.run(client, prefix)
            await _record(client, prefix, step)
            done.append(f"{step.schema}: {step.name}")
    return done


async def _record(client: Client, prefix: str, step: Migration) -> None:
    """Write the number and the record of a step together."""
    entry = {"name": step.name, "at_ms": now_ms(), "voltage": importlib.metadata.version("voltageems")}
    pipeline: Any = client.pipeline(transaction=True)
    pipeline.set(prefix + keys.key("schema"), step.schema)
    pipeline.hset(prefix + keys.key("migrations"), str(step.schema), orjson.dumps(entry))
    await pipeline.execute()
