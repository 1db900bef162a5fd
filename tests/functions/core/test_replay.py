"""Every function that writes is in the replay log, or apart from it; what is in the log makes the same keys again."""

from __future__ import annotations

import re
from typing import Any, Final

import msgpack
import pytest

from libs.errors import StateError, VoltageError
from libs.redis import keys
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from services.commands import reference
from tests.functions.test_reference import UNKNOWN, paste_before

FUNCTIONS: Final = {one.name: one for one in reference.functions()}
WRITERS: Final = sorted(name for name, one in FUNCTIONS.items() if not one.reads)

# What these write decides nothing that the journals of alarms, rules and commands say. A new function
# is in the log without a word of it; who takes one out of it says here why.
APART: Final = {
    "the log itself": {"replay_keep", "replay_kept", "replay_apply"},
    "history, after the fact": {
        "configure_mapping", "mapping_delete", "batch_collect", "batch_acknowledge", "batch_fail",
        "dead_letter_resolve",
    },
    "networks, after the fact": {
        "network_upsert", "network_delete", "route_upsert", "route_delete", "forward_claim", "forward_complete",
    },
    "messages to people, after the fact": {"alarm_route_test", "alarm_outbox_begin", "alarm_outbox_settle"},
    "what is on disk leaves the journal; a number that it sets is in the log": {"alarm_journal_archived"},
    "jobs": {
        "job_submit", "job_claim", "job_progress", "job_complete", "job_fail", "job_reap", "job_cancel",
    },
}  # fmt: skip
# Keys of those, and what is not the same by its nature: tokens, the log, the last instant of all.
OTHER: Final = re.compile(
    r"voltage:(replay.*|clock|schema|generation|job.*|jobs.*|limits)|hissrv:.*|netsrv:.*|alarmsrv:outbox.*|voltage:ledger(:.*)?|comsrv:[0-9]+:ledger"
)


async def image(client: Client) -> dict[str, Any]:
    """Return all keys with their contents; of a stream without its ids, which are the server's clock."""
    found: dict[str, Any] = {}
    for name in sorted(await execute(client, "KEYS", "*")):
        text = name.decode()
        if OTHER.fullmatch(text):
            continue
        kind = (await execute(client, "TYPE", name)).decode()
        if kind == "hash":
            found[text] = await execute(client, "HGETALL", name)
        elif kind == "set":
            found[text] = sorted(await execute(client, "SMEMBERS", name))
        elif kind == "zset":
            found[text] = await execute(client, "ZRANGE", name, "0", "-1", "WITHSCORES")
        elif kind == "stream":
            found[text] = [fields for _, fields in await execute(client, "XRANGE", name, "-", "+")]
        else:
            found[text] = await execute(client, "GET", name)
    return found


async def log(client: Client) -> list[list[bytes]]:
    """Return the calls as replay_apply takes them."""
    entries = await execute(client, "XRANGE", keys.key("replay"), "-", "+")
    return [[fields.get(name, b"") for name in (b"h", b"a", b"m", b"x", b"o")] for _, fields in entries]


def named(call: list[bytes]) -> str:
    """Return the function of a call."""
    return call[0].split(b"|")[3].decode()


def test_what_is_apart_is_listed() -> None:
    text = "\n".join(path.read_text() for path in sorted(reference.bundle.root().glob("*/api.lua")))
    apart = set(re.findall(r'name = "(\w+)"[^}]*apart = true', text))
    assert apart == set().union(*APART.values())


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in UNKNOWN | {"replay_apply"}])
async def test_a_call_is_made_again(functions: Functions, name: str) -> None:
    """The line of its contract leaves an entry, and made again from nothing the same keys."""
    client = functions.client
    await functions.call("replay_keep", None, {"bytes": 1 << 26})
    lines = await paste_before(functions, name)
    await execute(client, *lines[name])
    calls = await log(client)
    if name in set().union(*APART.values()):
        assert name not in map(named, calls)
        return
    assert name in map(named, calls)
    live = await image(client)
    await execute(client, "FLUSHALL")
    await execute(client, "SET", keys.key("replay_private"), "1")
    packed = msgpack.packb(calls, use_bin_type=False)
    assert await execute(client, "FCALL", "replay_apply", "0", packed) == []
    assert await image(client) == live


async def test_a_site_makes_no_call_again(functions: Functions) -> None:
    with pytest.raises(StateError, match="not a replay's own"):
        await execute(functions.client, "FCALL", "replay_apply", "0", msgpack.packb([]))


async def test_what_was_refused_is_refused_again(functions: Functions) -> None:
    """A refused call whose clock let a timer fire is in the log; one that did nothing is not."""
    client = functions.client
    await functions.call("replay_keep", None, {"bytes": 1 << 26})
    before = len(await log(client))
    with pytest.raises(VoltageError):
        await functions.call("rule_enable", "none", "true")
    assert len(await log(client)) == before
