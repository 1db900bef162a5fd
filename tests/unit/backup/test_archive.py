"""The archive: what goes in comes out, and damage is named before anything counts."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from libs.errors import InvalidError, StateError
from services.backup import archive, staging
from services.backup.archive import Manifest, Source

SIZE = 3_000_000


def nothing(_: int) -> None:
    """Show no progress."""


def begin(_: Manifest) -> archive.Advance:
    return nothing


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Give an archive of two members that do not compress."""
    sources = []
    for name in ("data/first.bin", "data/second.bin"):
        path = tmp_path / Path(name).name
        path.write_bytes(os.urandom(SIZE))
        sources.append(Source(name, path))
    return write(tmp_path, sources)


def write(folder: Path, sources: list[Source]) -> Path:
    file = folder / "site.voltage"
    manifest = Manifest(
        format=archive.FORMAT, voltage="1", api=1, digest="d", schema_number=1, server="redis 7.0.15", namespace="",
        at_ms=1_000, image=1, image_after=2, copied_at_ms=2_000, keys=0,
        members=archive.members_of(sources, nothing),
    )  # fmt: skip
    archive.write(file, manifest, sources, nothing)
    return file


def test_what_goes_in_comes_out(written: Path, tmp_path: Path):
    out = tmp_path / "out"
    manifest = archive.extract(written, out, begin)
    assert [one.name for one in manifest.members] == ["data/first.bin", "data/second.bin"]
    for name in ("first.bin", "second.bin"):
        assert (out / "data" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_only_its_owner_reads_it_and_it_replaces_no_file(written: Path, tmp_path: Path):
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    with pytest.raises(StateError, match="replaces no file"):
        write(tmp_path, [])
    assert not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize(("share", "name"), [(0.25, "data/first.bin"), (0.75, "data/second.bin")])
def test_a_flipped_byte_is_refused_and_its_member_named(written: Path, tmp_path: Path, share: float, name: str):
    damaged = bytearray(written.read_bytes())
    damaged[int(share * len(damaged))] ^= 1
    written.write_bytes(damaged)
    with pytest.raises(InvalidError, match=f"{name} is damaged"):
        archive.extract(written, tmp_path / "out", begin)


@pytest.mark.parametrize(("share", "name"), [(0.0, "manifest.json"), (0.4, "data/first.bin"), (0.9, "data/second.bin")])
def test_a_file_that_ends_early_is_refused(written: Path, tmp_path: Path, share: float, name: str):
    written.write_bytes(written.read_bytes()[: int(share * written.stat().st_size)])
    with pytest.raises(InvalidError, match=f"{name} is damaged"):
        archive.extract(written, tmp_path / "out", begin)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path):
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(__file__, arcname="test.py")
    with pytest.raises(InvalidError, match="is damaged"):
        archive.extract(other, tmp_path / "out", begin)


def test_a_member_whose_name_leads_outside_is_refused(tmp_path: Path):
    (tmp_path / "evil").write_text("x")
    file = write(tmp_path, [Source("../evil", tmp_path / "evil")])
    with pytest.raises(InvalidError, match="leads outside"):
        archive.extract(file, tmp_path / "out" / "deep", begin)
    assert not (tmp_path / "out" / "evil").exists()


def test_a_staged_folder_takes_the_place_of_an_empty_one_only(tmp_path: Path):
    target = tmp_path / "data"
    with staging.beside(target) as stage:
        (stage / "data").mkdir()
        (stage / "data" / "file").write_text("x")
        staging.apply(stage / "data", target)
    assert (target / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with pytest.raises(StateError, match="is not empty"):
        staging.refuse_full(target, "")
