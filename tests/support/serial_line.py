"""A serial line made of two pseudo-terminals, and a thread between them that carries bytes at a speed.

As a process of its own, until its standard input ends: python -m tests.support.serial_line FOLDER CHARACTER_S
"""

from __future__ import annotations

import os
import pty
import select
import sys
import threading
import time
import tty
from collections import deque
from pathlib import Path
from typing import Final

# Bytes that are handed over together, as a UART's FIFO does.
FIFO: Final = 16


class _Way:
    """One direction: bytes in, each of them due one character after the one before, bytes out."""

    def __init__(self, source: int, target: int, character_s: float) -> None:
        self.source = source
        self.carried = 0
        self._target = target
        self._character_s = character_s
        self._bytes: deque[tuple[float, int]] = deque()
        self._last = 0.0

    def take(self) -> None:
        """Take in what was written at this end."""
        now = time.monotonic()
        for octet in os.read(self.source, 4096):
            self._last = max(self._last, now) + self._character_s
            self._bytes.append((self._last, octet))

    def deliver(self) -> float | None:
        """Hand over what is due; return when the next full FIFO, or the last byte, is."""
        now = time.monotonic()
        due = bytearray()
        while self._bytes and self._bytes[0][0] <= now:
            due.append(self._bytes.popleft()[1])
        if due:
            self.carried += len(due)
            os.write(self._target, due)
        return self._bytes[min(FIFO, len(self._bytes)) - 1][0] if self._bytes else None


class SerialLine:
    """Two ends, `left` and `right`, each a path that a serial library opens. `folder` holds stable names.

    `character_s` is how long a byte takes, half duplex is up to the two ends; 0 carries bytes at once.
    """

    def __init__(self, folder: Path, character_s: float = 0.0) -> None:
        self.left = str(folder / "left")
        self.right = str(folder / "right")
        self._character_s = character_s
        self._descriptors: list[int] = []
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Make the pseudo-terminals and carry bytes."""
        ends = [pty.openpty() for _ in range(2)]
        for path, (_, slave) in zip((self.left, self.right), ends, strict=True):
            tty.setraw(slave)
            if os.path.lexists(path):
                os.unlink(path)  # noqa: PTH108 - beside lexists
            Path(path).symlink_to(os.ttyname(slave))
        masters = [master for master, _ in ends]
        # The slaves stay open, so that an end may be closed and opened again.
        self._descriptors = [descriptor for end in ends for descriptor in end]
        self._wake, self._stop = os.pipe()
        self._descriptors += [self._wake]
        left = _Way(masters[0], masters[1], self._character_s)
        right = _Way(masters[1], masters[0], self._character_s)
        self._thread = threading.Thread(target=self._carry, args=(left, right), name="serial line", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the line away: both ends get an error."""
        if self._thread is None:
            return
        os.close(self._stop)
        self._thread.join()
        self._thread = None
        for descriptor in self._descriptors:
            os.close(descriptor)
        for path in (self.left, self.right):
            Path(path).unlink(missing_ok=True)

    def _carry(self, *ways: _Way) -> None:
        sources = {way.source: way for way in ways}
        poll = select.poll()
        for source in (*sources, self._wake):
            poll.register(source, select.POLLIN)
        due: float | None = None
        while True:
            wait_s = None if due is None else max(due - time.monotonic(), 0)
            if wait_s is not None and wait_s < 0.001:
                time.sleep(wait_s)
                wait_s = 0
            for descriptor, _ in poll.poll(None if wait_s is None else int(wait_s * 1000)):
                if descriptor == self._wake:
                    return
                sources[descriptor].take()
            due = min((at for at in (way.deliver() for way in ways) if at is not None), default=None)


if __name__ == "__main__":
    found = SerialLine(Path(sys.argv[1]), float(sys.argv[2]))
    found.open()
    print("ready", flush=True)  # noqa: T201 - for who started it
    sys.stdin.read()
    found.close()
