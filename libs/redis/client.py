"""Connections to Redis, and the one place where its errors become ours.

redis-py re-sends a call that timed out; for a write that would do it twice, so
a client from here never retries. Reads retry in `libs.redis.functions`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.errors import CODES, InternalError, InvalidError, UnavailableError, VoltageError
from libs.redis.refusals import joined, problems_in

Client = redis.asyncio.Redis

TIMEOUT_S: Final = 5.0
_RUN_ID: Final = re.compile(rb"run_id:(\w+)")
CONNECTIONS: Final = 32
NOT_LOADED: Final = "the function library is not loaded"


class _Pool(redis.asyncio.BlockingConnectionPool):
    """A pool that notices when the server behind it was started anew.

    redis-py makes a connection that broke anew without a word. Whoever must know what a
    crash of the server took would not learn of a quick one: so the first connection to
    a new server process fails once, and `run_id` says which process it is.
    """

    run_id = ""

    async def greet(self, connection: Any) -> None:
        """Begin a connection as redis-py does, and look whom it is to."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        found = _RUN_ID.search(await connection.read_response())
        known, self.run_id = self.run_id, found[1].decode() if found else ""
        if known not in {"", self.run_id}:
            raise redis.exceptions.ConnectionError("it was started anew")


def run_id(client: Client) -> str:
    """Return which process of a server a client was connected to last, where it notices restarts."""
    return str(getattr(client.connection_pool, "run_id", ""))


def connect(url: str, *, blocking: bool = False, connections: int = CONNECTIONS, restarts: bool = False) -> Client:
    """Return a client: bytes out, RESP3, no retry, a pool that waits instead of failing.

    Args:
        url: `redis://user:password@host:port`, or `unix:///path`.
        blocking: for calls that wait on the server (XREAD BLOCK, subscriptions); no read time-out.
        connections: size of the pool.
        restarts: notice when the server was started anew; the call that meets it is UnavailableError.
    """
    pool = _Pool.from_url(
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
    if restarts:
        pool.connection_kwargs["redis_connect_func"] = pool.greet
    return redis.asyncio.Redis.from_pool(pool)


def translate(error: Exception) -> VoltageError:
    """Return our error for one of redis-py's; the code is the first word of a function's error."""
    text = str(error).replace("\r", " ").replace("\n", " ").strip()
    if isinstance(error, redis.exceptions.ResponseError) and not isinstance(
        error, redis.exceptions.ReadOnlyError | redis.exceptions.OutOfMemoryError
    ):
        word, _, rest = text.partition(" ")
        if word in CODES:
            problems = problems_in(str(error).partition(" ")[2])
            return InvalidError(joined(rest), problems) if problems else CODES[word](rest)
        if "Invalid stream ID" in text:
            return InvalidError("the cursor is not one of this list")
        if word == "MISCONF":
            return UnavailableError("Redis can't write to its disk and takes nothing; make room: voltage doctor")
        if "Function not found" in text:
            return UnavailableError(f"{NOT_LOADED}; run: voltage functions load")
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
