"""docs/alarm-states.md from the one table of states, redis_functions/alarmsrv/states.lua."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from libs.redis import bundle

SOURCE: Final = "alarmsrv/states.lua"
_TABLE: Final = re.compile(
    r"^-- (?P<text>[^\n]+)\nM\.(?P<name>[A-Z]+) = \{\n(?P<rows>.*?)^\}", re.MULTILINE | re.DOTALL
)
_ROW: Final = re.compile(r"^  \{ (?P<cells>.*) \},$", re.MULTILINE)
_CELL: Final = re.compile(r'"([^"]*)"|nil')
HEADS: Final = {"LIFE": "Life", "SHELVING": "Shelving", "SUPPRESSION": "Suppression", "SERVICE": "Service"}
WHEN: Final = {
    "latching": "the definition is latching", "ack_required": "it waits to be seen", "event": "its level is Info",
    "stands": "its condition stands", "unshelvable": "`max_shelve_ms` is 0", "ended": "its condition has ended",
    "by_design": "not a person marked it",
}  # fmt: skip


class Row(NamedTuple):
    """A row of the table."""

    start: str
    event: str
    when: str
    to: str
    journal: str
    why: str


def tables() -> dict[str, tuple[str, list[Row]]]:
    """Return each table's sentence and rows."""
    text = (bundle.root() / SOURCE).read_text(encoding="utf-8")
    found = {}
    for table in _TABLE.finditer(text):
        rows = []
        for row in _ROW.finditer(table["rows"]):
            cells = [cell[1] or "" for cell in _CELL.finditer(row["cells"])]
            rows.append(Row(*(cells + [""] * 6)[:6]))
        found[table["name"]] = (table["text"], rows)
    return found


def markdown() -> str:
    """Return the whole file."""
    lines = [
        "# The states of an alarm",
        "",
        f"Generated from `redis_functions/{SOURCE}`, which the code follows; do not edit.",
        "Of the rows of a state and an event the first whose condition holds counts.",
        "What is in no row is refused with STATE; where nothing is in the column journal, nothing changes.",
        "What they mean: [alarms.md](alarms.md).",
    ]
    for name, (text, rows) in tables().items():
        lines += [
            "",
            f"## {HEADS[name]}",
            "",
            text,
            "",
            "| state | event | if | leads to | journal |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            leads = row.to or f"refused: {row.why}"
            lines.append(
                f"| {row.start} | {row.event} | {WHEN[row.when] if row.when else ''} | {leads} | {row.journal} |"
            )
    return "\n".join(lines) + "\n"
