"""Ending tasks, also those that lose a cancellation."""

from __future__ import annotations

import asyncio
from typing import Any, Final

CANCEL_AGAIN_S: Final = 2.0


def heed() -> None:
    """End the task that runs where it was cancelled and a library lost that.

    A task group asks its tasks once only: in one, a loop that calls such libraries asks by itself at each turn. Not
    for the task that holds a group: in Python 3.11 it counts as cancelled once a task of the group failed.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def cancel(*tasks: asyncio.Task[Any], again_s: float = CANCEL_AGAIN_S) -> list[Any]:
    """Cancel tasks and wait until each has ended; return their results, or what they raised.

    Asked again until it works: `asyncio.wait_for` of Python 3.11, which many libraries use,
    swallows a cancellation that comes together with the result it waits for.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_s)
    return await asyncio.gather(*tasks, return_exceptions=True)
