"""The bundler: what it follows, what it refuses, and how a line finds home."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.errors import ConfigurationError, InternalError
from libs.redis import bundle
from libs.redis.client import Client, execute

LEAF = "local M = {}\nfunction M.answer() return 42 end\nreturn M\n"
API = """local leaf = require("lib.leaf")
redis.register_function("answer", function() return leaf.answer() end)
redis.register_function("fail", function()
  return leaf.nothing.at.all
end)
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".lua")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def problems(folder: Path) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        bundle.bundle(folder)
    return [(problem.where, problem.message) for problem in caught.value.problems]


def test_modules_come_before_who_needs_them_and_once(tmp_path: Path) -> None:
    both = 'local a = require("lib.leaf")\nlocal b = require("lib.other")\n'
    write(tmp_path, api=both, lib__other='local a = require("lib.leaf")\nreturn {}\n', lib__leaf=LEAF)
    assert [module.name for module in bundle.bundle(tmp_path).modules] == ["lib.leaf", "lib.other", "api"]


def test_a_missing_file_names_the_line_that_wants_it(tmp_path: Path) -> None:
    write(tmp_path, api='-- first\nlocal x = require("lib.gone")\n')
    assert problems(tmp_path) == [("api.lua:2", "no module 'lib.gone' (lib/gone.lua)")]


def test_a_circle_is_refused_with_its_way(tmp_path: Path) -> None:
    write(tmp_path, api='local a = require("a")\n', a='local b = require("b")\n', b='\nlocal a = require("a")\n')
    assert problems(tmp_path) == [("b.lua:2", "require goes in a circle: api -> a -> b -> a")]


@pytest.mark.parametrize("line", ["x = require('lib.leaf')", 'local x = require("lib" .. y)', "  require (name)"])
def test_only_the_plain_form_of_require_is_followed(tmp_path: Path, line: str) -> None:
    write(tmp_path, api=f'local x = require("lib.leaf") -- require("in a comment")\n{line}\n', lib__leaf=LEAF)
    assert problems(tmp_path) == [("api.lua:2", 'write it as: local x = require("folder.module")')]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, api='local a = require("a")\nlocal b = require("b")\n')
    assert [where for where, _ in problems(tmp_path)] == ["api.lua:1", "api.lua:2"]


def test_the_digest_is_of_the_sources(tmp_path: Path) -> None:
    write(tmp_path, api=API, lib__leaf=LEAF)
    first = bundle.bundle(tmp_path).digest
    assert bundle.bundle(tmp_path).digest == first
    write(tmp_path, lib__leaf=LEAF + "-- changed\n")
    assert bundle.bundle(tmp_path).digest != first


async def test_a_runtime_error_is_explained_with_file_and_line(tmp_path: Path, redis: Client) -> None:
    built = bundle.bundle(write(tmp_path, api=API, lib__leaf=LEAF))
    await execute(redis, "FUNCTION", "FLUSH")
    await execute(redis, "FUNCTION", "LOAD", built.text)
    assert await execute(redis, "FCALL", "answer", 0) == 42
    with pytest.raises(InternalError) as caught:
        await execute(redis, "FCALL", "fail", 0)
    await execute(redis, "FUNCTION", "FLUSH")
    assert "api.lua:4: attempt to index" in built.explain(str(caught.value))


def test_every_line_of_the_library_finds_its_file() -> None:
    built = bundle.bundle()
    lines = built.text.split("\n")
    for start, module in zip(built.starts, built.modules, strict=True):
        assert built.locate(start) == f"{module.path}:1"
        assert lines[start - 1] == module.text.split("\n")[0]
    assert built.locate(1) == "bundle:1"
