"""Who this comsrv is: a name that survives a restart, so that it may claim its channels again at once.

Each process of a data directory holds the first slot that is free; the lock ends with
the process, also on kill -9.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from pathlib import Path
from typing import Final

from libs.errors import LimitError

SLOTS: Final = 64


class Identity:
    """A slot of the data directory: the owner's name, and the file of the commands it sent."""

    def __init__(self, folder: Path) -> None:
        """Take the first free slot.

        Raises:
            LimitError: all slots are held.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(SLOTS):
            handle = os.open(folder / f"{slot}.owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            self._handle = handle
            self.owner = self._name()
            self.sent_path = folder / f"{slot}.sent"
            return
        raise LimitError(f"{SLOTS} comsrv processes use {folder}")

    def _name(self) -> str:
        text = os.read(self._handle, 200).decode("ascii", "replace").strip()
        if not text:
            text = f"{socket.gethostname()[:60]}-{secrets.token_hex(8)}"
            os.write(self._handle, f"{text}\n".encode("ascii", "replace"))
            os.fsync(self._handle)
        return text

    def close(self) -> None:
        """Give the slot back."""
        os.close(self._handle)
