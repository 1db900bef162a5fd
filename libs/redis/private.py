"""A Redis of one's own for a while: over a folder, on a socket that nobody else finds; it dies with us."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libs.errors import UnavailableError, VoltageError
from libs.processes.launch import tied
from libs.redis.resp import Connection
from libs.redis.server import Binary

START_S: Final = 60.0
STOP_S: Final = 60.0
PAUSE_S: Final = 0.01
# Lines of its log that an error shows.
_LAST: Final = 8


class Running:
    """One that runs; `url` is what a client needs, `name` what errors call it."""

    def __init__(self, name: str, place: Path, command: list[str]) -> None:
        """Start it."""
        self.name = name
        self.url = f"unix://{place}/redis.sock"
        self._log = place / "redis.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(tied(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            UnavailableError: it ended, or takes too long; the message shows what it said.
        """
        end = time.monotonic() + START_S
        while True:
            try:
                with Connection(self.url) as connection:
                    connection.call("PING")
                    return
            except VoltageError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise self._failed("does not start") from None
                time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Have it end; what it held is on disk then, where its options say so.

        Raises:
            UnavailableError: it does not, or not cleanly.
        """
        self._process.terminate()
        try:
            if self._process.wait(STOP_S) != 0:
                raise self._failed("does not stop cleanly")
        except subprocess.TimeoutExpired:
            raise self._failed(f"does not stop in {STOP_S:g} s") from None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _failed(self, what: str) -> UnavailableError:
        said = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST:])
        return UnavailableError(f"{self.name} {what}:\n{said}")


@contextmanager
def started(name: str, binary: Binary, folder: Path, *options: str) -> Iterator[Running]:
    """Run a server over a folder; where nobody stopped it, it is killed at the end.

    Raises:
        UnavailableError: it does not start, as when the folder holds what a newer one wrote.
    """
    # The path of a socket is at most 107 bytes, that of a data directory may be longer.
    with tempfile.TemporaryDirectory(prefix="voltage-") as place:
        running = Running(name, Path(place), [
            str(binary.path), "--port", "0", "--unixsocket", f"{place}/redis.sock", "--dir", str(folder),
            "--save", "", "--hash-max-listpack-entries", "32", "--daemonize", "no", *options,
        ])  # fmt: skip
        try:
            running.wait()
            yield running
        finally:
            running.kill()
