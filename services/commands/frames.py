"""`voltage channels frames CHANNEL`: the frames of a channel's link, as they go over the wire."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from rich.console import Console

from services.commands.api import console, request

LOOK_S: Final = 0.5
# Hex of longer frames is cut for people; programs get all of it.
SHOWN: Final = 24


def frames(channel: str, seconds: float, limit: int, *, as_json: bool) -> None:
    """Turn the log on for a time and print frames as they come, until it is over or Ctrl-C; 0 prints what was kept."""
    path = f"/api/channels/{channel}/frames"
    view = console(soft_wrap=True, highlight=False)
    if not seconds:
        _print(view, request(path, {"limit": limit})["frames"], as_json=as_json)
        return
    # What is there already is of another time.
    seen = max((frame["number"] for frame in request(path, {"limit": 1})["frames"]), default=0)
    request(path, body={"seconds": seconds}, role="engineer", method="PUT")
    while True:
        found = request(path, {"after": seen, "limit": 10_000})
        _print(view, found["frames"], as_json=as_json)
        seen = max((frame["number"] for frame in found["frames"]), default=seen)
        if not found["on"]:
            return
        time.sleep(LOOK_S)


def _print(view: Console, found: list[dict[str, Any]], *, as_json: bool) -> None:
    for frame in found:
        if as_json:
            view.print(json.dumps(frame))
            continue
        at = time.strftime("%H:%M:%S", time.localtime(frame["at_ms"] / 1000)) + f".{frame['at_ms'] % 1000:03d}"
        octets = frame["hex"].split(" ")
        text = " ".join(octets[:SHOWN]) + (f" .. {len(octets)} bytes" if len(octets) > SHOWN else "")
        arrow = "->" if frame["direction"] == "out" else "<-"
        remark = f"  NOT TAKEN: {frame['remark']}" if frame["remark"] else ""
        view.print(f"{at} {arrow} {frame['meaning']}  [{text}]{remark}")
