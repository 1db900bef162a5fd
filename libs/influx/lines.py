"""Line protocol from arrays: all of a line but value, quality and instant is prepared once a series.

Gives the bytes of the Redis Function convert_to_line_protocol
(redis_functions/hissrv/lines.lua); both pass tests/vectors/line_protocol.json.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.points import parse_reference

MEASUREMENT: Final = "telemetry"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PLACE: Final = re.compile(r"\{(.*?)\}", re.DOTALL)
# The largest value that six decimals round to zero; without it "-0.000000" would appear.
_ZERO: Final = 5e-7


class Label(NamedTuple):
    """What a mapping says about a series: measurement, tags (name, text with {places}) and the value's field."""

    measurement: str = MEASUREMENT
    tags: tuple[tuple[str, str], ...] = ()
    field: str = "value"


DEFAULT: Final = Label()


class Head(NamedTuple):
    """The constant parts of a series' lines, with and without a value."""

    value: str
    bare: str


def clean(text: str) -> str:
    """Replace what line protocol can't hold: control characters, and backslashes at the end."""
    return _CONTROL.sub(" ", text).rstrip("\\")


def escape(text: str) -> str:
    """Escape a tag's name or value, or a field's name."""
    return re.sub(r"[, =]", r"\\\g<0>", clean(text))


def tags_of(ref: str, label: Label = DEFAULT) -> dict[str, str]:
    """Return the tags of a series by name, cleaned but not escaped, empty ones left out."""
    parsed = parse_reference(ref)
    parts = {"service": parsed.service, "owner": parsed.owner, "point": str(parsed.point)}
    if parsed.kind is None:
        parts["model"] = parsed.owner
    else:
        parts |= {"channel": parsed.owner, "type": str(parsed.kind)}
    tags = {name: text for name, text in parts.items() if name != "owner"}
    for name, text in label.tags:
        tags[name] = _PLACE.sub(lambda found: parts.get(found[1], ""), text)
    # Lua sorts the names as bytes.
    named = sorted(tags.items(), key=lambda item: item[0].encode())
    return {clean(name): clean(text) for name, text in named if clean(name) and clean(text)}


def head(ref: str, label: Label = DEFAULT) -> Head:
    """Return the constant parts of a series' lines."""
    measurement = re.sub(r"[, ]", r"\\\g<0>", clean(label.measurement))
    tags = "".join(f",{escape(name)}={escape(text)}" for name, text in tags_of(ref, label).items())
    start = f"{measurement}{tags} "
    return Head(f"{start}{escape(label.field)}=", f"{start}quality=")


def encode(heads: list[Head], values: NDArray[np.float64], quality: list[int], at_ms: int) -> list[str]:
    """Return the lines of one instant.

    heads, values, quality: one element a sample; a value that is NaN is left out.
    """
    rounded = np.where(np.abs(values) <= _ZERO, 0.0, values).tolist()
    return [
        f"{one.value}{value:.6f},quality={number}i {at_ms}"
        if value == value  # noqa: PLR0124 - false for NaN only
        else f"{one.bare}{number}i {at_ms}"
        for one, value, number in zip(heads, rounded, quality, strict=True)
    ]
