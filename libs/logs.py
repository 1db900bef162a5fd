"""Logs on standard error: JSON for machines, one readable line for people.

Each line carries the service's name. What goes beyond the message is given as
`extra={...}` and appears as fields of its own. Secrets are never logged.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from libs.config.settings import LogSettings

# What every record has; anything else came as `extra`.
_STANDARD: Final = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None)) | {"message": "", "asctime": "", "taskName": ""}
)
# These say on info what is only of interest when something is wrong.
_QUIET: Final = ("aiohttp.access", "asyncio", "pymodbus", "urllib3")


class _Formatter(logging.Formatter):
    """Formats a record with its instant, service and fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def instant(self, record: logging.LogRecord) -> str:
        """Return the record's instant as RFC 3339 in UTC with milliseconds."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what came as `extra`."""
        return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line = {
            "time": self.instant(record),
            "level": record.levelname.lower(),
            "service": self.service,
            "logger": record.name,
            "message": record.getMessage(),
        } | self.fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(_Formatter):
    """One line for people: time, level, service, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        fields = "".join(f" {name}={value}" for name, value in self.fields(record).items())
        clock, level = self.instant(record)[11:23], record.levelname
        text = f"{clock} {level:<7} {self.service:<8} {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def malformed_request(record: logging.LogRecord) -> bool:
    """Keep to one warning without a traceback what is the client's fault: a request that is no HTTP, or too long."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "a malformed request was refused: %s", (error.message,), None
    return True


def setup(service: str, settings: LogSettings) -> None:
    """Send this process' logs to standard error in the configured form."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(ConsoleFormatter(service) if console else JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("aiohttp.server").addFilter(malformed_request)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
