"""YAML without surprises, and the line each value stands on.

The scalars are those of YAML 1.2's core schema. What YAML 1.1 would silently
have turned into something else (`no` into false, `010` into 8, `1:30` into 90)
is an error that says how to write it, and so are duplicate keys, anchors,
tags and a second document. The document is built from parser events without
recursion, so hostile nesting ends in an error and not in a crash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from libs.errors import ConfigurationError, Problem
from libs.validation import dotted

if TYPE_CHECKING:
    from pathlib import Path

    from libs.validation import Path as KeyPath

MAX_BYTES: Final = 4_000_000
MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 40

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURPRISES: Final = (
    (re.compile(r"(?i:y|yes|n|no|on|off)"), "write true or false, or quote the text"),
    (re.compile(r"[-+]?0[0-7_]+|0o[0-7]+"), "an octal number; write it in decimal, or quote it"),
    (re.compile(r"0b[01_]+"), "a binary number; write it in decimal, or quote it"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+"), "YAML reads this in base 60; quote it"),
    (re.compile(r"[-+]?[0-9]+_[0-9_]+"), "write the number without underscores, or quote it"),
    (re.compile(r"[-+]?\.(?i:inf|nan)"), "numbers must be finite"),
)


class Document:
    """A parsed file: its data, and the line of each value by path."""

    def __init__(
        self,
        name: str,
        data: Any = None,
        lines: dict[KeyPath, int] | None = None,
        problems: list[Problem] | None = None,
        strange: set[KeyPath] | None = None,
    ) -> None:
        """Hold a file's data; without any, an absent file.

        Args:
            name: the file, for messages.
            data: what it holds.
            lines: the line of each value by path.
            problems: what is wrong with its YAML.
            strange: the paths of the values among them.
        """
        self.name = name
        self.data = data
        self.lines = lines or {}
        self.problems = problems or []
        self.strange = strange or set()

    def unsaid(self, path: KeyPath) -> str:
        """Return where a path is; nothing for a value whose YAML was wrong, which was said already."""
        return "" if path in self.strange else self.where(path)

    def where(self, path: KeyPath = ()) -> str:
        """Return `file:line` of a path, or of its nearest parent that has a line."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines.get(path, 1)}"


def load_yaml(path: Path) -> Document:
    """Read a YAML file strictly.

    Raises:
        ConfigurationError: every problem found, each with file and line.
    """
    return _refused(read_yaml(path))


def read_yaml(path: Path) -> Document:
    """Read a YAML file; what is wrong with its values stands in the document's problems.

    So what else is wrong with the file can be said together with it.

    Raises:
        ConfigurationError: it can't be read, or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise ConfigurationError([Problem(str(path), f"can't be read: {reason}")]) from None
    return _parse(text, str(path))


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML text strictly; `name` stands for the file in messages."""
    return _refused(_parse(text, name))


def _refused(document: Document) -> Document:
    if document.problems:
        raise ConfigurationError(document.problems)
    return document


def _parse(text: str, name: str) -> Document:
    if len(text) > MAX_BYTES:
        raise ConfigurationError([Problem(name, f"longer than {MAX_BYTES} bytes")])
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        builder.problem(line, f"no valid YAML: {error.problem or error.context}")
        raise ConfigurationError(builder.problems) from None
    except yaml.YAMLError as error:
        builder.problem(1, f"no valid YAML: {' '.join(str(error).split())}")
        raise ConfigurationError(builder.problems) from None
    return Document(name, builder.root, builder.lines, builder.problems, builder.strange)


_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _plain(text: str) -> Any:
    """Resolve an unquoted scalar by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) and len(text) < MAX_DIGITS:
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Frame:
    """A mapping or sequence that is still open."""

    def __init__(self, container: dict[str, Any] | list[Any], path: KeyPath) -> None:
        self.container = container
        self.path = path
        self.key: str | None = None


class _Builder:
    """Builds data from parser events and remembers lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Any = None
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.strange: set[KeyPath] = set()
        self._open: list[_Frame] = []
        self._documents = 0

    def problem(self, line: int, message: str) -> None:
        """Note one problem."""
        self.problems.append(Problem(f"{self.name}:{line}", message))

    def feed(self, event: Any) -> None:
        """Take one parser event."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self.problem(line, "a second document starts here; a file holds one")
        elif isinstance(event, yaml.AliasEvent):
            self.problem(line, f"alias *{event.anchor}: anchors are not supported, repeat the text")
            self._place(None, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _start(self, event: Any, line: int) -> None:
        frame = self._open[-1] if self._open else None
        if frame and isinstance(frame.container, dict) and frame.key is None:
            raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=event.start_mark)
        if len(self._open) >= MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH}"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
        self._check_tag(event, line)
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Frame(container, self._place(container, line)))

    def _scalar(self, event: Any, line: int) -> None:
        self._check_tag(event, line)
        frame = self._open[-1] if self._open else None
        if frame and isinstance(frame.container, dict) and frame.key is None:
            self._key(frame, event, line)
        else:
            self._place(self._value(event, line), line)

    def _key(self, frame: _Frame, event: Any, line: int) -> None:
        """Take a key as the text it is: `on` and `1` need no quotes there."""
        key = str(event.value)
        if key in frame.container:
            first = self.lines[*frame.path, key]
            self.problem(line, f"duplicate key {key!r}, first on line {first}")
        if key == "<<" and not event.style:
            self.problem(line, "merge keys are not supported, repeat the text")
        frame.key = key

    def _place(self, value: Any, line: int) -> KeyPath:
        """Put a value where the parser stands; return its path."""
        if not self._open:
            self.root = value
            self.lines[()] = line
            return ()
        frame = self._open[-1]
        path: KeyPath
        if isinstance(frame.container, list):
            path = (*frame.path, len(frame.container))
            frame.container.append(value)
        else:
            path = (*frame.path, frame.key or "")
            frame.container[frame.key or ""] = value
            frame.key = None
        self.lines[path] = line
        return path

    def _value(self, event: Any, line: int) -> Any:
        """Return a scalar's value; a surprise of YAML 1.1 becomes a problem."""
        text = str(event.value)
        if event.style:
            return text
        for pattern, advice in _SURPRISES:
            if pattern.fullmatch(text):
                self.problem(line, f"{self._here()}{text}: {advice}")
                self.strange.add(self._path())
                return text
        return _plain(text)

    def _path(self) -> KeyPath:
        """Return where the next value goes."""
        if not self._open:
            return ()
        frame = self._open[-1]
        step = len(frame.container) if isinstance(frame.container, list) else frame.key or ""
        return (*frame.path, step)

    def _here(self) -> str:
        frame = self._open[-1] if self._open else None
        path = dotted((*frame.path, frame.key)) if frame and frame.key is not None else ""
        return f"{path}: " if path else ""

    def _check_tag(self, event: Any, line: int) -> None:
        if event.tag not in {None, "!"}:
            self.problem(line, f"tag {event.tag}: tags are not supported")
        if event.anchor is not None:
            self.problem(line, f"anchor &{event.anchor}: anchors are not supported")
