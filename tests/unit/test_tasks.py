"""Tasks that lose a cancellation end all the same."""

from __future__ import annotations

import asyncio

from libs.tasks import cancel, heed


async def test_a_cancellation_that_comes_with_the_result_is_asked_for_again():
    """Python 3.11 loses the first; what came of the task is returned."""
    waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def wait() -> None:
        while True:
            future = asyncio.get_running_loop().create_future()
            waiting.put_nowait(future)
            await asyncio.wait_for(future, 60)

    task = asyncio.create_task(wait())
    (await waiting.get()).set_result(None)
    (found,) = await asyncio.wait_for(cancel(task, again_s=0.05), 5)
    assert isinstance(found, asyncio.CancelledError)


async def test_results_and_failures_are_returned_in_order():
    async def fail() -> None:
        raise ValueError("x")

    done, failed = asyncio.create_task(asyncio.sleep(0, 7)), asyncio.create_task(fail())
    await asyncio.sleep(0.01)
    first, second = await cancel(done, failed)
    assert first == 7
    assert isinstance(second, ValueError)


async def test_in_a_task_group_a_loop_heeds_what_a_library_lost():
    """A group asks its tasks once: without `heed` this one would go on for ever."""
    waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def turn() -> None:
        while True:
            heed()
            future = asyncio.get_running_loop().create_future()
            waiting.put_nowait(future)
            await asyncio.wait_for(future, 60)

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(turn())

    task = asyncio.create_task(group())
    (await waiting.get()).set_result(None)
    (found,) = await asyncio.wait_for(cancel(task, again_s=0.05), 5)
    assert isinstance(found, asyncio.CancelledError)
