"""A proxy before Redis that can lose replies: the call has its effect, the caller never learns."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


class LossyProxy:
    """Forwards a Unix socket. `lose` connections' next replies are swallowed and the connection is cut."""

    def __init__(self, target: Path, path: Path) -> None:
        self.lose = 0
        self.lost = 0
        self.url = f"unix://{path}"
        self._target = target
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._target)

        async def forward() -> None:
            while data := await reader.read(65536):
                # A call that changes something, not the greeting of a new connection.
                self._marked = b"FCALL\r\n" in data
                upstream_writer.write(data)

        async def back() -> None:
            while data := await upstream_reader.read(65536):
                if self.lose and self._marked:
                    self.lose -= 1
                    self.lost += 1
                    return
                writer.write(data)

        self._marked = False
        both = {asyncio.create_task(forward()), asyncio.create_task(back())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for each in (writer, upstream_writer):
                each.close()
                with contextlib.suppress(ConnectionError, BrokenPipeError):
                    await each.wait_closed()
            self._tasks.discard(task)
