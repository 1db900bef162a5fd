"""Connections to Redis, and the one place where its errors become ours.

redis-py re-sends a call that timed out; for a write that would do it twice, so
a client from here never retries. Reads retry in `libs.redis.functions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.errors import CODES, InternalError, InvalidError, UnavailableError, VoltageError

Client = redis.asyncio.Redis

TIMEOUT_S: Final = 5.0
CONNECTIONS: Final = 32


def connect(url: str, *, blocking: bool = False, connections: int = CONNECTIONS) -> Client:
    """Return a client: bytes out, RESP3, no retry, a pool that waits instead of failing.

    Args:
        url: `redis://user:password@host:port`, or `unix:///path`.
        blocking: for calls that wait on the server (XREAD BLOCK, subscriptions); no read time-out.
        connections: size of the pool.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=TIMEOUT_S,
        socket_timeout=None if blocking else TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        protocol=3,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
    )
    return redis.asyncio.Redis.from_pool(pool)


def translate(error: Exception) -> VoltageError:
    """Return our error for one of redis-py's; the code is the first word of a function's error."""
    text = str(error).replace("\r", " ").replace("\n", " ").strip()
    if isinstance(error, redis.exceptions.ResponseError) and not isinstance(
        error, redis.exceptions.ReadOnlyError | redis.exceptions.OutOfMemoryError
    ):
        word, _, rest = text.partition(" ")
        if word in CODES:
            return CODES[word](rest)
        if "Invalid stream ID" in text:
            return InvalidError("the cursor is not one of this list")
        if word == "MISCONF":
            return UnavailableError("Redis can't write to its disk and takes nothing; make room: voltage doctor")
        if "Function not found" in text:
            return UnavailableError("the function library is not loaded; run: voltage functions load")
        return InternalError(f"Redis refused the call: {text}")
    return UnavailableError(f"Redis is away: {text or type(error).__name__}")


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors inside the block into ours, and let no cancellation get lost.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 swallows a
    cancellation that arrives when the send is just done; a loop would go on for ever.
    """
    before = _cancellations()
    try:
        yield
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        if _cancellations() > before:
            raise asyncio.CancelledError from error
        raise translate(error) from error
    if _cancellations() > before:
        raise asyncio.CancelledError


async def execute(client: Client, *words: str | bytes | int) -> Any:
    """Send one command and return its reply, with our errors."""
    with translated():
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
