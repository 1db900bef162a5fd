"""What a function refused a document for, problem by problem (redis_functions/lib/errors.lua)."""

from __future__ import annotations

import re
from typing import Final

from libs.errors import Problem

# A list ends with a space; its problems hold none of what stands between two.
END: Final = " "
BETWEEN: Final = ";  "
_PLACED: Final = re.compile(r"(?P<path>[\w-]+(?:\[\d+\]|\.[\w-]+)*):? (?P<message>.+)")


def joined(text: str) -> str:
    """Return a function's error in one piece, as people read it."""
    return text.removesuffix(END).replace(BETWEEN, "; ")


def problems_in(text: str) -> list[Problem]:
    """Return each problem of a function's error, with the path that it begins with; none where it is no list."""
    found = []
    for part in text.removesuffix(END).split(BETWEEN) if text.endswith(END) else ():
        placed = _PLACED.fullmatch(part)
        if placed:
            found.append(Problem(placed["path"], placed["message"]))
        else:
            found.append(Problem("(document)", part))
    return found
