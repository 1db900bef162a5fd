"""Long work that hissrv does: queued by any service, seen at /api/jobs."""

from __future__ import annotations

from typing import Any, Final

import orjson

from libs.redis.functions import Functions

QUEUE: Final = "history"
RESULT_TTL_MS: Final = 7 * 86_400_000
ATTEMPTS: Final = 5


async def submit(functions: Functions, kind: str, body: dict[str, Any]) -> bytes:
    """Queue a job; the same one that is not finished yet is returned instead."""
    options = {"kind": kind, "result_ttl_ms": RESULT_TTL_MS, "max_attempts": ATTEMPTS}
    return await functions.call("job_submit", QUEUE, options, orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
