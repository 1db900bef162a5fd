"""What a function refused a document for, problem by problem (redis_functions/lib/errors.lua)."""

from __future__ import annotations

import re
from typing import Final

from libs.errors import Problem

# Stands before each problem of a list; the problems themselves hold none.
MARK: Final = "\x1f"
_PLACED: Final = re.compile(r"(?P<path>[\w-]+(?:\[\d+\]|\.[\w-]+)*):? (?P<message>.+)")


def unmarked(text: str) -> str:
    """Return a function's error as people read it."""
    return text.replace(MARK, "")


def problems_in(text: str) -> list[Problem]:
    """Return each problem of a function's error, with the path that it begins with; none where it is no list."""
    found = []
    for part in text.split(MARK)[1:]:
        placed = _PLACED.fullmatch(part.removesuffix("; "))
        if placed:
            found.append(Problem(placed["path"], placed["message"]))
        else:
            found.append(Problem("(document)", part.removesuffix("; ")))
    return found
