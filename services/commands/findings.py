"""What a check of `voltage doctor` finds, and how a check asks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from typing import Any, Final, Literal, NamedTuple

from libs.errors import VoltageError
from libs.site import Site

State = Literal["ok", "warning", "error"]
TIMEOUT_S: Final = 4.0
LOADER: Final = "voltage functions load, or ./scripts/redis-functions/load_functions.sh"


class Finding(NamedTuple):
    """One thing that was looked at; `remedy` is what to do, empty where all is well."""

    check: str
    state: State
    detail: str
    remedy: str = ""


def level(percent: float, warning: float, error: float) -> State:
    """Return the state of something that fills up."""
    return "ok" if percent < warning else "warning" if percent < error else "error"


Check = Callable[[Site], Iterable[Finding]]


def run_check(check: Check, site: Site) -> list[Finding]:
    """Run a check; what it can't ask is a finding too, never a traceback."""
    name = check.__name__.removeprefix("check_")
    try:
        return list(check(site))
    except VoltageError as error:
        return [Finding(name, "error", str(error), "see the findings above; voltage logs SERVICE says more")]


class Answer(NamedTuple):
    """What answers at an address: a status and a document, or None where it is no document of ours."""

    status: int
    document: dict[str, Any] | None


def ask(url: str) -> Answer | None:
    """Ask for a JSON document; None where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310 - http only, from the settings
            return Answer(reply.status, _document(reply.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _document(error.read()))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ConnectionRefusedError) else Answer(0, None)
    except HTTPException as error:
        # What listens there speaks no HTTP.
        return Answer(0, {"error": type(error).__name__})


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
