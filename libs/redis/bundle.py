"""Bundle redis_functions/ into the one library `voltage`.

A module is a Lua file; `local x = require("lib.x")` names another. Each module is
emitted as a function under a small `require`, so none of its locals count against
the 200 locals of the chunk. A line table maps a line of the bundle back to its file.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from libs.errors import ConfigurationError, Problem

LIBRARY: Final = "voltage"
API: Final = 1
ENTRY: Final = "api"
_REQUIRE: Final = re.compile(r'^local\s+\w+\s*=\s*require\("([\w.]+)"\)', re.MULTILINE)
_ANY_REQUIRE: Final = re.compile(r"\brequire\s*\(")
_LINE: Final = re.compile(r"user_function:(\d+)")


class Module(NamedTuple):
    """One Lua file: its dotted name, its path relative to the root, its text."""

    name: str
    path: str
    text: str


class Bundle(NamedTuple):
    """The library's text, its digest, and the first bundle line of each module."""

    text: str
    digest: str
    starts: tuple[int, ...]
    modules: tuple[Module, ...]

    def locate(self, line: int) -> str:
        """Return `file:line` of a line of the bundle."""
        index = bisect.bisect_right(self.starts, line) - 1
        if index < 0:
            return f"bundle:{line}"
        return f"{self.modules[index].path}:{line - self.starts[index] + 1}"

    def explain(self, message: str) -> str:
        """Rewrite `user_function:57` in an error's text to the file and line it came from."""
        return _LINE.sub(lambda match: self.locate(int(match[1])), message)


def root() -> Path:
    """Return the folder of the Lua sources (they ship as package data)."""
    return Path(str(resources.files("redis_functions")))


def bundle(folder: Path | None = None) -> Bundle:
    """Follow `require` from the entry module and return the library.

    Raises:
        ConfigurationError: a missing file, a cycle, or a require that is not a
            plain `local x = require("a.b")`; each with file and line.
    """
    folder = folder or root()
    problems: list[Problem] = []
    ordered: list[Module] = []
    _visit(folder, ENTRY, (), ordered, problems, None)
    if problems:
        raise ConfigurationError(problems)
    digest = hashlib.sha256("\0".join(f"{m.path}\0{m.text}" for m in ordered).encode()).hexdigest()[:16]
    lines = [f"#!lua name={LIBRARY}", "local M = {}", "local function require(name) return M[name] end"]
    starts: list[int] = []
    for module in ordered:
        lines.append(f'M["{module.name}"] = (function()')
        starts.append(len(lines) + 1)
        text = module.text.replace("@DIGEST@", digest).replace("@API@", str(API))
        lines += [*text.rstrip("\n").split("\n"), "end)()"]
    return Bundle("\n".join(lines) + "\n", digest, tuple(starts), tuple(ordered))


def _visit(
    folder: Path, name: str, above: tuple[str, ...], done: list[Module], problems: list[Problem], where: str | None
) -> None:
    if any(module.name == name for module in done):
        return
    if name in above:
        problems.append(Problem(where or name, f"require goes in a circle: {' -> '.join([*above, name])}"))
        return
    path = name.replace(".", "/") + ".lua"
    try:
        text = (folder / path).read_text(encoding="utf-8")
    except OSError:
        problems.append(Problem(where or path, f"no module {name!r} ({path})"))
        return
    plain = {match.start(): match[1] for match in _REQUIRE.finditer(text)}
    for number, line in enumerate(text.split("\n"), 1):
        code = line.split("--", 1)[0]
        if _ANY_REQUIRE.search(code) and not _REQUIRE.match(code):
            problems.append(Problem(f"{path}:{number}", 'write it as: local x = require("folder.module")'))
    for start, required in plain.items():
        number = text.count("\n", 0, start) + 1
        _visit(folder, required, (*above, name), done, problems, f"{path}:{number}")
    done.append(Module(name, path, text))
