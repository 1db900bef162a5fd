"""A small disk of its own (a tmpfs), to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

MOUNT: Final = "this test mounts a tmpfs: run it as root, or with: unshare --user --map-root-user --mount"


class SmallDisk:
    """A mounted disk, and a file that fills it."""

    def __init__(self, folder: Path, size: str) -> None:
        """Mount it; `size` as mount takes it, such as 96m."""
        self.folder = folder
        folder.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr.strip()}; {MOUNT}"
        self._filler = folder / "filler"

    def fill(self, percent: float) -> None:
        """Fill it up to a share of its size; 100 leaves not a page."""
        with self._filler.open("ab") as file:
            # At once: what is given up meanwhile must not be filled too.
            usage = shutil.disk_usage(self.folder)
            wanted = int(usage.total * percent / 100) - (usage.total - usage.free)
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + max(min(wanted, usage.free), 1))

    def empty(self) -> None:
        """Take the filler away."""
        self._filler.unlink()

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.folder)], check=True)
