"""Key text stands once, in libs/redis/keys.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from libs.redis import keys

ROOT = Path(__file__).parents[2]
# What starts like a key but names a point: comsrv:1001:T:1, modsrv:pv1:power. Also messages and patterns of it.
REFERENCE = re.compile(r"^(comsrv|modsrv):(\d|[%[({$<\"' ]|$)")
_FIRST = sorted({re.escape(spec.pattern.split("{")[0]) for spec in keys.KEYS + keys.CHANNELS}, key=len, reverse=True)
STRAY = re.compile(r"""["'](?P<text>(?:""" + "|".join(_FIRST) + r""")[^"']*)["']""")


def sources() -> list[Path]:
    lua = [p for p in (ROOT / "redis_functions").rglob("*.lua") if p.name != "keys.lua"]
    python = [
        p for folder in ("libs", "services") for p in (ROOT / folder).rglob("*.py")
        if p.name != "keys.py" and "node_modules" not in p.parts
    ]  # fmt: skip
    return lua + python


def code(line: str) -> str:
    return re.split(r"(?:^|\s)(?:--|#)\s", line, maxsplit=1)[0]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_spells_a_key(path: Path) -> None:
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if path.suffix == ".py" and line.count('"""') % 2:
            inside = not inside
            continue
        for match in () if inside else STRAY.finditer(code(line)):
            text = match["text"]
            named = any(re.fullmatch(re.sub(r"\\{\w+\\}", "[^:]+", re.escape(s.pattern)), text) for s in keys.KEYS)
            assert not named or REFERENCE.match(text), f"{path.relative_to(ROOT)}:{number} spells the key {text!r}"
