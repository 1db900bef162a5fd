"""`voltage networks`: where points are forwarded to, what waits, and what was refused."""

from __future__ import annotations

from typing import Any

import click

from libs.errors import InvalidError
from services.commands.api import pages, request, show
from services.commands.read import as_json, limited, timed, when


@click.command()
@click.argument("network", required=False)
@click.option("--dead-letters", is_flag=True, help="What the other side refused for good, newest first.")
@click.option("--retry", is_flag=True, help="Send all dead letters of the network once more.")
@limited
@as_json
def networks(network: str | None, dead_letters: bool, retry: bool, limit: int, as_json: bool) -> None:
    """List the networks with their state, or look at one: voltage networks cloud --dead-letters."""
    if network is None:
        if dead_letters or retry:
            raise InvalidError("name the network: voltage networks NETWORK --dead-letters")
        found = [state_of(one["id"]) for one in pages("/api/networks", {}, limit)]
        _show_states(found, as_json=as_json, empty="no networks; see config/netsrv.yaml")
    elif retry:
        answer = request(f"/api/networks/{network}/dead-letters/retry", body={}, role="engineer")
        click.echo(f"{answer['queued']} dead letters of {network} are queued again")
    elif dead_letters:
        items = pages(f"/api/networks/{network}/dead-letters", {}, limit)
        if not as_json:
            items = timed(items, when, "dead_at_ms")
        columns = {
            "id": "id", "refused at": "dead_at_ms", "route": "route", "target": "target", "reason": "reason",
            "payload": "payload",
        }  # fmt: skip
        show(items, columns, as_json=as_json, empty=f"network {network} has no dead letters")
    else:
        _show_states([state_of(network)], as_json=as_json, empty="")


def state_of(network: str) -> dict[str, Any]:
    """Return a network's status with its `state` in a word: connected, away, idle or off."""
    status: dict[str, Any] = request(f"/api/networks/{network}/status")
    if not status["enabled"]:
        state = "off"
    elif status["connected"]:
        state = "connected"
    else:
        # Over HTTP nothing is tried before there is something to send.
        state = "away" if status.get("last_error") else "idle"
    return {**status, "state": state}


def dated(status: dict[str, Any]) -> dict[str, Any]:
    """Return a status whose last error says when it was: it stays after the network is back."""
    if not status.get("last_error"):
        return status
    return {**status, "last_error": f"{status['last_error']} ({when(status['last_error_at_ms'])})"}


def _show_states(found: list[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    if not as_json:
        found = [dated(status) for status in timed(found, when, "since_ms")]
    columns = {
        "id": "id", "type": "type", "state": "state", "since": "since_ms", "waiting": "queue.messages",
        "bytes": "queue.bytes", "sent": "sent", "failed": "failed", "dropped": "dropped",
        "dead letters": "dead_letters", "last error": "last_error",
    }  # fmt: skip
    show(found, columns, as_json=as_json, empty=empty)
