"""Definitions that commands take from files, and members that are set in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.errors import ConfigurationError, InvalidError, NotFoundError
from services.commands.changes import changed, in_file

RULE = "{id: hot, name: Hot, conditions: [{source: 'comsrv:1001:T:1', operator: '>', value: 80}]}"


@pytest.mark.parametrize("text", [RULE, f"rule: {RULE}", f"rules:\n  - {{id: other}}\n  - {RULE}"])
def test_a_file_holds_one_definition_or_a_list_of_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    assert in_file("hot", str(path), "rules")["name"] == "Hot"
    with pytest.raises(NotFoundError, match=r"has no rule cold"):
        in_file("cold", str(path), "rules")


@pytest.mark.parametrize("text", ["rules:", "- 5", "rules: [5]"])
def test_a_file_without_the_definition_is_said_to_have_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(NotFoundError, match=r"has no rule hot"):
        in_file("hot", str(path), "rules")


def test_a_file_that_is_not_there_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml: can't be read"):
        in_file("hot", str(tmp_path / "absent.yaml"), "rules")
    (tmp_path / "torn.yaml").write_text("rules: [", "utf-8")
    with pytest.raises(ConfigurationError, match=r"torn\.yaml:"):
        in_file("hot", str(tmp_path / "torn.yaml"), "rules")


def test_members_are_set_by_their_path() -> None:
    rule = {"conditions": [{"value": 80}], "enabled": True}
    assert changed(rule, ("conditions[0].value=85", "enabled=false")) == {
        "conditions": [{"value": 85}], "enabled": False,
    }  # fmt: skip
    for wrong in ("conditions[1].value=1", "nowhere.value=1", "value"):
        with pytest.raises(InvalidError, match=r"--set"):
            changed(rule, (wrong,))
