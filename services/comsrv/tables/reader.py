"""Read a CSV table into rows of text that know their line.

Columns come by name in any order. A byte-order mark, `;` as separator and blank
lines are accepted; everything else that is odd is a problem with file and line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from libs.errors import Problem
from libs.validation import nearest

# A larger file is no point table; it would only exhaust a small gateway's memory.
MAX_BYTES: Final = 32 * 2**20


class Row(NamedTuple):
    """The cells of one row that are not empty, by column, and the line it starts on."""

    line: int
    cells: dict[str, str]


class Form(NamedTuple):
    """The rows of a table, and whether that is all of them."""

    rows: list[Row]
    whole: bool


def read_table(path: Path, known: Sequence[str], required: Sequence[str], problems: list[Problem]) -> Form:
    """Read a table; what is wrong with its form is added to `problems`.

    An unknown column is left out and the others are read, so that one run
    names what is wrong with the rows as well.

    Args:
        path: the file.
        known: the columns it may have.
        required: the columns it must have.
        problems: where problems go, each with `file:line`.
    """
    text = _text(path, problems)
    if text is None:
        return Form([], whole=False)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    whole = True
    start = 1
    try:
        for cells in lines:
            line, start = start, lines.line_num + 1
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if header is None:
                header = [name.lower() for name in stripped]
                if not _header_is_usable(header, known, required, f"{path}:{line}", problems):
                    return Form([], whole=False)
                continue
            if any(stripped[len(header) :]):
                problems.append(
                    Problem(f"{path}:{line}", f"{len(cells)} cells under {len(header)} columns; quote a text with a ,")
                )
                whole = False
                continue
            named = zip(header, stripped, strict=False)
            rows.append(Row(line, {name: cell for name, cell in named if name in known and cell}))
    except csv.Error as error:
        problems.append(Problem(f"{path}:{lines.line_num}", f"is no CSV: {error}"))
        whole = False
    if header is None:
        problems.append(Problem(f"{path}:1", f"is empty; the first line names the columns: {','.join(required)}"))
        whole = False
    return Form(rows, whole)


def _text(path: Path, problems: list[Problem]) -> str | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            problems.append(Problem(str(path), f"is larger than {MAX_BYTES} bytes"))
            return None
        data = path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), f"can't be read: {error.strerror}"))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(f"{path}:{line}", "is not UTF-8; save the table as CSV UTF-8"))
        return None


def _separator(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return ";" if header.count(";") > header.count(",") else ","


def _header_is_usable(
    header: list[str], known: Sequence[str], required: Sequence[str], where: str, problems: list[Problem]
) -> bool:
    """Report what is wrong with the header; False where its columns can't be told apart or one is missing."""
    problems += [
        Problem(where, f"unknown column {name!r}{nearest(name, known)}")
        for name in header
        if name and name not in known
    ]
    found = [
        Problem(where, f"column {name!r} stands twice")
        for name in dict.fromkeys(header)
        if name and header.count(name) > 1
    ]
    missing = [name for name in required if name not in header]
    found += [Problem(where, f"column {name!r} is missing") for name in missing]
    problems.extend(found)
    return not found
