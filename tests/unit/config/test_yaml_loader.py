"""YAML without surprises."""

from __future__ import annotations

import pytest

from libs.config import parse_yaml
from libs.errors import ConfigurationError


def problems(text: str) -> list[str]:
    """Return what parsing complains about."""
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "f")
    return [str(problem) for problem in caught.value.problems]


def test_scalars_are_those_of_yaml_1_2() -> None:
    """Quoted text is text; dates and clock times with a space or letter stay text."""
    text = "{a: 1, b: -2.5, c: 1e3, d: true, e: null, f: '010', g: 2026-01-31, h: comsrv:1001:T:1, i: 0x1f, j: .5}"
    assert parse_yaml(text, "f").data == {
        "a": 1, "b": -2.5, "c": 1000.0, "d": True, "e": None, "f": "010", "g": "2026-01-31",
        "h": "comsrv:1001:T:1", "i": 31, "j": 0.5,
    }  # fmt: skip


def test_keys_are_text() -> None:
    """A value map's `0:` and a rule's `on:` need no quotes."""
    assert parse_yaml("0: closed\non: 1\n", "f").data == {"0": "closed", "on": 1}


@pytest.mark.parametrize(
    "text", ["no", "Yes", "ON", "off", "y", "010", "0o17", "0b11", "1:30", "1_000", ".inf", "-.NaN"]
)
def test_surprises_of_yaml_1_1_are_errors(text: str) -> None:
    """Each says what to write instead, with the line."""
    assert problems(f"x:\n  a: 1\n  key: {text}\n")[0].startswith(f"f:3: x.key: {text}: ")


def test_all_problems_are_listed() -> None:
    """Duplicates, anchors, aliases, tags and second documents."""
    found = problems("a: 1\na: 2\nb: &x 1\nc: *x\nd: !!python/name:os 1\n---\ne: 1\n")
    assert [line.split(": ")[0] for line in found] == ["f:2", "f:3", "f:4", "f:5", "f:6"]
    assert found[0] == "f:2: duplicate key 'a', first on line 1"


@pytest.mark.parametrize("text", ["a: [1\nb", "\t- x", "a: 'b", "? [a]\n: b", "a: \x00"])
def test_bad_syntax_is_one_clear_error(text: str) -> None:
    """It names the line."""
    assert problems(text)[0].startswith("f:")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_hostile_nesting_is_an_error(depth: int) -> None:
    """Neither a crash nor a recursion error."""
    assert "nested deeper than 64" in problems("[" * depth)[0]


def test_lines_are_looked_up_by_path() -> None:
    """A path without a line of its own has its parent's."""
    document = parse_yaml("channels:\n  - id: 1\n    name: a\n  - id: 2\n", "f")
    assert document.where(("channels", 1, "id")) == "f:4"
    assert document.where(("channels", 0, "polling")) == "f:2"
    assert document.where(("nothing",)) == "f:1"
