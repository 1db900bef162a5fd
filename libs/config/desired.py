"""Desired state: definitions in `config/<folder>/*.yaml`, each file a mapping of lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from libs.config.yaml_loader import Document, read_yaml
from libs.definitions import Definition
from libs.errors import ConfigurationError, Problem
from libs.validation import UNPLACED, examined, nearest
from libs.validation import Path as KeyPath


class Entry(NamedTuple):
    """A definition in a file: which list it is in, what it says, and where it stands."""

    section: str
    id: str
    definition: Definition
    where: str


class DesiredError(ConfigurationError):
    """Files have problems; what is well in them can still be looked at."""

    def __init__(self, problems: list[Problem], entries: list[Entry], ill: frozenset[str] = frozenset()) -> None:
        """Keep every problem, the entries that have none, and the ids of those that have."""
        super().__init__(problems)
        self.entries = entries
        self.ill = ill


def read_desired(folder: Path, sections: Mapping[str, type[Definition]]) -> list[Entry]:
    """Read every definition in a folder's files, in the order of the sections.

    Args:
        folder: it may be absent.
        sections: the lists a file may have, and the model of their items.

    Raises:
        DesiredError: every problem of every file.
    """
    reader = _Reader(sections)
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = read_yaml(path)
            reader.problems += document.problems
            reader.read(document)
        except ConfigurationError as error:
            reader.problems += error.problems
    order = list(sections)
    entries = sorted(reader.entries.values(), key=lambda entry: order.index(entry.section))
    if reader.problems:
        raise DesiredError(reader.problems, entries, frozenset(reader.ill))
    return entries


class _Reader:
    """Collects entries and problems over all files."""

    def __init__(self, sections: Mapping[str, type[Definition]]) -> None:
        self.sections = sections
        self.entries: dict[tuple[str, str], Entry] = {}
        self.problems: list[Problem] = []
        self.ill: set[str] = set()

    def read(self, document: Document) -> None:
        """Take a file."""
        if document.data is None:
            return
        if not isinstance(document.data, dict):
            self._problem(document, (), f"must be a mapping with {' or '.join(self.sections)}")
            return
        for section, items in document.data.items():
            if f"{section}s" in self.sections and isinstance(items, dict):
                # One alone, as the documents write `rule: {...}`.
                self._take(document, f"{section}s", (section,), items)
            elif section not in self.sections:
                self._problem(document, (section,), f"unknown key {section}{nearest(section, self.sections)}")
            elif not isinstance(items, list):
                self._problem(document, (section,), f"{section} must be a list")
            else:
                for index, item in enumerate(items):
                    self._take(document, section, (section, index), item)

    def _take(self, document: Document, section: str, path: KeyPath, item: object) -> None:
        model = self.sections[section]
        definition, problems = examined(model, item, lambda inner: document.unsaid((*path, *inner)))
        self.problems += [problem for problem in problems if problem.where != UNPLACED]
        if definition is None or problems:
            if isinstance(item, dict):
                self.ill.add(str(item.get("id")))
            return
        where = document.where(path)
        if definition.id is None:
            self._problem(document, path, "id: is required")
        elif first := self.entries.get((section, definition.id)):
            self._problem(document, (*path, "id"), f"{section} has {definition.id} already at {first.where}")
        else:
            self.entries[section, definition.id] = Entry(section, definition.id, definition, where)

    def _problem(self, document: Document, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(document.where(path), message))
