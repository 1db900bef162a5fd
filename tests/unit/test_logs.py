"""Log lines for machines and for people."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from libs.logs import ConsoleFormatter, JsonFormatter


def record(message: str = "poll of %s", error: bool = False, **extra: Any) -> logging.LogRecord:
    """Return a record of a logger."""
    info = None
    if error:
        failure = ValueError("bad value")
        info = (type(failure), failure, failure.__traceback__)
    found = logging.getLogger("x").makeRecord("x", logging.WARNING, "f.py", 1, message, (1001,), info, extra=extra)
    found.created = 1_700_000_000.25
    return found


def test_a_json_line_has_time_level_service_message_and_fields() -> None:
    """What came as extra is a field of its own; the instant is UTC."""
    line = orjson.loads(JsonFormatter("comsrv").format(record(channel=1001)))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z", "level": "warning", "service": "comsrv", "logger": "x",
        "message": "poll of 1001", "channel": 1001,
    }  # fmt: skip


def test_an_exception_stays_in_its_line() -> None:
    """A traceback does not break a JSON log into several entries."""
    text = JsonFormatter("comsrv").format(record(error=True))
    assert "\n" not in text
    assert "ValueError: bad value" in orjson.loads(text)["exception"]


def test_a_console_line_is_for_people() -> None:
    """Clock, level, service, message, fields."""
    text = ConsoleFormatter("comsrv").format(record(channel=1001))
    assert text == "22:13:20.250 WARNING comsrv   poll of 1001 channel=1001"
