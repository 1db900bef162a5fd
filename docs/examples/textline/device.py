"""A device that speaks textline, to try the protocol on: python device.py PORT."""

from __future__ import annotations

import asyncio
import sys


class Device:
    """Names and their values; what is not there is ERR 2."""

    def __init__(self, **values: str) -> None:
        """Start with values."""
        self.values = values
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def stop(self) -> None:
        """Hang up and stop listening."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(f"{self.answer(line.decode().split())}\r\n".encode())
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def answer(self, words: list[str]) -> str:
        """Return the answer to a line."""
        match words:
            case ["RD", *names] if names and set(names) <= set(self.values):
                return " ".join(["OK", *(self.values[name] for name in names)])
            case ["WR", name, value] if name in self.values:
                self.values[name] = value
                return "OK"
            case _:
                return "ERR 2"


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    device = Device(power="23.5", breaker="1", start="0", setpoint="0")
    await device.start(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
