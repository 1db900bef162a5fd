"""The file: tar and zstd, a manifest first, then each member with the checksum the manifest names.

`tar --zstd -xf FILE` reads it too. It holds the keys of the site, so that only
its owner may read it, from its first byte on.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from libs.errors import InvalidError, StateError, UnavailableError
from libs.validation import Model

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CHECKSUM: Final = "manifest.json.sha256"
CHUNK: Final = 1 << 20
MAX_MANIFEST: Final = 64 << 20

Advance = Callable[[int], None]


class Member(Model):
    """A file in the archive."""

    name: str
    bytes: int
    sha256: str


class Manifest(Model):
    """What an archive holds, and of which site."""

    format: int
    voltage: str
    """Version of the program."""
    api: int
    digest: str
    """Of the function library."""
    schema_number: int
    server: str
    namespace: str
    at_ms: int
    """The instant of the keys: what is restored is the site as it was then."""
    image: int
    """Number of the last accepted call at that instant."""
    image_after: int
    """The same when the last file was copied."""
    copied_at_ms: int
    keys: int
    members: list[Member]


class Source(NamedTuple):
    """A file to put in, and its name there."""

    name: str
    path: Path


class DamagedError(Exception):
    """The compressed stream can't be read on."""


def refuse_existing(path: Path) -> None:
    """Refuse a name that is taken, before any work.

    Raises:
        StateError: it is.
    """
    if path.exists():
        raise StateError(f"{path} exists; a backup replaces no file")


def members_of(sources: list[Source], advance: Advance) -> list[Member]:
    """Return the sizes and checksums of files."""
    found = []
    for source in sources:
        digest, size = hashlib.sha256(), 0
        with source.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                advance(len(chunk))
        found.append(Member(name=source.name, bytes=size, sha256=digest.hexdigest()))
    return found


def write(path: Path, manifest: Manifest, sources: list[Source], advance: Advance) -> int:
    """Write an archive beside its name, then give it the name; return its size.

    Raises:
        StateError: there is a file of that name, or one was changed while it was copied.
        UnavailableError: it can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            pa.CompressedOutputStream(pa.PythonFile(file, "w"), "zstd") as stream,
        ):
            _write_members(stream, manifest, sources, advance)
        # Arrow closes the file with its stream; the bytes are the kernel's now.
        _sync(partial)
        size = partial.stat().st_size
        # A hard link fails where the name exists; a rename would replace an older backup.
        path.hardlink_to(partial)
        _sync(path.parent)
    except FileExistsError:
        raise StateError(f"{path} exists; a backup replaces no file") from None
    except OSError as error:
        raise UnavailableError(f"{path} can't be written: {error.strerror or error}") from None
    else:
        return size
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_members(stream: Any, manifest: Manifest, sources: list[Source], advance: Advance) -> None:
    text = manifest.model_dump_json(indent=1).encode()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, MANIFEST, io.BytesIO(text), len(text), manifest.at_ms)
        line = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()
        _add(tar, CHECKSUM, io.BytesIO(line), len(line), manifest.at_ms)
        for member, source in zip(manifest.members, sources, strict=True):
            with source.path.open("rb") as file:
                _add(tar, member.name, file, member.bytes, manifest.at_ms)
            advance(member.bytes)


def _add(tar: tarfile.TarFile, name: str, file: Any, size: int, at_ms: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, at_ms // 1000
    tar.addfile(info, file)


class _Stream:
    """Decompresses; an error in the bytes is `DamagedError`, so that one of the disk we write to is not."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), "zstd")

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(str(error)) from None

    def close(self) -> None:
        self._file.close()


@contextmanager
def _opened(path: Path) -> Iterator[_Stream]:
    try:
        stream = _Stream(path)
    except OSError as error:
        raise UnavailableError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        yield stream
    finally:
        stream.close()


def extract(path: Path, folder: Path, begin: Callable[[Manifest], Advance]) -> Manifest:
    """Unpack an archive into an empty folder, checking each member; return its manifest.

    Args:
        path: the archive.
        folder: where its members go, under their names.
        begin: is told the manifest before anything is written, may refuse it, and returns what counts the bytes.

    Raises:
        InvalidError: a member is damaged; the message names it.
    """
    where = [MANIFEST]
    with _opened(path) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
                manifest = _manifest(tar)
                advance = begin(manifest)
                for member in manifest.members:
                    where[0] = member.name
                    _extract(tar, member, folder / member.name, advance)
                where[0] = "its end"
                if tar.next() is not None:
                    raise DamagedError("more than the manifest says")  # noqa: TRY301 - one place tells the user
        except (DamagedError, tarfile.TarError, EOFError) as error:
            raise InvalidError(
                f"{path}: {where[0]} is damaged ({error or type(error).__name__}); nothing was restored"
            ) from None
    return manifest


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    info = tar.next()
    if info is None or info.name != name or not info.isreg() or info.size > MAX_MANIFEST:
        raise DamagedError("it is not there")
    file = tar.extractfile(info)
    return file.read() if file else b""


def _manifest(tar: tarfile.TarFile) -> Manifest:
    text = _content(tar, MANIFEST)
    if _content(tar, CHECKSUM).split()[:1] != [hashlib.sha256(text).hexdigest().encode()]:
        raise DamagedError("its checksum differs")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise DamagedError(f"{error.error_count()} fields are not as this version knows them") from None
    if manifest.format != FORMAT:
        raise DamagedError(f"format {manifest.format}, this version knows {FORMAT}")
    return manifest


def _extract(tar: tarfile.TarFile, member: Member, target: Path, advance: Advance) -> None:
    info = tar.next()
    parts = PurePosixPath(member.name)
    if parts.is_absolute() or ".." in parts.parts:
        raise DamagedError("its name leads outside")
    if info is None or info.name != member.name or not info.isreg() or info.size != member.bytes:
        raise DamagedError("it is not where the manifest says")
    file = tar.extractfile(info)
    digest = hashlib.sha256()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while chunk := file.read(CHUNK) if file else b"":
            digest.update(chunk)
            out.write(chunk)
            advance(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != member.sha256:
        raise DamagedError("its checksum differs")
