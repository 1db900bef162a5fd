"""Points, their kinds, and references to them.

A reference is `{service}:{owner}:{T|S|C|A}:{point}`, as in `comsrv:1001:T:1`,
or a model's point `modsrv:{model}:{point}`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from libs.errors import InvalidError

ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
_ID: Final = re.compile(ID_PATTERN)
NUMBER_PATTERN: Final = r"^[1-9][0-9]{0,8}$"
# For documentation: what `parse_reference` takes.
REFERENCE_PATTERN: Final = (
    r"^([A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64}:[TSCA]:[1-9][0-9]{0,8}|modsrv:[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64})$"
)
TEXT_REFERENCE_PATTERN: Final = r"^comsrv:[1-9][0-9]{0,8}:X:[1-9][0-9]{0,8}$"
_TEXT_REFERENCE: Final = re.compile(TEXT_REFERENCE_PATTERN)
_NUMBER: Final = re.compile(NUMBER_PATTERN)
# These would collide with our own key names.
RESERVED_IDS: Final = frozenset({
    "alarm", "alarms", "command", "commands", "definition", "definitions", "journal", "mapping", "mappings",
    "model", "models", "queue", "reverse", "rule", "rules", "template", "templates", "updates", "watch",
})  # fmt: skip
KINDS: Final = frozenset("TSCA")
# What a condition or an alarm may ask of a quality, and that in words.
_QUALITY: Final = re.compile(r"good|missing|(bad|uncertain)(:[a-z0-9_]+)?")
QUALITIES: Final = "good, bad, uncertain or missing, or with a reason, as bad:stale"


def is_quality(value: object) -> bool:
    """Say whether a value is a quality that a point can have, or the first word of one."""
    return isinstance(value, str) and _QUALITY.fullmatch(value) is not None


class PointKind(StrEnum):
    """The four kinds of point; each has its own id space from 1."""

    TELEMETRY = "T"
    SIGNAL = "S"
    CONTROL = "C"
    ADJUSTMENT = "A"

    @property
    def table(self) -> str:
        """Name of the CSV table that declares points of this kind."""
        return self.name.lower()

    @property
    def readable(self) -> bool:
        """True for the kinds that are polled."""
        return self in {PointKind.TELEMETRY, PointKind.SIGNAL}


class Reference(NamedTuple):
    """A parsed reference. `kind` is None for a model's point."""

    service: str
    owner: str
    kind: PointKind | None
    point: str

    def __str__(self) -> str:
        """Return the text form."""
        if self.kind is None:
            return f"{self.service}:{self.owner}:{self.point}"
        return f"{self.service}:{self.owner}:{self.kind}:{self.point}"


def valid_id(text: str) -> bool:
    """Say whether a text may be an id: `[A-Za-z0-9_-]{1,64}` and no reserved word."""
    return bool(_ID.fullmatch(text)) and text not in RESERVED_IDS


def check_id(text: str, what: str = "id") -> str:
    """Return the id, or raise INVALID naming what is wrong with it."""
    if text in RESERVED_IDS:
        msg = f"{what} {text!r} is a reserved word"
        raise InvalidError(msg)
    if not _ID.fullmatch(text):
        msg = f"{what} {text!r} must match [A-Za-z0-9_-], 1 to 64 characters"
        raise InvalidError(msg)
    return text


def check_number(text: str, what: str = "id") -> str:
    """Return the number of a channel or point, or raise INVALID naming what is wrong with it."""
    if not _NUMBER.fullmatch(text):
        msg = f"{what} {text!r} must be a number from 1 to 999999999"
        raise InvalidError(msg)
    return text


def is_text_reference(text: str) -> bool:
    """Say whether a text is the reference of a text point, as `comsrv:1001:X:7`; only conditions take one."""
    return bool(_TEXT_REFERENCE.fullmatch(text))


def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises:
        InvalidError: the text is no reference; the message shows the two forms.
    """
    parts = text.split(":")
    if (
        len(parts) == 4
        and parts[2] in {"T", "S", "C", "A"}
        and _ID.fullmatch(parts[0])
        and _ID.fullmatch(parts[1])
        and (_NUMBER.fullmatch(parts[3]) and (parts[0] != "comsrv" or _NUMBER.fullmatch(parts[1])))
    ):
        return Reference(parts[0], parts[1], PointKind(parts[2]), parts[3])
    if len(parts) == 3 and parts[0] == "modsrv" and valid_id(parts[1]) and _ID.fullmatch(parts[2]):
        return Reference("modsrv", parts[1], None, parts[2])
    msg = (
        f"{text!r} is no reference; write service:owner:T|S|C|A:point as in comsrv:1001:T:1, "
        "or modsrv:model:point as in modsrv:pv1:active_power"
    )
    raise InvalidError(msg)
