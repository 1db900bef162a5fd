"""Versions of the configuration: kept once a change, brought back as a whole, also after a crash in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.config.differences import differences
from libs.config.versions import FOLDER, Versions
from libs.errors import NotFoundError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "rules").mkdir(parents=True)
    (folder / "comsrv.yaml").write_text("channels: []\n")
    (folder / "rules" / "a.yaml").write_text("rules: []\n")
    return folder


def test_a_version_is_kept_only_when_something_changed(config: Path, tmp_path: Path):
    versions = Versions(config, tmp_path / "data")
    assert versions.save("ann", "first").number == 1
    assert versions.save("bob", "again").author == "ann"
    (config / "comsrv.yaml").write_text("renew_ms: 500\n")
    assert versions.save("bob", "faster").number == 2
    assert [(one.number, one.author, one.reason) for one in versions.all()] == [
        (1, "ann", "first"),
        (2, "bob", "faster"),
    ]


def test_going_back_brings_every_file_back_and_takes_later_ones_away(config: Path, tmp_path: Path):
    versions = Versions(config, tmp_path / "data")
    versions.save("ann", "first")
    (config / "comsrv.yaml").write_text("renew_ms: 500\n")
    (config / "rules" / "b.yaml").write_text("rules: []\n")
    (config / "rules" / "a.yaml").unlink()
    versions.restore(1)
    assert sorted(str(path.relative_to(config)) for path in config.rglob("*.yaml")) == ["comsrv.yaml", "rules/a.yaml"]
    assert (config / "comsrv.yaml").read_text() == "channels: []\n"
    with pytest.raises(NotFoundError, match="version 7 of the configuration; there are 1"):
        versions.restore(7)


def test_a_crash_while_going_back_is_made_good_at_the_next_start(config: Path, tmp_path: Path):
    """Whatever was written before it: the files of the version are there in the end, and no other."""
    versions = Versions(config, tmp_path / "data")
    versions.save("ann", "first")
    (config / "comsrv.yaml").write_text("renew_ms: 500\n")
    (config / "rules" / "a.yaml").write_text("rules: [half]\n")
    (tmp_path / "data" / FOLDER / "pending").write_text("1")
    assert Versions(config, tmp_path / "data").finish()
    assert (config / "comsrv.yaml").read_text() == "channels: []\n"
    assert (config / "rules" / "a.yaml").read_text() == "rules: []\n"
    assert not versions.finish()


def test_differences_name_points_by_their_id():
    old = {"name": "a", "points": {"T": [{"id": 1, "scale": 1}, {"id": 2}]}, "list": [1, 2]}
    new = {"name": "a", "points": {"T": [{"id": 1, "scale": 2}, {"id": 3}]}, "list": [1]}
    assert [tuple(one) for one in differences(old, new)] == [
        ("points.T.1.scale", 1, 2),
        ("points.T.2", {"id": 2}, None),
        ("points.T.3", None, {"id": 3}),
        ("list", [1, 2], [1]),
    ]
