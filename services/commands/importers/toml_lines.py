"""Where things stand in a TOML text: the standard library's reader names no lines.

The text was parsed before, so it is known to be TOML; this finds the line of each table header,
of each key of a table, and of each `{` of an array of inline tables.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n]', re.DOTALL
)
_HEADER: Final = re.compile(r"\[\[?\s*([^\]\n]+?)\s*\]\]?")
_KEY: Final = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")


class Section(NamedTuple):
    """A table: its dotted name, its line, the lines of its keys, and of the inline tables of each key."""

    name: str
    line: int
    keys: dict[str, int]
    elements: dict[str, list[int]]

    def of(self, key: str, index: int | None = None) -> int:
        """Return the line of a key, or of one of its inline tables; the table's where it has none."""
        elements = self.elements.get(key, [])
        if index is not None and index < len(elements):
            return elements[index]
        return self.keys.get(key, self.line)


def sections(text: str) -> list[Section]:
    """Return the tables in their order; the first is the document's own."""
    found = [Section("", 1, {}, {})]
    depth, line, key = 0, 1, ""
    position = start = 0
    while True:
        if position == start and depth == 0:
            position = _statement(text, start, line, found)
            key = next(reversed(found[-1].keys), "") if found[-1].keys else ""
        token = _TOKEN.search(text, position)
        if token is None:
            return found
        if token[0] == "\n":
            line += 1
            start = token.end()
        elif token[0] in "[{":
            if token[0] == "{" and depth == 1:
                found[-1].elements.setdefault(key, []).append(line)
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        else:
            line += token[0].count("\n")
        position = token.end()


def _statement(text: str, start: int, line: int, found: list[Section]) -> int:
    """Take the header or the key that a line begins with; return where to go on."""
    end = text.find("\n", start)
    head = text[start : len(text) if end < 0 else end]
    header = _HEADER.match(head.lstrip())
    if header:
        name = ".".join(part.strip().strip("\"'") for part in header[1].split("."))
        found.append(Section(name, line, {}, {}))
        return start + len(head) - len(head.lstrip()) + header.end()
    key = _KEY.match(head)
    if key:
        found[-1].keys[key[1]] = line
        return start + key.end()
    return start
