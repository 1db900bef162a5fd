"""Page 3: commands are a ledger, and nothing stays good when its writer died."""

from __future__ import annotations

import pytest

from libs.errors import ConflictError, InvalidError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.guide.conftest import Poller


async def test_a_command_goes_from_queued_to_verified(functions: Functions, poller: Poller) -> None:
    """The API submits, the poller claims, writes, reads back and reports; the point has the confirmed value."""
    command = await functions.json("command_submit", 1001, {"id": "peak-1", "type": "A", "point": 1, "value": 25})
    assert command["state"] == "queued"
    (sent,) = await functions.json("command_claim", 1001, {"epoch": poller.epoch})
    assert (sent["id"], sent["value"]) == ("peak-1", 25.0)
    for state in ("acknowledged", "verified"):
        report = {"epoch": poller.epoch, "id": "peak-1", "state": state}
        command = await functions.json("command_complete", 1001, report)
    assert [step["state"] for step in command["transitions"]] == ["queued", "sent", "acknowledged", "verified"]
    assert await execute(functions.client, "HGET", "comsrv:1001:A", "1") == b"25.000000"


async def test_the_id_of_a_command_makes_it_safe_to_submit_again(functions: Functions, poller: Poller) -> None:
    """Whoever lost the answer submits again under the same id; the battery moves once."""
    for _ in range(2):
        await functions.call("command_submit", 1001, {"id": "peak-1", "type": "A", "point": 1, "value": 25})
    assert len(await functions.json("command_claim", 1001, {"epoch": poller.epoch})) == 1


async def test_limits_are_kept_before_anything_is_queued(functions: Functions, poller: Poller) -> None:
    """The point table said -50 to 50; the error says so too, and the queue stays empty."""
    with pytest.raises(InvalidError, match="above the maximum 50 of comsrv:1001:A:1"):
        await functions.call("command_submit", 1001, {"type": "A", "point": 1, "value": 51})
    assert await functions.json("command_claim", 1001, {"epoch": poller.epoch}) == []


async def test_one_poller_holds_a_channel(functions: Functions, poller: Poller) -> None:
    """A second one waits; when the first gives up, its points are stale, and its epoch is over."""
    second = {"owner": "standby", "interval_ms": 1000}
    with pytest.raises(ConflictError, match="held by guide"):
        await functions.call("channel_claim", 1001, second)
    await poller.send({"1": "5.000000"})
    await functions.call("channel_release", 1001, {"epoch": poller.epoch})
    assert await execute(functions.client, "HGET", "comsrv:1001:T:q", "1") == b"bad:stale"
    assert (await functions.json("channel_claim", 1001, second))["epoch"] == poller.epoch + 1
    with pytest.raises(ConflictError):
        await poller.send({"1": "6.000000"})


async def test_history_waits_in_a_queue_and_the_ledger_balances(functions: Functions, poller: Poller) -> None:
    """Each accepted block is an entry of `hissrv:queue` until the store has it; what was polled is accounted for."""
    await poller.send({"1": "5.000000", "2": "80.000000"})
    assert await execute(functions.client, "XLEN", "hissrv:queue") == 1
    ledger = await execute(functions.client, "HGETALL", "voltage:ledger")
    assert ledger == {b"polled": b"2", b"stored": b"2", b"queued": b"2"}
