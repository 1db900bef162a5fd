"""What `voltage up` says while it starts, runs and stops."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from libs.redis.keys import prefix
from libs.services import BY_NAME, port_of
from libs.site import Site
from services.supervisor.keeper import Keeper

REPEAT_S: Final = 5.0
VARIABLES: Final = ("VOLTAGE_PORT_BASE", "VOLTAGE_DATA_DIR", "VOLTAGE_CONFIG_DIR", "VOLTAGE_NAMESPACE")
PURPOSES: Final = {
    "redis": "the live image and the functions that decide",
    "simulator": "simulated Modbus devices",
    "services": "all services in one process",
}


class View:
    """The console: lines that stay, and one live line on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to the console given, else to standard output."""
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._said_at = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(Text.assemble((time.strftime("%H:%M:%S "), "dim"), text))
        self._said_at = time.monotonic()

    def waiting(self, what: Mapping[str, str]) -> None:
        """Show what is waited for: live on a terminal, now and then elsewhere."""
        reasons: dict[str, list[str]] = {}
        for name, detail in what.items():
            reasons.setdefault(detail, []).append(name)
        text = "; ".join(f"{', '.join(names)} ({detail})" for detail, names in reasons.items())
        if not text:
            self.calm()
        elif self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status("")
                self._status.start()
            self._status.update(f"waiting for {text}"[: self._console.width - 4])
        elif time.monotonic() - self._said_at > REPEAT_S:
            self.say(f"waiting for {text}")

    def calm(self) -> None:
        """Take the live line away."""
        if self._status:
            self._status.stop()
            self._status = None

    def link(self, link: str) -> None:
        """Print where the page is."""
        self.calm()
        self._console.print("The page, with a link that works once:", style="bold")
        self._console.print(f"  {link}", markup=False)

    def summary(self, site: Site, redis: Keeper | None, keepers: Sequence[Keeper]) -> None:
        """Print the table of what runs where, and how to look at it."""
        self.calm()
        table = Table("service", "port", "state", "pid", "what it does")
        for keeper in ([redis] if redis else []) + list(keepers):
            service = BY_NAME.get(keeper.name)
            port = port_of(keeper.name, site.settings.port_base) if service else ""
            table.add_row(
                keeper.name,
                str(site.redis_port if keeper is redis else port),
                "[green]ready[/green]" if keeper.ready.is_set() else f"[yellow]{keeper.health.detail}[/yellow]",
                str(keeper.child.pid or ""),
                service.purpose if service else PURPOSES.get(keeper.name, ""),
            )
        self._console.print(table)
        late = [keeper.name for keeper in keepers if not keeper.ready.is_set()]
        self._console.print(f"Not ready yet: {', '.join(late)}" if late else "Everything is ready.", style="bold")
        program = _program()
        self._console.print(f"An API token:  {program} token --role engineer", markup=False)
        key = shlex.quote(f"{prefix(site.settings.namespace)}comsrv:1001:T")
        self._console.print(f"The data:      {program} redis hgetall {key}", markup=False)
        self._console.print(f"Logs:          {site.logs_dir}; Ctrl-C stops everything", markup=False)


def _program() -> str:
    """Return how a person in another terminal, in this directory, calls `voltage` for this site."""
    given = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    program = Path(sys.argv[0])
    if shutil.which("voltage"):
        return " ".join([*given, "voltage"])
    return " ".join([*given, os.path.relpath(program) if program.name == "voltage" else ".venv/bin/voltage"])
