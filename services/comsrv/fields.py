"""How people write numbers and truth values in tables, parsed strictly.

Python's own `int` and `float` take "1_000", "nan" and "0x10" in places; a point table
must not. A decimal comma is taken where it can't be a thousands separator.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_DECIMAL: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
# "1,500" is 1.5 to some and 1500 to others; "0,500" and "1,5" are clear.
_AMBIGUOUS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_INTEGER: Final = re.compile(r"[+-]?\d+")
_NOT_FINITE: Final = frozenset(("nan", "inf", "infinity"))
_BETWEEN: Final = re.compile(r"[;|\s]+")
_LABEL: Final = re.compile(r"\s*([+-]?\d{1,10})\s*[=:]\s*(.*\S)\s*")
_TRUTH: Final = {"1": True, "true": True, "0": False, "false": False}


def number(value: Any) -> Any:
    """Read a number from a cell; anything but text is left to pydantic."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects ValueError
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lstrip("+-").lower() in _NOT_FINITE:
        raise ValueError(f"{text!r} is not finite")
    if _AMBIGUOUS.fullmatch(text):
        raise ValueError(f"{text!r} is ambiguous; write {text.replace(',', '')} or {text.replace(',', '.', 1)}")
    if _COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return float(text)


def integer(value: Any) -> Any:
    """Read a whole number from a cell; anything but text is left to pydantic."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004 - pydantic collects ValueError
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text[:20])


def truth(value: Any) -> Any:
    """Read 0, 1, true or false from a cell."""
    if isinstance(value, bool):
        return value
    found = _TRUTH.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return found


def words(value: Any) -> Any:
    """Read words from a cell, separated by `;`, `|` or blanks; a number or a list is taken as it is."""
    if isinstance(value, bool):
        raise ValueError("must be words")  # noqa: TRY004 - pydantic collects ValueError
    if isinstance(value, int | float):
        return (f"{value:.17g}",)
    if isinstance(value, str):
        return tuple(word for word in _BETWEEN.split(value.strip()) if word)
    if isinstance(value, list | tuple):
        return tuple(f"{word:.17g}" if isinstance(word, float) else str(word) for word in value)
    return value


def labels(value: Any) -> Any:
    """Read what values mean from a cell such as `0=Off; 1=On`, separated by `;` or `|`."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in re.split(r"[;|]", value):
        if not part.strip():
            continue
        match = _LABEL.fullmatch(part)
        if match is None:
            raise ValueError(f"{part.strip()!r} is no label; write 0=Off; 1=On")
        key = str(int(match[1]))
        if key in found:
            raise ValueError(f"{key} stands twice")
        found[key] = match[2]
    return found


Number = Annotated[float, BeforeValidator(number)]
Integer = Annotated[int, BeforeValidator(integer)]
Truth = Annotated[bool, BeforeValidator(truth)]
