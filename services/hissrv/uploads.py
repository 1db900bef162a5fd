"""Files to import that come over HTTP: whole, within a limit, or not at all."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any, Final

from aiohttp import StreamReader, web

from libs.errors import InvalidError, UnavailableError
from libs.http.problems import TooLargeError

# What the name of such a file begins with: it is removed with its import.
UPLOADED: Final = "upload-"


class Uploads:
    """Takes files into a folder; the names are its own."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Keep the folder, and the most bytes a file may have."""
        self._folder = folder
        self._limit = limit

    async def receive(self, content: StreamReader, form: str, length: int | None) -> str:
        """Take in a file as it comes; returns its name. One that is not whole leaves nothing.

        Raises:
            TooLargeError: it is over the limit.
            InvalidError: it broke off, or is empty.
            UnavailableError: there is no room for it.
        """
        self._fits(length or 0)
        path = self._folder / f"{UPLOADED}{secrets.token_hex(8)}.{form}"
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            await self._save(content, temporary)
            await asyncio.to_thread(temporary.rename, path)
        except (ConnectionError, web.RequestPayloadError) as error:
            raise InvalidError(f"the file broke off: {error}") from None
        except OSError as error:
            raise UnavailableError(f"no room for the file: {error}") from None
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return path.name

    async def _save(self, content: StreamReader, path: Path) -> None:
        size = 0
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        with await asyncio.to_thread(path.open, "xb") as file:
            while part := await content.readany():
                size += len(part)
                self._fits(size)
                await asyncio.to_thread(file.write, part)
        if not size:
            raise InvalidError("the file is empty")

    def _fits(self, size: int) -> None:
        if size > self._limit:
            raise TooLargeError(f"the file is larger than {self._limit} bytes (HISSRV_TRANSFER_MAX_UPLOAD_BYTES)")

    async def forget(self, body: dict[str, Any]) -> None:
        """Remove the file of an import that came this way."""
        if str(name := body.get("file", "")).startswith(UPLOADED):
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
