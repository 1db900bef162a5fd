"""Definitions in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.config.desired import read_desired
from libs.definitions import Definition
from libs.errors import ConfigurationError


class Thing(Definition):
    """A definition."""

    name: str
    size: int = 0


def problems(folder: Path) -> list[str]:
    """Return what reading complains about."""
    with pytest.raises(ConfigurationError) as caught:
        read_desired(folder, {"boxes": Thing, "things": Thing})
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_an_absent_folder_says_nothing(tmp_path: Path) -> None:
    """Every file is optional."""
    assert read_desired(tmp_path / "none", {"things": Thing}) == []


def test_entries_come_in_the_order_of_the_sections(tmp_path: Path) -> None:
    """Templates before models, whichever file they stand in; each with file and line."""
    (tmp_path / "a.yaml").write_text("things:\n  - {id: t, name: T}\n")
    (tmp_path / "b.yaml").write_text("# nothing\n")
    (tmp_path / "c.yaml").write_text("boxes:\n\n  - {id: t, name: B}\n")
    found = read_desired(tmp_path, {"boxes": Thing, "things": Thing})
    assert [(entry.section, entry.id, entry.where) for entry in found] == [
        ("boxes", "t", f"{tmp_path}/c.yaml:3"),
        ("things", "t", f"{tmp_path}/a.yaml:2"),
    ]


def test_every_problem_of_every_file_is_listed(tmp_path: Path) -> None:
    """A bad file hides no problem of another."""
    (tmp_path / "a.yaml").write_text("thing: []\nthings:\n  - {id: t, name: T}\n  - id: u\n    nam: U\n  - {name: V}\n")
    (tmp_path / "b.yaml").write_text("things:\n  - {id: t, name: T}\n  - {id: 'a:b', name: no}\n")
    (tmp_path / "c.yaml").write_text("things:\n  - {id: 'a:b', name: 'no', size: big}\nboxes: 3\n")
    (tmp_path / "d.yaml").write_text("- 1\n")
    assert problems(tmp_path) == [
        "a.yaml:1: unknown key thing; did you mean things?",
        "a.yaml:4: name: is required",
        "a.yaml:5: nam: unknown key; did you mean name?",
        "a.yaml:6: id: is required",
        "b.yaml:3: things[1].name: no: write true or false, or quote the text",
        "b.yaml:2: things has t already at a.yaml:3",
        "b.yaml:3: id: id 'a:b' must match [A-Za-z0-9_-], 1 to 64 characters",
        "c.yaml:2: id: id 'a:b' must match [A-Za-z0-9_-], 1 to 64 characters",
        "c.yaml:2: size: must be a whole number, not 'big'",
        "c.yaml:3: boxes must be a list",
        "d.yaml:1: must be a mapping with boxes or things",
    ]


def test_an_id_stands_once(tmp_path: Path) -> None:
    """Over all files."""
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("things:\n  - {id: t, name: T}\n")
    assert problems(tmp_path) == [f"b.yaml:2: things has t already at {tmp_path}/a.yaml:2".replace(f"{tmp_path}/", "")]
