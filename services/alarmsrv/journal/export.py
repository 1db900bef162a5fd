"""The journal as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Final

from libs.spreadsheet import no_formula
from services.alarmsrv.journal.chain import Entry

COLUMNS: Final = (
    "number", "time", "at_ms", "alarm", "event", "status", "level", "priority", "source", "title", "origin", "version",
    "user", "comment", "value", "quality", "masked", "previous",
)  # fmt: skip
# What people wrote.
_FREE: Final = frozenset({"alarm", "source", "title", "origin", "user", "comment", "quality"})


def header() -> str:
    """Return the first line."""
    return _line(COLUMNS)


def row(entry: Entry) -> str:
    """Return an entry's line; text that a spreadsheet would take for a formula begins with an apostrophe."""
    fields = dict(entry.fields)
    at = dt.datetime.fromtimestamp(int(fields.get("at_ms") or 0) / 1000, dt.UTC)
    fields["time"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _line([_safe(name, fields.get(name, "")) for name in COLUMNS])


def _safe(name: str, text: str) -> str:
    return no_formula(text) if name in _FREE else text


def _line(cells: list[str] | tuple[str, ...]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue()
