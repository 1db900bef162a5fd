"""A replay as a process: the request on standard input, lines of progress and one of the result on standard output."""

from __future__ import annotations

import sys
from typing import Any

import orjson

from libs.errors import InternalError, VoltageError
from services.hissrv.replay.work import Request, perform


def _say(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Perform what is asked for."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    try:
        _say({"result": perform(request, lambda done, message: _say({"done": done, "message": message}))})
    except VoltageError as error:
        _say({"error": str(error), "code": error.code})
    except (OSError, MemoryError) as error:
        _say({"error": str(error), "code": InternalError.code})


if __name__ == "__main__":
    main()
