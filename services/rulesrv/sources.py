"""What a condition may look at beside points: states of alarms, of rules, and of commands."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from libs.errors import InvalidError
from libs.points import REFERENCE_PATTERN, TEXT_REFERENCE_PATTERN, is_text_reference, parse_reference

_ID: Final = "[A-Za-z0-9_-]{1,64}"
STATE_PATTERN: Final = f"^(alarm:{_ID}|rule:{_ID}(#[1-9][0-9]?)?|command:[1-9][0-9]*:[AC]:[1-9][0-9]*)$"
_STATE: Final = re.compile(STATE_PATTERN)
ALARM: Final = re.compile(f"alarm:{_ID}|rule:{_ID}#[1-9][0-9]?")

_COMMAND: Final = (
    "none", "queued", "sent", "pending", "acknowledged", "verified", "rejected", "failed", "mismatch", "expired",
    "superseded",
)  # fmt: skip
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "alarm": ("Normal", "New", "Acknowledged", "Returned", "active", "unacknowledged"),
    "rule": ("off", "idle", "active"),
    "command": _COMMAND,
}


def state_kind(text: str) -> str | None:
    """Return what a state is of: alarm, rule or command; None for a point.

    `alarm:hot` and `rule:peak#1` are the alarms of a definition and of a rule's first
    action, `rule:peak` is a rule, `command:1003:A:1` the newest command of a point.
    """
    if not _STATE.fullmatch(text):
        return None
    kind = text.partition(":")[0]
    return "alarm" if "#" in text else kind


def _check(text: str) -> str:
    if state_kind(text) is None and not is_text_reference(text):
        states = "a state: alarm:<definition>, rule:<rule>, command:<channel>:<A,C>:<point>"
        if text.partition(":")[0] in WORDS:
            raise ValueError(f"{text!r} is not {states}")
        try:
            parse_reference(text)
        except InvalidError as error:
            raise ValueError(f"{error}; or {states}") from None
    return text


Source = Annotated[
    str,
    AfterValidator(_check),
    WithJsonSchema({"type": "string", "pattern": f"{REFERENCE_PATTERN}|{TEXT_REFERENCE_PATTERN}|{STATE_PATTERN}"}),
]
"""What a condition may look at: a point, a text point, or a state."""
