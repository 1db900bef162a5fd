"""Is a process alive, is it ready, and what does it wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import orjson

from libs.errors import ConfigurationError, UnavailableError
from libs.redis.server import probe

# A service gives each of its own checks 2 s.
TIMEOUT_S: Final = 3.0


class Health(NamedTuple):
    """An answer to a probe. A process that answers "not ready" is alive."""

    alive: bool
    ready: bool
    detail: str


Check = Callable[[], Awaitable[Health]]


async def http_health(port: int) -> Health:
    """Ask a service's /health on loopback."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, body = await _get(port, "/health")
    except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
        return Health(alive=False, ready=False, detail="no answer yet" if isinstance(error, OSError) else "no answer")
    return Health(alive=True, ready=status == 200, detail="ready" if status == 200 else _reason(body))


async def _get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n")
        reply = await reader.read(65536)
        return int(head.split()[1]), reply.partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


def _reason(body: bytes) -> str:
    """Say what a service that is not ready waits for: each check that fails."""
    try:
        failed = orjson.loads(body)["failed"]
        return "; ".join(f"{name}: {error}" for name, error in failed.items()) or "not ready"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "not ready"


async def redis_health(url: str) -> Health:
    """Ask Redis whether it serves us."""
    try:
        return Health(alive=True, ready=True, detail=await asyncio.to_thread(probe, url))
    except UnavailableError as error:
        return Health(alive="loading" in str(error), ready=False, detail=str(error))
    except ConfigurationError as error:
        # A Redis that is busy with a script answers with an error, and is alive.
        return Health(alive=True, ready=False, detail=str(error))


def all_of(ports: Mapping[str, int]) -> Check:
    """Return the check of a process that serves several ports."""

    async def check() -> Health:
        answers = dict(zip(ports, await asyncio.gather(*map(http_health, ports.values())), strict=True))
        waiting = [f"{name}: {answer.detail}" for name, answer in answers.items() if not answer.ready]
        return Health(
            alive=all(answer.alive for answer in answers.values()),
            ready=not waiting,
            detail="; ".join(waiting) if len(ports) > 1 else next(iter(answers.values())).detail,
        )

    return check
