"""Become another program whose life ends with its parent's, even on kill -9.

This file runs in the child: `python -IS launch.py PARENT COMMAND...`. The
kernel's parent-death signal survives exec, so this works for any program,
Redis included, and needs nothing between fork and exec in the parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str]) -> list[str]:
    """Return the command that becomes another one whose life ends with ours."""
    return [sys.executable, "-IS", __file__, str(os.getpid()), *command]


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that died before the line above sends no signal any more.
    if os.getppid() != parent:
        sys.exit(f"process {parent} is gone")
    os.execvp(command[0], command)  # noqa: S606 - the command is our own list


if __name__ == "__main__":
    main()
