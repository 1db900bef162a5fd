"""Long work that the command line waits for."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from libs.errors import InvalidError
from services.commands.api import request

POLL_S: Final = 0.5
BAR: Final = 100


def follow(job: dict[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Watch a job until it ends; an interrupt cancels it."""
    try:
        with click.progressbar(length=BAR, label=f"{job['id']} {job['kind']}", hidden=quiet) as bar:
            while job["state"] not in {"done", "failed"}:
                time.sleep(POLL_S)
                job = request(f"/api/jobs/{job['id']}")
                bar.update(int(job["progress"] * BAR) - bar.pos)
    except KeyboardInterrupt:
        request(f"/api/jobs/{job['id']}/cancel", body={}, role="engineer")
        raise
    if job["state"] == "failed":
        raise InvalidError(f"{job['id']}: {job['error']}")
    result: dict[str, Any] = job["result"]
    return result
