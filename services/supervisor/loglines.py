"""Lines of a service's log as people read them; the files keep JSON for machines."""

from __future__ import annotations

import orjson

HEAD = ("time", "level", "service", "logger", "message", "exception")


def readable(line: str) -> str:
    """Return a log line for people; what is no JSON of ours stays as it is."""
    if not line.startswith("{"):
        return line
    try:
        entry = orjson.loads(line)
        clock = str(entry["time"])[11:23]
        text = f"{clock} {str(entry['level']).upper():<8} {entry['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    fields = "".join(f" {name}={value}" for name, value in entry.items() if name not in HEAD)
    exception = f"\n{entry['exception']}" if entry.get("exception") else ""
    return text + fields + exception


def reason_of(line: str) -> str:
    """Return why a service ended, where a line of its log says that; empty for any other line.

    That is what it logs as critical, or what the command line says where there is no log yet.
    """
    if not line.startswith("{"):
        return line.removeprefix("voltage: ")
    try:
        entry = orjson.loads(line)
        return str(entry["message"]) if entry["level"] == "critical" else ""
    except (ValueError, KeyError, TypeError):
        return ""
