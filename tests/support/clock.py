"""A wall clock that a test may step while a site runs. Monotonic clocks stay, as on a machine whose clock is set."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent / "stepped_clock.c"


class SteppedClock:
    """The clock of every program started with `environ`: Redis' and the services' alike."""

    def __init__(self, folder: Path) -> None:
        """Build the library that the programs load."""
        compiler = shutil.which("cc")
        assert compiler, "no C compiler: apt-get install gcc libc6-dev"
        library = folder / "stepped_clock.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self._file = folder / "clock_offset"
        self._offset_s = 0
        self._file.write_bytes(struct.pack("q", 0))
        self.environ = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Set the clock ahead, or back."""
        self._offset_s += seconds
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", self._offset_s))

    def now_ms(self) -> int:
        """Return what the programs' clock says."""
        return time.time_ns() // 1_000_000 + self._offset_s * 1000
