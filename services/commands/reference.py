"""The reference of the Redis Functions, read from the contract block above each in the Lua sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from libs.redis import bundle

_REQUIRED: Final = re.compile(r'^local\s+(\w+)\s*=\s*require\("([\w.]+)"\)', re.MULTILINE)
_DOMAINS: Final = re.compile(r"^local domains = \{([^}]*)\}", re.MULTILINE)
_ENTRY: Final = re.compile(r'\{\s*name = "(\w+)",\s*run = (\w+)\.(\w+)([^}]*)\}')
_BLOCK: Final = re.compile(r"^--- (.+)\n((?:--.*\n)*)function M\.(\w+)\(", re.MULTILINE)
_FIELD: Final = re.compile(r"^(KEYS\[\d\]|ARGV\[[^\]]+\]|Returns|Errors|Writes|Publishes|Example)(?:\s+(.*))?$")

HEADER: Final = """\
# Redis Functions

Written from the contract blocks of the Lua sources by `scripts/check_generated.py --write`; do not edit.

One library, `voltage`, bundled from these folders (`voltage functions bundle` prints it,
`voltage functions load` loads it). Documents in and out are JSON. A key is a bare id or a full key,
`model_001` or `{plant7}:model_001`: what stands before the id names the site. Errors start with a code:
INVALID, NOTFOUND, CONFLICT, STATE, LIMIT or INTERNAL; a semicolon and two spaces stand between two problems.
What only reads can be called with FCALL_RO.
The lines to paste work in redis-cli, and after `voltage redis`.
"""


class Field(NamedTuple):
    """A line of a contract: what it is about and its text, which may go on over several lines."""

    name: str
    lines: list[str]


class Function(NamedTuple):
    """One function as its contract describes it."""

    domain: str
    name: str
    reads: bool
    summary: str
    text: list[str]
    fields: list[Field]

    def call(self) -> str:
        """Return a line to paste: its example, else one with placeholders in capitals."""
        examples = [field.lines[0] for field in self.fields if field.name == "Example"]
        if examples:
            return examples[0]
        keys = [field for field in self.fields if field.name.startswith("KEYS")]
        arguments = [field for field in self.fields if re.fullmatch(r"ARGV\[\d\]", field.name)]
        words = ["FCALL_RO" if self.reads else "FCALL", self.name, str(len(keys))]
        words += [_placeholder(field.lines[0]) for field in keys]
        words += [_placeholder(field.lines[0]) for field in arguments]
        return " ".join(words)


def _placeholder(text: str) -> str:
    if text.startswith(("{", "[")):
        return "'{...}'" if text.startswith("{") else "'[...]'"
    return "_".join(re.findall(r"[A-Za-z0-9]+", re.split(r"[,;(:.]", text, maxsplit=1)[0])[:3]).upper() or "ARGUMENT"


def functions(folder: Path | None = None) -> Iterator[Function]:
    """Yield every registered function, in the order of registration."""
    folder = folder or bundle.root()
    text = (folder / "api.lua").read_text(encoding="utf-8")
    modules = dict(_REQUIRED.findall(text))
    listed = _DOMAINS.search(text)
    for alias in re.findall(r"\w+", listed[1]) if listed else ():
        domain = modules[alias]
        yield from _domain(folder, domain)


def _domain(folder: Path, domain: str) -> Iterator[Function]:
    text = (folder / (domain.replace(".", "/") + ".lua")).read_text(encoding="utf-8")
    modules = dict(_REQUIRED.findall(text))
    blocks = {
        alias: _blocks((folder / (module.replace(".", "/") + ".lua")).read_text(encoding="utf-8"))
        for alias, module in modules.items()
    }
    for name, alias, function, rest in _ENTRY.findall(text):
        summary, lines = blocks.get(alias, {}).get(function, ("", []))
        prose, fields = _parsed(lines)
        yield Function(domain.partition(".")[0], name, "reads = true" in rest, summary, prose, fields)


def _blocks(text: str) -> dict[str, tuple[str, list[str]]]:
    return {
        name: (summary, [line.removeprefix("--").removeprefix(" ").rstrip() for line in rest.splitlines()])
        for summary, rest, name in _BLOCK.findall(text)
    }


def _parsed(lines: list[str]) -> tuple[list[str], list[Field]]:
    prose: list[str] = []
    fields: list[Field] = []
    for line in lines:
        if found := _FIELD.match(line):
            fields.append(Field(found[1], [found[2] or ""]))
        elif fields and line.strip():
            fields[-1].lines.append(line.strip())
        elif not fields:
            prose.append(line)
    return prose, fields


def readme() -> str:
    """Return the text of redis_functions/README.md."""
    parts = [HEADER]
    domain = ""
    for function in functions():
        if function.domain != domain:
            domain = function.domain
            parts.append(f"\n## {domain}\n")
        prose = "\n".join(function.text).strip()
        parts.append(f"\n### {function.name}\n\n{function.summary}\n" + (f"\n{prose}\n" if prose else ""))
        parts.append("\n```\n" + function.call() + "\n")
        for field in function.fields:
            if field.name == "Example":
                continue
            first, *more = field.lines
            parts.append(f"{field.name:<8} {first}".rstrip() + "\n")
            parts += [f"{'':<8} {line}\n" for line in more]
        parts.append("```\n")
    return "".join(parts)
