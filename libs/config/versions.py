"""Versions of a site's configuration files, kept beside its data, and brought back as a whole.

A version is a folder with a copy of every YAML and CSV file. Bringing one back is noted
before the first file is touched, so that a crash in the middle is made good at the next
start: there is the old configuration or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.clock import now_ms
from libs.errors import NotFoundError, UnavailableError

FOLDER: Final = "config-versions"
KEPT: Final = 50
_PATTERNS: Final = ("*.yaml", "*.csv")
_ABOUT: Final = "version.json"
_PENDING: Final = "pending"


class Version(NamedTuple):
    """A kept version."""

    number: int
    at_ms: int
    author: str
    reason: str
    digest: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return self._asdict()


class Versions:
    """The versions of one configuration folder."""

    def __init__(self, config_dir: Path, data_dir: Path) -> None:
        """Keep where things are; nothing is read or written yet."""
        self._config = config_dir
        self._folder = data_dir / FOLDER

    def all(self) -> list[Version]:
        """Return the kept versions, oldest first."""
        found = []
        for path in self._folder.glob(f"*/{_ABOUT}"):
            about = json.loads(path.read_text("utf-8"))
            found.append(Version(**about))
        return sorted(found)

    def save(self, author: str, reason: str) -> Version:
        """Keep the files as they are now, unless they are as in the last version; return that version."""
        versions = self.all()
        digest = _digest(self._config)
        if versions and versions[-1].digest == digest:
            return versions[-1]
        version = Version(versions[-1].number + 1 if versions else 1, now_ms(), author, reason, digest)
        place = self._place(version.number)
        staging = place.with_suffix(".new")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True, mode=0o700)
        for name in _files(self._config):
            (staging / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._config / name, staging / "files" / name)
        (staging / "files").mkdir(exist_ok=True)
        _write(staging / _ABOUT, json.dumps(version.document()))
        staging.replace(place)
        for old in versions[: max(0, len(versions) + 1 - KEPT)]:
            shutil.rmtree(self._place(old.number), ignore_errors=True)
        return version

    def restore(self, number: int) -> None:
        """Bring the files of a version back.

        Raises:
            NotFoundError: there is no such version.
            UnavailableError: the files can't be written.
        """
        if not (self._place(number) / _ABOUT).exists():
            kept = ", ".join(str(version.number) for version in self.all())
            raise NotFoundError(f"version {number} of the configuration; there are {kept or 'none'}")
        _write(self._folder / _PENDING, str(number))
        self.finish()

    def finish(self) -> bool:
        """Finish what a crash interrupted; return whether there was anything."""
        pending = self._folder / _PENDING
        if not pending.exists():
            return False
        source = self._place(int(pending.read_text("utf-8"))) / "files"
        wanted = set(_files(source))
        try:
            for name in wanted:
                (self._config / name).parent.mkdir(parents=True, exist_ok=True)
                _write(self._config / name, (source / name).read_bytes())
            for name in set(_files(self._config)) - wanted:
                (self._config / name).unlink()
        except OSError as error:
            raise UnavailableError(f"{self._config} can't be written: {error.strerror}") from error
        pending.unlink(missing_ok=True)
        return True

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:06d}"


def _files(folder: Path) -> Iterator[Path]:
    """Yield the paths of the files that configure, relative to a folder, in order."""
    found = {path.relative_to(folder) for pattern in _PATTERNS for path in folder.rglob(pattern) if path.is_file()}
    yield from sorted(found)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _files(folder):
        digest.update(f"{name}\0".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _write(path: Path, content: str | bytes) -> None:
    """Write a file so that a crash leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    data = content.encode() if isinstance(content, str) else content
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
