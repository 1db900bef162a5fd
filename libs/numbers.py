"""How numbers are written: six decimals, no negative zero, never NaN or infinity."""

from __future__ import annotations

import math
from typing import Final

# Integers up to this size are exact in a double; beyond it a value is `bad:out_of_range`.
EXACT_LIMIT: Final = 2**53
NEGATIVE_ZERO: Final = "-0.000000"
ZERO: Final = "0.000000"
LARGE: Final = 100_000


def format_value(value: float) -> str:
    """Write a value with six decimals, an integer from the integer itself.

    Raises:
        ValueError: the value is not finite or beyond 2^53.
    """
    if isinstance(value, int):
        if abs(value) > EXACT_LIMIT:
            msg = f"{value} is beyond 2^53"
            raise ValueError(msg)
        return f"{value}.000000"
    if not math.isfinite(value):
        msg = f"{value} is not finite"
        raise ValueError(msg)
    if abs(value) > EXACT_LIMIT:
        msg = f"{value} is beyond 2^53"
        raise ValueError(msg)
    text = f"{value:.6f}"
    return ZERO if text == NEGATIVE_ZERO else text


def readable(value: float) -> str:
    """Write a value for people: six digits, but never fewer than its whole part has."""
    return f"{value:.12g}" if abs(value) >= LARGE else f"{value:g}"


def format_values(values: list[float]) -> list[str]:
    """Write many finite values in one pass: one large format string, then split."""
    if not values:
        return []
    text = ("%.6f," * len(values) % tuple(values))[:-1]
    if NEGATIVE_ZERO in text:
        return [ZERO if item == NEGATIVE_ZERO else item for item in text.split(",")]
    return text.split(",")
