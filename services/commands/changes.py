"""A definition that shall be, of a file, a version, or the active one with changes; and what differs, for people."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

from libs.config.yaml_loader import load_yaml, parse_yaml
from libs.definitions import said_of
from libs.errors import InvalidError, NotFoundError
from services.commands.api import cell, request, show

SHOWN: Final = 60
_PART: Final = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


def said(path: str, definition: str, file: str | None, version: int | None, section: str) -> dict[str, Any]:
    """Return what shall run, before changes: of a file, of a version, or what is active."""
    if file is not None:
        return in_file(definition, file, section)
    found = (
        request(f"{path}/{definition}")
        if version is None
        else request(f"{path}/{definition}/versions/{version}")["definition"]
    )
    return said_of(found or {})


def in_file(definition: str, file: str, section: str) -> dict[str, Any]:
    """Return the definition of a YAML or JSON file (`-` is standard input), of several the one of that id."""
    document = parse_yaml(sys.stdin.read(), "standard input") if file == "-" else load_yaml(Path(file))
    data = document.data
    found = data.get(section.removesuffix("s"), data) if isinstance(data, dict) else data
    listed = found[section] if isinstance(found, dict) and section in found else [found]
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and item.get("id", definition) == definition:
            return item
    raise NotFoundError(f"{file} has no {section.removesuffix('s')} {definition}")


def changed(document: dict[str, Any], changes: tuple[str, ...]) -> dict[str, Any]:
    """Return a definition with members set, each as PATH=VALUE."""
    for change in changes:
        path, separator, text = change.partition("=")
        parts: list[str | int] = [name or int(index) for name, index in _PART.findall(path)]
        if not separator or not parts or _PART.sub("", path):
            raise InvalidError(f"--set {change!r} must be PATH=VALUE, as in conditions[0].value=85")
        at: Any = document
        try:
            for part in parts[:-1]:
                at = at[part]
            at[parts[-1]] = parse_yaml(text, "--set").data
        except (KeyError, IndexError, TypeError):
            raise InvalidError(f"--set {change!r}: there is no {path}") from None
    return document


def show_changes(changes: list[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print what differs between two definitions."""
    rows = changes if as_json else [one | {"old": _cut(one["old"]), "new": _cut(one["new"])} for one in changes]
    show(rows, {"where": "path", "was": "old", "is": "new"}, as_json=as_json, empty=empty)


def told(changes: list[dict[str, Any]]) -> str:
    """Return what differs as one text."""
    return ", ".join(
        f"{one['path']}: {_cut(one['old']) or 'nothing'} -> {_cut(one['new']) or 'nothing'}" for one in changes
    )


def _cut(value: Any) -> str:
    text = cell(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
